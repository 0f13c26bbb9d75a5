"""A run made again from its record alone: the same bits, what differs, and what it takes to be rebuilt."""

import json
import math
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.store import read_record, read_records, write_record
from visual_decathlon.benchmark.runs import rerun as rerun_module
from visual_decathlon.methods.feature import Feature

OLD = Path(__file__).parents[1] / "record_1.parquet"


@pytest.fixture
def results(finished: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the finished runs; no records are shipped."""
    monkeypatch.setattr(rerun_module, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(rerun_module, "SHIPPED_RECORDS", [tmp_path / "shipped"])
    return Path(shutil.copytree(finished, tmp_path / "results"))


@pytest.fixture
def again(here, bench, results: Path, capsys) -> Callable[..., tuple[int, str, str]]:
    """`again(hash, *words)` on the data of `results`: (exit code, stdout, stderr)."""

    def run(start: str, *words: str, data: Path | None = bench.data) -> tuple[int, str, str]:
        usual = ["--results", str(results), "--cache", str(bench.cache), "--device", "cpu"]
        usual += ["--data", str(data)] if data else []
        code = main(["rerun", start, *usual, *words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(again, results: Path, below) -> Callable[..., str]:
    """The sentence of a rerun that is refused before anything is trained or written."""

    def run(*words: str, **more) -> str:
        code, _, err = again(*words, **more)
        assert code == 2 and err.count("\n") == 1 and "; " in err, err
        assert not list(results.glob("reruns/*/*"))
        return err

    return run


def one(results: Path, **wanted) -> dict:
    """The one record with these values."""
    (record,) = (r for r in read_records([results / "records"]) if wanted.items() <= r.items())
    return record


def numbers(record: dict) -> tuple:
    return record["correct"], record["top1"], [(row["loss"], row["train_top1"]) for row in record["history"]]


@pytest.mark.parametrize("method", ["feature", "res_adapter", "finetune"])
def test_the_same_numbers(method: str, again, results: Path, below):
    record, before = one(results, method=method, domain="dtd"), below(results)
    path, times = results / "reruns" / "records" / f"{record['hash']}.parquet", set()
    for start in (record["hash"], record["hash"][:12]):
        code, out, err = again(start)
        assert (code, err) == (0, "")
        times.add(path.stat().st_mtime_ns)
        assert f"the same numbers: {record['correct']} of 12 right" in out and "all 2 epochs to the bit" in out
    after, new = below(results), read_record(path)
    assert len(times) == 2, "the second rerun trains, too"
    assert {name: after[name] for name in before} == before, "the recorded row is not touched"
    assert numbers(new) == numbers(record) and new["created"] >= record["created"]
    assert {name.split("/")[0] for name in set(after) - set(before)} == {"reruns"}
    assert not list((results / "reruns" / "unfinished").iterdir())
    assert len(read_records([results])) == 30, "no table counts it"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r.update(correct=r["correct"] - 1, top1=r["top1"] - 100 / 12), "top-1 differs: "),
        (lambda r: r["history"][1].update(loss=math.nextafter(r["history"][1]["loss"], 9)), "in 1 of 2 epochs, from"),
        (lambda r: r["history"].pop(), "2 epochs were trained, recorded were 1"),
    ],
)
def test_other_numbers_are_reported(change: Callable, expected: str, again, results: Path):
    record = one(results, method="res_adapter", domain="svhn")
    change(record)
    record |= {"versions": json.dumps(json.loads(record["versions"]) | {"torch": "1.0.0"}), "commit": "abc"}
    write_record(record, results / "records")
    code, out, err = again(record["hash"])
    assert (code, err) == (1, "") and expected in out and "the same numbers" not in out
    assert out.count("differ") + out.count("were trained") == 1
    assert "recorded with commit abc, torch 1.0.0; here commit" in out


def test_the_pretrained_networks_own_cell_is_pretrained_again(again, bench, results: Path, below):
    def cached() -> dict:
        """Stamps of packed files are written again where the files were new when they were packed."""
        return {name: file for name, file in below(bench.cache).items() if "/stamps-" not in name}

    record, cache = one(results, method="res_adapter", domain="imagenet12"), cached()
    code, out, _ = again(record["hash"])
    assert code == 0 and "pretrained the series backbone" in out and "all 6 epochs to the bit" in out
    assert cached() == cache, "the backbone in the cache belongs to other runs"


def test_a_part_of_a_joint_training_is_trained_with_the_others_again(again, refused, here, results: Path):
    method = "res_adapter_finetune_all"
    assert here("--domains", "svhn,dtd", method=method, results=results).code == 0
    record = one(results, method=method, domain="svhn")
    assert record["together"] == ["dtd", "svhn"]
    write_record(record | {"together": None}, results / "records")
    assert "schema 1, which does not say over which domains; run `" in refused(record["hash"])
    write_record(record | {"together": ["svhn"]}, results / "records")
    assert "one of svhn, over which it was trained" in refused(record["hash"])
    write_record(record, results / "records")
    code, out, _ = again(record["hash"])
    assert code == 0 and f"{method} over all domains" in out and "the same numbers" in out


def test_a_bundled_backbone_is_used(again, results: Path, monkeypatch):
    """As a bench does it: what comes with the suite is not pretrained again."""
    asked = []
    monkeypatch.setattr(
        "visual_decathlon.benchmark.runs.rerun.install_bundled_backbones",
        lambda backbones, folder, report: asked.extend(backbone.hash for backbone in backbones),
    )
    record = one(results, method="feature", domain="dtd")
    assert again(record["hash"])[0] == 0 and asked == [record["backbone"]]


def test_settings_split_limit_and_seed_are_the_recorded(again, here, bench, results: Path):
    settings = "width=0.125 epochs=3 pretrain.epochs=1 lr=0.03 schedule=steps drops=0.5 batch=6 pretrain.batch=8"
    words = ("--domains", "dtd", "--split", "holdout", "--limit", "20", "--seeds", "5,")
    done = here(*words, method="bn_adapt", settings=settings, results=results)
    assert done.code == 0, done.err
    assert done.err.count("SET=drops= is now called milestones; the old name still works") == 1
    record = one(results, method="bn_adapt")
    assert (record["limit"], record["split"], record["seed"], record["lr"]) == (20, "holdout", 5, 0.03)
    code, out, _ = again(record["hash"])
    assert code == 0 and "all 3 epochs to the bit" in out


def test_a_rate_that_the_method_declares_no_more_is_the_recorded(again, results: Path, monkeypatch):
    monkeypatch.setattr(Feature, "lr", 7.0)
    assert again(one(results, method="feature", domain="dtd")["hash"])[0] == 0


def test_own_domains_are_given_again(again, refused, here, picture, results: Path, tmp_path: Path):
    for i in range(8):
        (folder := tmp_path / "mine" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture(i % 2, seed=i).save(folder / f"{i}.png")
    own = ("--own", f"mine={tmp_path / 'mine'}")
    done = here(*own, "--domains", "mine", method="feature", results=results)
    assert done.code == 0, done.err
    record = one(results, domain="mine")
    assert "was made from the own domains mine; give OWN=" in refused(record["hash"])
    assert "own domains mine" in refused(record["hash"], *own, "--own", f"yours={tmp_path / 'mine'}")
    assert "no own domain; leave OWN= out" in refused(one(results, method="feature", domain="dtd")["hash"], *own)
    assert again(record["hash"], *own)[0] == 0
    shutil.rmtree(results / "reruns")
    picture(0, seed=99).save(tmp_path / "mine" / "a" / "99.png")
    assert "mine: the set of images and labels trained on is " in refused(record["hash"], *own)


def test_a_run_on_a_split_without_labels(again, here, results: Path):
    words = ("--domains", "dtd", "--split", "test", "--predictions")
    assert here(*words, method="feature", results=results).code == 0
    record = one(results, split="test")
    assert record["top1"] is None
    code, out, _ = again(record["hash"])
    assert code == 0 and "6 images without labels, so no top-1, the loss of all 2 epochs to the bit" in out


def test_a_given_backbone_is_given_again(again, refused, here, bench, results: Path, tmp_path: Path):
    pretrained = one(results, method="feature", domain="dtd")
    shutil.copy(
        bench.cache / "backbones" / f"{pretrained['backbone']}.safetensors", weights := tmp_path / "w.safetensors"
    )
    given = ("--backbone", str(weights))
    assert here(*given, "--domains", "dtd", method="feature", results=results, settings="epochs=1").code == 0
    (record,) = (r for r in read_records([results / "records"]) if r["backbone_source"].startswith("w.safetensors"))
    assert "uses the backbone w.safetensors " in refused(record["hash"])
    assert "pretrained on imagenet12 of its data; leave BACKBONE= out" in refused(pretrained["hash"], *given)
    assert again(record["hash"], *given)[0] == 0
    shutil.rmtree(results / "reruns")
    tensors = load_file(weights)
    tensors["head.bias"] += 1
    with safe_open(weights, "pt") as file:
        save_file(tensors, weights, file.metadata())
    assert "the backbone is " in refused(record["hash"], *given)


def test_a_choice_of_its_state_dicts_is_given_again(again, here, bench, results: Path, tmp_path: Path):
    """BACKBONE=FILE:NAME is another backbone than FILE; what needs a head is left out where the file has none."""
    tensors = load_file(
        bench.cache / "backbones" / f"{one(results, method='feature', domain='dtd')['backbone']}.safetensors"
    )
    average = {f"module.{name}": tensor * 1.5 if "stem.conv" in name else tensor for name, tensor in tensors.items()}
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    torch.save({"model": body, "model_ema": average, "args": Namespace(lr=1)}, path := tmp_path / "trained.pth")
    hashes = {}
    for choice in ("", ":model_ema"):
        words = ("--backbone", f"{path}{choice}", "--domains", "dtd")
        done = here(*words, method="feature", results=results)
        assert done.code == 0 and f"BACKBONE=trained.pth: `{choice[1:] or 'model'}` is taken" in done.out
        records = read_records([results / "records"])
        (record,) = (r for r in records if r["backbone_source"].startswith(f"trained.pth{choice} "))
        hashes[choice] = record["hash"]
    assert len(set(hashes.values())) == 2
    code, out, _ = again(hashes[":model_ema"], "--backbone", f"{path}:model_ema")
    assert code == 0 and "the same numbers" in out and "`model_ema` is taken" in out
    assert "uses the backbone trained.pth:model_ema " in refused_of(again(hashes[":model_ema"]))
    assert "the backbone is " in refused_of(again(hashes[":model_ema"], "--backbone", str(path)))
    done = here("--backbone", str(path), "--domains", "dtd", method="feature,l*f", results=results)
    assert done.code == 0 and "left out: lwf needs the head of the backbone" in done.out
    sentence = here("--backbone", str(path), "--domains", "dtd", method="lwf", results=results).sentence
    assert "BACKBONE=trained.pth has none; give weights with the head" in sentence


def refused_of(ended: tuple[int, str, str]) -> str:
    code, _, err = ended
    assert code == 2 and err.count("\n") == 1
    return err


def test_differences_are_refused_before_anything_is_trained(refused, tiny: Path, results: Path, tmp_path: Path):
    record = one(results, method="res_adapter", domain="dtd")
    start = record["hash"]

    def with_change(**change) -> str:
        write_record(record | change, results / "records")
        return refused(start)

    assert "release tiny (hash of its annotations: " in refused(start, data=None)
    assert "version 1 of the training code, and this is version" in with_change(training=1, commit="abc")
    assert "no method is called 'lore'" in with_change(method_full="lore(rank=3)")
    assert "the method with its options is res_adapter(init='he', off" in with_change(
        method_full="res_adapter(init='he')"
    )
    assert "has settings that this suite does not know" in with_change(
        settings=record["settings"].replace("adapt", "adopt")
    )
    settings = json.loads(record["settings"])
    settings["pretrain"]["epochs"] = 5
    sentence = with_change(settings=json.dumps(settings))
    assert "the backbone (its images of imagenet12, recipe or seed) is " in sentence and record["backbone"] in sentence
    settings["pretrain"]["epochs"] = 6
    settings["adapt"]["momentum"] = 0.5
    assert "how settings are read" in with_change(settings=json.dumps(settings))
    assert "drawn stand-ins standin-v0; leave DATA= out" in with_change(data="standin-v0", data_id="standin-v0")
    write_record(record, results / "records")
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    shutil.copy(next((other / "data/svhn/val").iterdir()), next((other / "data/dtd/val").iterdir()))
    assert "dtd: the set of images and labels evaluated is " in refused(start, data=other)


def test_stand_ins_of_another_version_are_refused(refused, results: Path, tiny: Path, monkeypatch):
    record = one(results, method="feature", domain="dtd")
    write_record(record | {"data": "standin-v0-seed0", "data_id": "standin-v0-seed0"}, results / "records")
    monkeypatch.setattr("visual_decathlon.benchmark.runs.data.ensure_standins", lambda cache, progress: tiny)
    assert "it was made from standin-v0-seed0, and this suite draws tiny" in refused(record["hash"], data=None)


def test_hashes_that_name_no_run_or_several(refused, results: Path):
    hashes = sorted(r["hash"] for r in read_records([results]))
    start = next(a[:1] for a, b in zip(hashes, hashes[1:], strict=False) if a[0] == b[0])
    several = [h for h in hashes if h.startswith(start)]
    expected = f"{len(several)} records have a hash with this beginning ({', '.join(several[:4])}"
    assert f"RERUN={start}: {expected}" in refused(start)
    for nothing in ("xyz", "", "f" * 17):
        assert f"RERUN={nothing}: no record below {results} or " in refused(nothing)


def test_shipped_records_are_found_and_ones_own_come_first(again, results: Path, tmp_path: Path):
    record = one(results, method="feature", domain="dtd")
    write_record(record | {"correct": 0, "top1": 0.0}, tmp_path / "shipped")
    assert again(record["hash"])[0] == 0
    (results / "records" / f"{record['hash']}.parquet").unlink()
    assert again(record["hash"])[0] == 1


def test_a_record_of_the_version_before_is_rebuilt(results: Path, refused):
    shutil.copy(OLD, results / "records")
    assert "drawn stand-ins standin-v1-seed0; leave DATA= out" in refused(read_record(OLD)["hash"])


def test_a_rerun_that_fails_is_one_sentence(again, results: Path, monkeypatch):
    record = one(results, method="finetune", domain="dtd")
    monkeypatch.setattr("visual_decathlon.benchmark.training.train.learning_rate", lambda *_: 1e30)
    code, _, err = again(record["hash"])
    assert code == 2 and "dtd: " in err and err.count("\n") == 1 and not list(results.glob("reruns/records/*"))
