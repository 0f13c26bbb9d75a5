"""Memory of domains loaded at once; `python -m …perf.growth.domains BACKBONE FILE COUNT...` loads and measures them."""

import contextlib
import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.perf import network as net
from visual_decathlon.benchmark.perf.growth.child import output_of
from visual_decathlon.benchmark.perf.growth.point import Point
from visual_decathlon.benchmark.runtime.memory import give_back, resident
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.serving.metadata import AdapterMetadata
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.layers.network import stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

METHODS = ("par_adapter", "bn_adapt", "side", "finetune")
_HASH = "0" * 16  # of an untrained backbone
_DOMAIN = DOMAINS["cifar100"]


def measured(
    counts: Sequence[int],
    methods: Sequence[str] = METHODS,
    width: float = 1.0,
    rounds: int = 3,
    progress: ProgressCallback = silent,
) -> list[Point]:
    """MB that each number of domains adds to the backbone's: stored bytes, tensors, and resident memory of the process.

    Each round is a process that has used every domain once. All domains come from one file: every load makes its own
    tensors.
    """
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (method,) in enumerate(map(select, methods)):
            backbone, file, stored = write(method, Path(folder), width)
            words = ["visual_decathlon.benchmark.perf.growth.domains", str(backbone), str(file), *map(str, counts)]
            runs = []
            for j in range(rounds):
                progress(f"{method.name}, round {j + 1} of {rounds}", i * rounds + j, len(methods) * rounds)
                runs.append(json.loads(output_of(words)))
            about = {"grows": "domains", "setting": f"width {width:g}, {net.CLASSES} classes", "series": method.name}
            for j, count in enumerate(counts):
                tensors, process = zip(*(run[j] for run in runs), strict=True)
                values = {"stored": [count * stored / 1e6] * rounds, "tensors": tensors, "resident": process}
                points += [Point.of(what, "MB", v, at=count, **about) for what, v in values.items() if None not in v]
    return points


def write(method: Method, folder: Path, width: float) -> tuple[Path, Path, int]:
    """(path of a backbone, path of a domain's file on it, bytes of the tensors in that file), all untrained."""
    source = net.source(method, width)
    about = {"network": "resnet26", "structure": method.backbone_structure, "hash": _HASH}
    backbone = folder / f"{method.backbone_structure}.safetensors"
    write_safetensors(backbone, source.state_dict(), about | {"width": str(width * method.width_multiplier)})
    head = AdapterMetadata(
        method=method.full_spec,
        backbone=_HASH,
        domain=_DOMAIN.name,
        classes=net.CLASSES,
        mean=_DOMAIN.mean,
        std=_DOMAIN.std,
        crop=net.SIZE,
        shorter=net.SIZE,
        training=0,
    )
    stored = stored_tensors(method.place(source, net.CLASSES), source)
    file = folder / f"{method.name}.safetensors"
    write_safetensors(file, stored, head.metadata())
    return backbone, file, sum(t.nbytes for t in stored.values())


def memory_of_domains(backbone: Path, file: Path, counts: Sequence[int]) -> Iterator[tuple[float, float | None]]:
    """(MB of tensors, MB of resident memory) that each number of used domains adds to the backbone's."""
    shared, x = MultiDomain(backbone), torch.zeros(1, 3, net.SIZE, net.SIZE)
    with torch.no_grad():
        shared.source(x)  # allocations of the very first pass belong to no domain
    tensors, process = tensor_bytes(), resident_mb()
    for count in range(1, max(counts) + 1):
        shared.use(shared.load(file, f"domain {count}"))
        shared(x)
        if count in counts:
            more = (tensor_bytes() - tensors) / 1e6
            yield more, None if process is None else resident_mb() - process


def resident_mb() -> float | None:
    """MB of resident memory, without freed blocks that malloc keeps; None where unknown."""
    give_back()
    now = resident()
    return now and now / 1e6


def tensor_bytes() -> int:
    """Bytes of all tensors of this process; a shared storage counts once."""
    gc.collect()
    sizes: dict[int, int] = {}
    storages = [o.untyped_storage() for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
    for storage in [s for s in storages if s.device.type != "meta"]:
        with contextlib.suppress(RuntimeError):  # some tensors that torch.compile leaves have no memory
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        json.dumps(list(memory_of_domains(Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]])))
    )
