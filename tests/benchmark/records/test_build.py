"""The sections of a record together have every field of the schema, each in one section."""

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.records import build, provenance
from visual_decathlon.benchmark.records.schema import MEASURED, SCHEMA, check
from visual_decathlon.methods.registry import select

EPOCHS = [{"epoch": i, "loss": 0.5, "train_top1": 50.0, "seconds": 2.0, "runs_on_device": i, "x": 1} for i in (1, 2)]
CLOCK = {name: 1.0 for name in MEASURED if name not in ("train_seconds", "cpu_seconds")} | {"step": "eager"}


def sections(run, who: provenance.Provenance) -> list[dict]:
    (method,) = select(run.method)
    shapes = shapes_named("resnet26", run.profile.width, run.profile.crop)
    return [
        build.on_device(build.known_fields(run, who), "cpu"),
        build.accuracy(20, 8, 6, EPOCHS, None, 7),
        build.size(run, method, shapes, shapes.base, 123),
        build.multiply_adds(7, 6),
        build.times(EPOCHS, [], 1.0, {"layout": "contiguous", "norm": "plain"}, CLOCK, 9.0),
    ]


def test_sections_are_the_schema_without_repetition(planned):
    _, data, (run, *_) = planned("res_adapter", domains=["svhn"])
    parts = sections(run, provenance.Provenance.here(data, 1, "test"))
    names = [name for part in parts for name in part]
    assert sorted(names) == sorted({*SCHEMA.names} - {"asked"})  # a later bench writes that
    (record,) = check([{name: value for part in parts for name, value in part.items()}]).to_pylist()
    assert (record["top1"], record["train_seconds"], record["runs_on_device"]) == (75.0, 4.0, 2)
    assert record["cpu_seconds"] is None, "the epochs do not have it"
    assert [row.keys() for row in record["history"]] == [{"epoch", "loss", "train_top1", "seconds"}] * 2


def test_a_training_without_a_clock_has_no_step(planned):
    record = build.times(EPOCHS, EPOCHS, 0.0, {}, {}, None)
    assert record["step"] is record["first_step_seconds"] is record["skipped_steps"] is None


def test_the_backbone_itself_stores_no_floats(planned):
    _, _, (run, *_) = planned("feature", domains=["imagenet12"])
    (method,) = select("res_adapter")
    shapes = shapes_named("resnet26", 0.25, 32)
    assert run.source_cell and method.floats(shapes) > 0
    record = build.size(run, method, shapes, shapes.base, None)
    assert (record["floats"], record["bits"], record["bytes"]) == (0, 0, None)
