"""Which networks of the libraries run: their structure, the methods that fit, and a training step of a few methods."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from torch import nn

from visual_decathlon.benchmark.backbones.library import check_listed, library_network, library_shapes
from visual_decathlon.benchmark.config.backbone_names import canonical
from visual_decathlon.benchmark.perf.efficiency.columns import Column, python_types, table
from visual_decathlon.benchmark.perf.store import environment_columns, load_previous
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.store import parquet
from visual_decathlon.benchmark.records.writable import check_writable
from visual_decathlon.benchmark.report.markdown import escaped, table_lines
from visual_decathlon.benchmark.report.skipped import misfit
from visual_decathlon.benchmark.training.evaluate import TOLERANCE
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.io import write_all
from visual_decathlon.methods.layers.network import merge_for_inference
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
STEPPED = "finetune,bn_adapt,bitfit,lora,par_adapter"
"""The methods that take a training step and are merged on every network; a class of adapters each."""
CLASSES, BATCH = 3, 2
SIDE = 128
"""Pixels of the images on which a network takes its step, if it takes images of any size; else those of its own."""
DEFAULT = tuple(
    f"{library}/{name}"
    for library, names in {
        "torchvision": "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 "
        "maxvit_t mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 resnet50 resnext50_32x4d "
        "shufflenet_v2_x1_0 squeezenet1_1 swin_t swin_v2_t vgg11_bn vit_b_32 wide_resnet50_2",
        "timm": "beit_base_patch16_224 cait_xxs24_224 coat_lite_tiny coatnet_0_224 convit_tiny convnextv2_atto "
        "crossvit_9_240 davit_tiny deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 dla34 dpn68 edgenext_xx_small "
        "efficientformer_l1 ese_vovnet19b_dw eva02_tiny_patch14_224 fastvit_t8 focalnet_tiny_srf ghostnet_100 "
        "gmlp_s16_224 hrnet_w18_small lcnet_050 levit_128 mixer_s16_224 mobileone_s0 mobilenetv1_100 mobilevit_xs "
        "nf_resnet50 pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 repvgg_a0 repvit_m0_9 res2net50_26w_4s "
        "resmlp_12_224 resnet26 resnetv2_50 skresnet18 swin_tiny_patch4_window7_224 tf_efficientnet_lite0 "
        "tiny_vit_5m_224 tinynet_a tnt_s_patch16_224 twins_svt_small vit_tiny_patch16_224 xception41 "
        "xcit_nano_12_p8_224",
    }.items()
    for name in names.split()
)
"""The networks of the committed table."""

COLUMNS = (
    Column("network", _TEXT, "", "the backbone's name"),
    Column("runs", pa.bool_(), "", "whether it is built, and every method of a trial that fits took a step and merged"),
    Column("reason", _TEXT, "", "why it does not run; empty where it does"),
    Column("size", _WHOLE, "pixel", "side of the images: that for which the network is made", nullable=True),
    Column("parameters", _WHOLE, "", "without the classifier", nullable=True),
    Column("layers", _WHOLE, "", "convolutions and linear layers that adapters can replace", nullable=True),
    Column("left_alone", _WHOLE, "", "those with which the network computes in a way of its own", nullable=True),
    Column("batch_norms", _WHOLE, "", "batch norms", nullable=True),
    Column("other_norms", _WHOLE, "", "layer, group and RMS norms", nullable=True),
    Column("blocks", _TEXT, "", "blocks of each stage, such as 2-2-2-2; empty where nothing repeats"),
    Column("attentions", _WHOLE, "", "attentions with one projection to queries, keys and values", nullable=True),
    Column("any_size", pa.bool_(), "", "whether it takes images of another size too", nullable=True),
    Column("entries", _WHOLE, "", "entries of the registry when it was tried"),
    Column("step_size", _WHOLE, "pixel", "side of the two images of the training step", nullable=True),
    Column("methods", _WHOLE, "", "entries of the registry that fit its shapes, with their defaults", nullable=True),
    Column("refused", _TEXT, "", "JSON: each other entry with its reason"),
    Column("tried", _TEXT, "", "the methods that took a training step of two images and were merged"),
    Column("difference", _REAL, "", "largest change of a logit by merging, of the largest logit", nullable=True),
    Column("load", _REAL, "", "load average before the first network", nullable=True),
    Column("machine", _TEXT, "", "processor and system"),
    Column("versions", _TEXT, "", "versions of Python and libraries, JSON"),
    Column("commit", _TEXT, "", "commit of the checkout, + where files differ; empty outside git", nullable=True),
)
_EMPTY = {"blocks": "", "refused": "{}", "tried": "", "reason": ""}


def measure(names: Sequence[str], results: Path) -> None:
    """Tries each network, prints a line for it, and writes networks.parquet and networks.md below `results`.

    The tables keep the rows of other networks. Raises InputError for a name that no library lists, before anything is
    tried.
    """
    names = [canonical(name) for name in names]
    for name in names:
        check_listed(name)
    check_writable(results)
    about, folder = environment_columns(), ResultsFolder(results)
    paths = [folder.table("networks"), folder.table("networks", "md")]
    kept = {
        name: rows[-1] for name, rows in load_previous(paths[0], python_types(COLUMNS), "network", "columns").items()
    }
    for name in names:
        row = {column.name: _EMPTY.get(column.name) for column in COLUMNS} | about | tried(name)
        kept[name] = row
        rows = [kept[one] for one in sorted(kept)]
        write_all(dict(zip(paths, (parquet(table(rows, COLUMNS)), markdown(rows)), strict=True)))
        print(f"{name}: {'runs' if row['runs'] else row['reason']}", flush=True)
    print(f"Files: {'  '.join(map(str, paths))}")


def tried(name: str) -> dict:
    """What a trial of the network of this name found, as columns."""
    try:
        shapes = library_shapes(name)
    except InputError as error:
        return {"network": name, "runs": False, "reason": str(error).partition(": ")[2], "entries": len(entries())}
    norms = [norm.batch for norm in shapes.norms]
    refused = {method.name: reason for method in (e() for e in entries()) if (reason := misfit(method, name, shapes))}
    side = min(SIDE, shapes.size) if shapes.any_size else shapes.size
    row = {
        "network": name,
        "entries": len(entries()),
        "step_size": side,
        "size": shapes.size,
        "parameters": shapes.base,
        "layers": len(shapes.convs),
        "left_alone": sum(other.layer for other in shapes.others),
        "batch_norms": sum(norms),
        "other_norms": len(norms) - sum(norms),
        "blocks": "-".join(str(len(stage)) for stage in shapes.stages),
        "attentions": len(shapes.attentions),
        "any_size": shapes.any_size,
        "methods": len(entries()) - len(refused),
        "refused": json.dumps(refused),
    }
    methods = [method for method in select(STEPPED) if method.name not in refused]
    try:
        difference = max(_step_and_merge(method, name, side) for method in methods)
        reason = "" if difference <= TOLERANCE else f"merging changes a logit by {difference:.1e} of the largest"
    except (RuntimeError, AttributeError, ValueError, TypeError) as error:  # whatever a library raises in a pass
        difference, reason = None, " ".join(f"{type(error).__name__}: {error}".split())[:200]
    run = ",".join(method.spec for method in methods)
    return row | {"runs": not reason, "reason": reason, "difference": difference, "tried": run}


def _step_and_merge(method: Method, name: str, side: int) -> float:
    """The largest change of a logit by merging, of the largest logit, after one training step of two images."""
    torch.manual_seed(0)
    source = library_network(name, CLASSES).for_size(side).requires_grad_(False).eval()
    network = method.place(source, CLASSES).train()
    groups = method.groups(network, 5e-4, BATCH)
    optimiser = method.optimiser(groups, 1e-3, 0.9, True)
    x, y = torch.randn(BATCH, 3, side, side), torch.arange(BATCH) % CLASSES
    method.loss(network, x, y, nn.functional.cross_entropy)[0].backward()
    optimiser.step()
    network.eval()
    with torch.no_grad():
        wanted = network(x)
        merged = merge_for_inference(network)(x)
    return float((merged - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))


def markdown(rows: Sequence[dict]) -> bytes:
    """networks.md: the networks that run, a line each, and those that do not, with the reason."""
    head = ["network", "px", "step px", "M parameters", "layers", "left alone", "batch norms", "other norms", "blocks"]
    run = [row for row in rows if row["runs"]]
    lines = [
        "# Which networks run",
        "",
        f"{len(run)} of {len(rows)} networks run. On each, {STEPPED.replace(',', ', ')} took one training step of two "
        "images (`step px`) with random weights, and merged to the same logits "
        f"(within {TOLERANCE:g} of the largest). `methods` counts the entries of the registry that fit its shapes; "
        "networks.parquet has the reason of each other one.",
        "",
        *table_lines([*head, "attention", "any size", "methods"], [_cells(row) for row in run]),
        "",
    ]
    if left := [row for row in rows if not row["runs"]]:
        lines += ["## Networks that do not run", "", *(f"- {row['network']}: {escaped(row['reason'])}" for row in left)]
    return "\n".join([*lines, ""]).encode()


def _cells(row: dict) -> list[str]:
    counts = [str(row[key]) for key in ("layers", "left_alone", "batch_norms", "other_norms")]
    end = [row["blocks"] or "none", str(row["attentions"]), "yes" if row["any_size"] else "no"]
    end.append(f"{row['methods']} of {row['entries']}")
    return [row["network"], str(row["size"]), str(row["step_size"]), f"{row['parameters'] / 1e6:.1f}", *counts, *end]
