"""The columns of efficiency.parquet, adapters.parquet and blocks.parquet: name, type, unit and meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """A column; `unit` is "" for texts and pure numbers, a nullable one is null where nothing was measured."""

    name: str
    kind: pa.DataType
    unit: str
    comment: str
    nullable: bool = False


_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()

_LIVE = "largest sum of the tensors that exist at the same time in a pass"

_PLACE = (
    Column("device", _TEXT, "", "cpu, or the name of the GPU"),
    Column("threads", _WHOLE, "", "threads of torch on the CPU"),
    Column("load", _REAL, "", "load average before the first round", nullable=True),
    Column("machine", _TEXT, "", "processor and system"),
    Column("versions", _TEXT, "", "versions of Python and libraries, JSON"),
    Column("commit", _TEXT, "", "commit of the checkout, + where files differ; empty outside git", nullable=True),
)

_TIMES = (
    Column("latency_ms", _REAL, "ms", "time of a forward pass of the whole batch, median of the rounds", nullable=True),
    Column("latency_ms_p10", _REAL, "ms", "its 10th percentile", nullable=True),
    Column("latency_ms_p90", _REAL, "ms", "its 90th percentile", nullable=True),
)

NETWORKS = (
    Column("network", _TEXT, "", "name as of the setting network"),
    Column("size", _WHOLE, "pixel", "side of the square images"),
    Column("classes", _WHOLE, "", "outputs of the head"),
    Column("parameters", _WHOLE, "", "trainable numbers, a shared tensor once"),
    Column("macs", _WHOLE, "multiply-add/image", "of convolutions, linear layers and attention; no biases, no norms"),
    Column("flops", _WHOLE, "FLOP/image", "2 macs"),
    Column("precision", _TEXT, "", "fp32, bf16, fp16: of weights, images and activations"),
    Column("batch", _WHOLE, "image", "images of a forward pass"),
    Column("layout", _TEXT, "", "channels_last, or contiguous (NCHW) where the network needs it"),
    Column("file_bytes", _WHOLE, "byte", "of the safetensors file in this precision"),
    Column("activation_bytes", _WHOLE, "byte", f"{_LIVE}, its images too; no weights", nullable=True),
    Column("allocated_bytes", _WHOLE, "byte", "the GPU's allocator: peak in a pass less what was held before", True),
    *_TIMES,
    Column("img_s", _REAL, "image/s", "throughput: batch / latency", nullable=True),
    Column("joules", _REAL, "J/image", "energy of the whole GPU, by its own counter", nullable=True),
    Column("rounds", _WHOLE, "", "forward passes that were timed"),
    Column("dropped", _WHOLE, "", "rounds in which other programs used the machine"),
    Column("reason", _TEXT, "", "why there is no time; empty where there is one"),
    *_PLACE,
)


def _ratios(to: str) -> tuple[Column, ...]:
    return (
        Column("latency_ratio", _REAL, "", f"to {to} in the same round, median", nullable=True),
        Column("latency_ratio_least", _REAL, "", "the least of the rounds", nullable=True),
        Column("latency_ratio_largest", _REAL, "", "the largest of the rounds", nullable=True),
    )


ADAPTERS = (
    Column("network", _TEXT, "", "name as of the setting network"),
    Column("size", _WHOLE, "pixel", "side of the square images"),
    Column("method", _TEXT, "", "method string, or: the network itself"),
    Column("family", _TEXT, "", "family of the method"),
    Column("form", _TEXT, "", "as trained: adapters beside the network's layers; merged: within them"),
    Column("batch", _WHOLE, "image", "images of a forward pass"),
    Column(
        "queries",
        _WHOLE,
        "token",
        "longest sequence of queries in an attention; null where it does not use torch's function",
        nullable=True,
    ),
    Column("keys", _WHOLE, "token", "longest sequence of keys and values, likewise", nullable=True),
    Column("macs", _WHOLE, "multiply-add/image", "of convolutions, linear layers without the head, and attention"),
    Column("floats", _WHOLE, "", "trained floats stored for a domain, without its head"),
    Column("bits", _WHOLE, "", "stored bits beside them"),
    Column("base_floats", _WHOLE, "", "parameters of the network without its head"),
    Column("activation_bytes", _WHOLE, "byte", f"{_LIVE}, its images too; no weights"),
    *_TIMES,
    *_ratios("the network itself"),
    Column("rounds", _WHOLE, "", "forward passes that were timed"),
    Column("dropped", _WHOLE, "", "rounds in which other programs used the machine"),
    *_PLACE,
)

BLOCKS = (
    Column("block", _TEXT, "", "name"),
    Column("source", _TEXT, "", "what it is, and its paper"),
    Column("channels", _WHOLE, "", "C: channels that go in and come out"),
    Column("side", _WHOLE, "position", "H = W: side of the feature map"),
    Column("kernel", _WHOLE, "position", "k: side of the kernel"),
    Column("field", _WHOLE, "position", "side of the receptive field"),
    Column("batch", _WHOLE, "image", "images of a forward pass"),
    Column("precision", _TEXT, "", "of weights and activations"),
    Column("layout", _TEXT, "", "memory layout"),
    Column("parameters_formula", _TEXT, "", "closed form of the weights"),
    Column("parameters", _WHOLE, "", "its value"),
    Column("macs_formula", _TEXT, "", "closed form of the multiply-adds"),
    Column("macs", _WHOLE, "multiply-add/image", "its value"),
    Column("ratio_formula", _TEXT, "", "closed form of the ratio to the standard convolution, of weights and macs"),
    Column("ratio", _REAL, "", "its value"),
    Column("parameters_counted", _WHOLE, "", "numbers in the module's tensors"),
    Column("macs_counted", _WHOLE, "multiply-add/image", "by torch's counter"),
    Column("macs_ratio", _REAL, "", "counted, to the standard convolution's"),
    *_TIMES,
    *_ratios("the standard convolution's"),
    Column("activation_bytes", _WHOLE, "byte", f"{_LIVE}, its input too; no weights"),
    Column("activation_ratio", _REAL, "", "to the standard convolution's"),
    Column("rounds", _WHOLE, "", "forward passes that were timed"),
    Column("dropped", _WHOLE, "", "rounds in which other programs used the machine"),
    *_PLACE,
)


def table(rows: Sequence[Mapping], columns: Sequence[Column]) -> pa.Table:
    """The rows as a table of the columns, with unit and comment in the metadata of each field."""
    fields = [
        pa.field(c.name, c.kind, c.nullable, metadata={"comment": c.comment} | ({"unit": c.unit} if c.unit else {}))
        for c in columns
    ]
    return pa.Table.from_pylist(list(rows), pa.schema(fields))


def python_types(columns: Sequence[Column]) -> dict:
    """Column -> the Python type of its values, for `store.load_previous`."""
    plain = {_TEXT: str, _WHOLE: int, _REAL: float, pa.bool_(): bool}
    return {c.name: plain[c.kind] | None if c.nullable else plain[c.kind] for c in columns}
