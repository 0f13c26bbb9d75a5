"""The rows of adapted networks: what each family of methods adds to a network, as it is trained and after merging."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.perf.efficiency import networks, passes
from visual_decathlon.benchmark.perf.efficiency.live_tensors import peak_activation
from visual_decathlon.benchmark.report.skipped import misfit
from visual_decathlon.benchmark.runtime.progress import ProgressCallback, silent
from visual_decathlon.benchmark.training.macs import image_macs
from visual_decathlon.methods.layers.network import Network, merge_for_inference
from visual_decathlon.methods.layers.sdpa import ReplacedSdpa
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select
from visual_decathlon.methods.shapes import Shapes

METHODS = "bitfit,bn_adapt,ssf,ia3,lora,dora,prompt,prefix,adaptformer,pfeiffer,houlsby,side,lst,par_adapter"
"""One or more of each family that the lecture compares; those that do not fit a network are left out there."""
CLASSES, BATCHES = 20, (1, 16)
BARE = "the network itself"
FORMS = ("as trained", "merged")


def measured(name: str, size: int, device: str, progress: ProgressCallback = silent) -> list[dict]:
    """A row for each method, form and batch, in fp32; all take turns. Raises InputError for an unfit name or size."""
    shapes = shapes_named(name, size=size)
    source = networks.build(name, CLASSES).for_size(size).requires_grad_(False).eval().to(device)
    adapted = {_label(BARE, FORMS[0]): source}
    one = passes.images(1, size, device, torch.float32, torch.contiguous_format)
    about = {_label(BARE, FORMS[0]): _counts(None, FORMS[0], source, shapes, one)}
    for method in (method for method in select(METHODS) if not misfit(method, name, shapes)):
        for form, network in _forms(method, source):
            label = _label(method.spec, form)
            adapted[label], about[label] = network, _counts(method, form, network, shapes, one)
    rows = []
    for batch in BATCHES:
        x = passes.images(batch, size, device, torch.float32, torch.contiguous_format)
        variants = [passes.forward(label, network, x) for label, network in adapted.items()]
        memory = {label: peak_activation(network, x) for label, network in adapted.items()}
        seconds = sum(map(passes.seconds_of, variants))
        rounds = passes.take_turns(variants, seconds, progress, f"{name}, batch {batch}")
        rows += [
            {"network": name, "size": size, "batch": batch, "activation_bytes": memory[label]}
            | about[label]
            | passes.latency_columns(rounds, batch, label, _label(BARE, FORMS[0]))
            for label in adapted
        ]
    return rows


def _label(method: str, form: str) -> str:
    return f"{method} {form}"


def _forms(method: Method, source: Network) -> Iterator[tuple[str, nn.Module]]:
    """The method's network as it is trained, and merged where it merges."""
    network = method.place(source, CLASSES).eval()
    yield FORMS[0], network
    if method.mergeable:
        yield FORMS[1], merge_for_inference(network, fuse=False)  # the network itself keeps its norms, too


def _counts(method: Method | None, form: str, network: nn.Module, shapes: Shapes, x: Tensor) -> dict:
    """What does not depend on the batch, of a method's network or of the network itself, as columns."""
    queries, keys = sequence(network, x)
    return {
        **{"method": method.spec if method else BARE, "family": method.family if method else "", "form": form},
        **{"queries": queries, "keys": keys, "macs": image_macs(network, shapes.size)},
        **{"floats": method.floats(shapes) if method else 0, "bits": method.bits(shapes) if method else 0},
        "base_floats": shapes.base,
    }


def sequence(network: nn.Module, x: Tensor) -> tuple[int | None, int | None]:
    """(queries, keys): the longest sequences of its attentions, in tokens; None where it has no attention.

    Attention that does not call torch's `scaled_dot_product_attention` is not seen.
    """
    seen: list[tuple[int, int]] = []

    def watched(query: Tensor, key: Tensor, *rest, **options) -> Tensor:
        seen.append((query.shape[-2], key.shape[-2]))
        return F.scaled_dot_product_attention(query, key, *rest, **options)

    with torch.no_grad(), ReplacedSdpa(watched):
        network(x)
    return (max(q for q, _ in seen), max(k for _, k in seen)) if seen else (None, None)
