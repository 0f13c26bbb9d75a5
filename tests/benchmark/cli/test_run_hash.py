"""A run's hash: settings and images change it, the machine and the folder do not."""

import json
import shutil
from pathlib import Path

from visual_decathlon.benchmark.runs.backbones import unsupported_reason
from visual_decathlon.methods.registry import select


def test_the_hash_depends_on_everything_that_changes_the_numbers(planned, tiny: Path, tmp_path: Path, monkeypatch):
    def hashed(method: str = "feature", settings: str = "width=0.125", **more) -> str:
        return planned(method, settings, domains=["dtd"], **more)[2][0].hash

    base = hashed()
    others = [
        hashed("finetune"),
        hashed(settings="width=0.25"),
        hashed(settings="width=0.125 epochs=3"),
        hashed(settings="width=0.125 lr=0.5"),
        hashed(settings="width=0.125 pretrain.epochs=3"),
        hashed(settings="width=0.125 backbone_seed=1"),
        hashed(seeds=(1,)),
        hashed(limit=5),
        hashed(split="holdout"),
        hashed("res_adapter"),
        hashed("res_adapter(init='he')"),
    ]
    assert len({base, *others}) == 12
    moved = Path(shutil.copytree(tiny, tmp_path / "moved", copy_function=shutil.copyfile))
    monkeypatch.setattr("visual_decathlon.benchmark.records.provenance.commit", lambda: "another")
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert hashed(data=moved, cache=tmp_path / "cache") == base
    victim = next((moved / "data" / "dtd" / "val").iterdir())
    shutil.copy(next((moved / "data" / "svhn" / "val").iterdir()), victim)
    assert hashed(data=moved, cache=tmp_path / "cache") != base


def test_compiled_is_another_run_of_another_table(planned):
    """A run that is not compiled keeps the hash and settings from before the option existed."""
    (plain, *_), (other, *_) = (planned("par_adapter", f"width=0.125 compile={on}")[2] for on in ("false", "true"))
    assert plain.hash != other.hash and plain.backbone.hash != other.backbone.hash
    assert "compile" not in json.loads(plain.settings) and json.loads(other.settings)["compile"] is True
    request, _, _ = planned("par_adapter", "width=0.125 compile=true")
    for name in ("res_adapter_finetune_all", "res_adapter_dom_pred", "spottune"):
        assert name in (sentence := unsupported_reason(request, *select(name))) and sentence.endswith("leave it out")


def test_a_run_that_is_not_deterministic_is_another_run(planned):
    """A deterministic run, the default, keeps the hash and settings from before the option existed."""
    settings = ("", " deterministic=true", " deterministic=false")
    usual, same, other = (planned("par_adapter", f"width=0.125{more}")[2][0] for more in settings)
    assert usual.hash == same.hash and "deterministic" not in json.loads(usual.settings)
    assert other.hash != usual.hash and other.backbone.hash != usual.backbone.hash
    assert json.loads(other.settings)["deterministic"] is False
