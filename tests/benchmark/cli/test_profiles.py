"""The profile decathlon-2018-released in a whole run, slim and short: rates, decays, records."""

from pathlib import Path

import pytest

from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import recorded_profile
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.training import train

SETTINGS = "width=0.125 resize=18 crop=16 uncropped_size=0 epochs=1 pretrain.epochs=1 batch=8 pretrain.batch=8"
NAME = "decathlon-2018-released"


@pytest.fixture
def decays(monkeypatch) -> list[set[float]]:
    """The weight decays of each training, in order."""
    seen, groups_of = [], train.parameter_groups

    def parameter_groups(network, method, recipe, images):
        groups = groups_of(network, method, recipe, images)
        seen.append({group["weight_decay"] for group in groups})
        return groups

    monkeypatch.setattr(train, "parameter_groups", parameter_groups)
    return seen


def test_a_run_says_and_records_its_rates_and_decays(here, decays: list[set[float]], tmp_path: Path):
    words = ("--profile", NAME, "--domains", "dtd")
    done = here(*words, method="oft,bn_adapt,par_adapter", results=tmp_path, settings=SETTINGS)
    assert done.code == 0, done.err
    assert "the paper's 0.1 for bn_adapt par_adapter; 0.06 for oft, from the sweep" in " ".join(done.out.split())
    records = {record["method"]: record for record in read_records([tmp_path / "records"])}
    assert {name: record["lr"] for name, record in records.items()} == {
        "oft": 0.06,
        "bn_adapt": 0.1,
        "par_adapter": 0.1,
    }
    for record in records.values():
        assert recorded_profile(record["settings"]) == profile(NAME, SETTINGS.split())
    assert decays[0] == {1e-4}, "pretraining"
    assert sorted(map(sorted, decays[1:])) == [[1e-4], [5e-4], [5e-4]]
    done = here(*words, method="oft", results=tmp_path, settings=f"{SETTINGS} lr=0.1")
    assert done.code == 0 and "learning rates:" not in done.out
    assert sorted(r["lr"] for r in read_records([tmp_path / "records"]) if r["method"] == "oft") == [0.06, 0.1]
