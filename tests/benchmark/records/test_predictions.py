"""Predictions of a run are written on request, also on a test split without labels, and change no run."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.records.folder import ResultsFolder
from visual_decathlon.benchmark.records.predictions import FIELDS, SCHEMA, read_predictions, write_predictions
from visual_decathlon.benchmark.records.store import read_frame, read_records
from visual_decathlon.benchmark.runs import bench as bench_module
from visual_decathlon.benchmark.runs import execute as cell_module
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.benchmark.tables.table1 import tables
from visual_decathlon.datasets.annotations import read_split
from visual_decathlon.datasets.catalogue import DOMAINS, category_id
from visual_decathlon.datasets.errors import InputError

NAMES = ("imagenet12", "dtd", "svhn")
# A merged one, one that does not merge, features at hand, joint networks, a domain classifier before all of them.
METHODS = "res_adapter,chapter,feature,res_adapter_finetune_all,res_adapter_dom_pred,par_adapter_joint_svd"


@pytest.fixture(scope="module")
def predicted(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of runs that kept their predictions from the start; no test writes into it."""
    results = tmp_path_factory.mktemp("predicted")
    done = bench("--domains", *NAMES, "--predictions", "--workers", "1", method=METHODS, results=results)
    assert done.code == 0, done.err
    return results


@pytest.fixture
def plain(predicted: Path, tmp_path: Path) -> Path:
    """The same results without predictions."""
    results = Path(shutil.copytree(predicted, tmp_path / "plain"))
    shutil.rmtree(results / "predictions")
    return results


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training raises an error."""
    monkeypatch.setattr(cell_module, "train", None)
    monkeypatch.setattr("visual_decathlon.benchmark.training.pretrain.pretrain", None)
    monkeypatch.setattr("visual_decathlon.benchmark.runs.joint.train_joint", None)


def table_of(results: Path, record: dict):
    return pq.read_table(ResultsFolder(results).predictions(record["hash"]))


def test_every_field_has_a_comment(predicted: Path):
    for record in read_records([predicted / "records"]):
        schema = table_of(predicted, record).schema
        assert schema.equals(SCHEMA) and [f.metadata for f in schema] == [f.metadata for f in SCHEMA]
    assert all(len(field.metadata[b"comment"]) > 10 for field in SCHEMA)
    assert [(name, str(kind)) for name, kind, _ in FIELDS] == [
        ("image_id", "int64"),
        ("category_id", "int64"),
        ("domain", "string"),
        ("top5", "list<item: int64>"),
        ("class_name", "string"),
        ("top5_names", "list<item: string>"),
        ("file", "string"),
    ]


def test_predictions_agree_with_the_record(predicted: Path, tiny: Path):
    records = read_records([predicted / "records"])
    assert len(records) == 18 and len({r["top1"] for r in records}) > 3
    assert {p.stem for p in (predicted / "predictions").iterdir()} == {r["hash"] for r in records}
    for record in records:
        domain = DOMAINS[record["domain"]]
        split, table = read_split(tiny, domain, "val"), table_of(predicted, record)
        assert table["image_id"].to_pylist() == split.ids.tolist()
        assert set(table["domain"].to_pylist()) == {domain.name}
        of_image = dict(zip(table["image_id"].to_pylist(), table["category_id"].to_pylist(), strict=True))
        right = [of_image[i] == domain.k * 10**7 + 1 + label for i, label in zip(split.ids, split.labels, strict=True)]
        assert sum(right) == record["correct"]
        for first, top in zip(table["category_id"].to_pylist(), table["top5"].to_pylist(), strict=True):
            assert first in (top[0], None) and sorted(top) == [category_id(domain.k, label) for label in range(3)]
        assert table["file"].to_pylist() == split.files
        named = {category_id(domain.k, label): name for label, name in enumerate(split.classes)}
        assert table["class_name"].to_pylist() == [named.get(c) for c in table["category_id"].to_pylist()]
        assert table["top5_names"].to_pylist() == [[named[c] for c in top] for top in table["top5"].to_pylist()]


def test_a_loaded_domain_predicts_the_same(predicted: Path, tiny: Path, bench):
    """From the adapters of each run and the paths of its images."""
    backbones = {}
    for record in read_records([predicted / "records"]):
        adapters = predicted / "adapters" / f"{record['hash']}.safetensors"
        if not record["source_cell"]:
            file = bench.cache / "backbones" / f"{record['backbone']}.safetensors"
            net = backbones.setdefault(file, MultiDomain(file))
            name = net.load(adapters, record["hash"], merge=record["merged"])
            table = table_of(predicted, record)
            answers = net.predict([tiny / file for file in table["file"].to_pylist()], name)
            assert [list(one.names) for one in answers] == table["top5_names"].to_pylist()
            assert [[category_id(record["k"], label) for label in one.labels] for one in answers] == (
                table["top5"].to_pylist()
            )
            assert net.classes(name) == ("a", "b", "c")
    assert sum(len(net.held) for net in backbones.values()) == 15  # all but the backbone itself, three times


def test_a_finished_run_is_only_evaluated_for_them(here, plain: Path, predicted: Path, below, untrained):
    before = below(plain / "records") | below(plain / "adapters")
    done = here("--domains", *NAMES, "--predictions", method=METHODS, results=plain)
    assert done.code == 0, done.err
    assert "18 of 18 runs are finished already" in done.out
    assert "18 of them: evaluated again for their predictions, not trained" in done.out
    assert below(plain / "records") | below(plain / "adapters") == before
    for record in read_records([plain / "records"]):
        assert table_of(plain, record).equals(table_of(predicted, record)), record["method"]


def test_existing_predictions_are_not_made_again(here, predicted: Path, tmp_path: Path, below, monkeypatch):
    results = Path(shutil.copytree(predicted, tmp_path / "r"))
    before = below(results / "predictions")
    monkeypatch.setattr("visual_decathlon.benchmark.runs.scheduler._Schedule", None)  # to call it would raise
    done = here("--domains", *NAMES, "--predictions", method=METHODS, results=results)
    assert done.code == 0 and "evaluated again" not in done.out
    assert below(results / "predictions") == before


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:99])])
def test_a_run_whose_adapters_are_gone_or_cut_is_trained_again(spoil, here, plain: Path):
    record = next(r for r in read_records([plain / "records"]) if (r["method"], r["domain"]) == ("chapter", "dtd"))
    path = plain / "adapters" / f"{record['hash']}.safetensors"
    before = path.read_bytes()
    spoil(path)
    done = here("--domains", "dtd", "--predictions", method="chapter", results=plain)
    assert done.code == 0, done.err
    assert "1 have a record, but the file of their adapters is gone or cut off: trained again" in done.out
    assert len(path.read_bytes()) == len(before) and ResultsFolder(plain).predictions(record["hash"]).is_file()
    (again,) = (r for r in read_records([plain / "records"]) if r["hash"] == record["hash"])
    assert again["created"] > record["created"] and again["correct"] == record["correct"]


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_damaged_predictions_are_made_again(content: bytes | None, here, predicted: Path, tmp_path: Path):
    """An empty file, a damaged one, and the predictions of another run under the name of this one."""
    results = Path(shutil.copytree(predicted, tmp_path / "r"))
    record = next(r for r in read_records([results / "records"]) if (r["method"], r["domain"]) == ("feature", "dtd"))
    path = ResultsFolder(results).predictions(record["hash"])
    before = pq.read_table(path)
    if content is None:
        pq.write_table(before.slice(1), path)
    else:
        path.write_bytes(content)
    done = here("--domains", "dtd", "--predictions", method="feature", results=results)
    assert done.code == 0 and "1 of them: evaluated again for their predictions" in done.out
    assert pq.read_table(path).equals(before)


def test_adapters_with_damaged_numbers_are_refused(here, plain: Path, untrained):
    """The size of the file is right, so that only reading it shows the damage."""
    record = next(r for r in read_records([plain / "records"]) if (r["method"], r["domain"]) == ("chapter", "dtd"))
    path = plain / "adapters" / f"{record['hash']}.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\xff" * 4)  # no number
    done = here("--domains", "dtd", "--predictions", method="chapter", results=plain)
    assert "dtd" in done.err and str(path) in done.err and "; remove" in done.err and "is trained again" in done.err
    assert done.code == 2 and not ResultsFolder(plain).predictions(record["hash"]).exists()


def test_adapters_trained_on_other_weights_of_the_backbone_are_refused(here, plain: Path, untrained):
    """The backbone was pretrained again by the same recipe: its predictions would not be those of the record."""
    record = next(r for r in read_records([plain / "records"]) if (r["method"], r["domain"]) == ("chapter", "dtd"))
    path = plain / "adapters" / f"{record['hash']}.safetensors"
    tensors, about = read_safetensors(path)
    for weights, code in (("0" * 16, 2), (None, 0)):
        about = about | {"weights": weights} if weights else {k: v for k, v in about.items() if k != "weights"}
        write_safetensors(path, tensors, about)
        done = here("--domains", "dtd", "--predictions", method="chapter", results=plain)
        assert done.code == code and ("was trained on other weights than" in done.err) == (code == 2), done.err


def test_older_predictions_without_names_and_files_are_read(predicted: Path, tmp_path: Path):
    record = next(r for r in read_records([predicted / "records"]) if r["method"] == "feature")
    table = table_of(predicted, record)
    pq.write_table(table.select(["image_id", "category_id", "domain", "top5"]), tmp_path / "old.parquet")
    images, categories = read_predictions(tmp_path / "old.parquet")
    assert images.tolist() == table["image_id"].to_pylist() and categories.tolist() == table["category_id"].to_pylist()


def test_names_of_any_characters_and_classes_without_one(tmp_path: Path):
    names, odd = ("", "=1+1", 'é\n"', "x" * 2000), os.fsdecode(b"data/caf\xe9.png")
    path = write_predictions(tmp_path, "a" * 16, DOMAINS["svhn"], names, [odd, "b"], np.arange(2), torch.eye(4)[:2])
    table = pq.read_table(path)
    assert table["class_name"].to_pylist() == ["", "=1+1"]
    assert table["top5_names"].to_pylist() == [[*names], [names[1], names[0], *names[2:]]]
    assert table["file"].to_pylist() == ["data/caf\\xe9.png", "b"]


def test_five_of_many_classes_and_the_first_of_equals(tmp_path: Path):
    """Of equal logits argmax takes the first, which decides the accuracy."""
    logits = torch.zeros(3, 40)
    logits[0, 7], logits[1, 39] = 1.0, -1.0
    ids = np.array([81, 80, 85])
    path = write_predictions(
        tmp_path, "a" * 16, DOMAINS["svhn"], [f"c{i}" for i in range(40)], list("abc"), ids, logits
    )
    table = pq.read_table(path)
    assert table["image_id"].to_pylist() == [81, 80, 85], "in the split's order"
    assert (
        table["category_id"].to_pylist() == (80_000_001 + logits.argmax(1)).tolist() == [80_000_008] + [80_000_001] * 2
    )
    assert [len(top) for top in table["top5"].to_pylist()] == [5] * 3
    assert table["top5_names"].to_pylist()[0] == ["c7", "c0", "c1", "c2", "c3"]
    assert table["top5"].to_pylist()[0] == [80_000_008, *range(80_000_001, 80_000_005)]
    images, categories = read_predictions(path)
    assert images.tolist() == ids.tolist() and categories[0] == 80_000_008


def test_an_image_assigned_to_another_domain_has_no_category(tmp_path: Path):
    logits = torch.tensor([[0.0, 2.0, 1.0, -9.0], [0.0, 2.0, 1.0, 9.0]])
    path = write_predictions(tmp_path, "a" * 16, DOMAINS["svhn"], "xyz", "ab", np.array([1, 2]), logits)
    table = pq.read_table(path)
    assert table["class_name"].to_pylist() == ["y", None] and table["top5_names"].to_pylist() == [["y", "z", "x"]] * 2
    assert table["category_id"].to_pylist() == [80_000_002, None]
    assert table["top5"].to_pylist() == [[80_000_002, 80_000_003, 80_000_001]] * 2
    with pytest.raises(InputError, match=r"gives 1 image\(s\) no category"):
        read_predictions(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_file_without_predictions_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"x.parquet holds no predictions .*predictions=1"):
        read_predictions(tmp_path / "x.parquet")


def test_a_test_split_without_labels_is_predicted_on_request(here, tmp_path: Path, tiny: Path, capsys):
    """Trained on train and val; its record has no top-1 and enters no table."""
    words = ("--domains", "dtd", "--split", "test")
    refused = here(*words, method="feature", results=tmp_path)
    assert "holds no labels" in refused.sentence and "PREDICTIONS=1" in refused.sentence
    done = here(*words, "--predictions", method="feature", results=tmp_path)
    assert done.code == 0, done.err
    assert "feature      dtd            seed 0  predicted" in done.out
    assert "Without labels, so predicted and in no table: the test split of dtd." in done.out
    (record,) = read_records([tmp_path / "records"])
    assert record["top1"] is None and record["correct"] is None
    assert (record["train_images"], record["eval_images"], record["split"]) == (36, 6, "test")
    assert table_of(tmp_path, record)["image_id"].to_pylist() == read_split(tiny, DOMAINS["dtd"], "test").ids.tolist()
    assert tables(read_frame([tmp_path])) == [] and not (tmp_path / "table1.md").exists()
    again = here(*words, "--predictions", method="feature", results=tmp_path)
    assert again.code == 0 and "1 of 1 runs are finished already" in again.out and "evaluated" not in again.out
    assert main(["tables", "--results", str(tmp_path)]) == 2
    assert "there are no records with a top-1" in capsys.readouterr().err


def test_they_do_not_enter_a_runs_hash_and_train_no_baseline_for_a_score_that_cannot_come(planned):
    for split in ("val", "holdout"):
        _, _, with_them = planned("feature", split=split, predictions=True)
        _, _, without = planned("feature", split=split)
        assert [run.hash for run in with_them] == [run.hash for run in without] and len(without) == 10
    request, data, runs = planned("feature", split="test", predictions=True)
    said = []
    screen = SimpleNamespace(say=said.append)
    assert bench_module.baseline(request, data, runs, read_frame([]), screen) == ([], None) and said == []


def test_it_stands_beside_domains_with_labels(here, release, tmp_path: Path):
    data = release(tmp_path / "data", ("imagenet12", "dtd", "svhn"))
    labelled = release(tmp_path / "labelled", ("svhn",), test_labels=True)
    shutil.copy(labelled / "annotations" / "svhn_test.json", data / "annotations")
    words = ("--domains", "dtd", "svhn", "--split", "test", "--predictions", "--data", str(data))
    done = here(*words, method="feature", results=tmp_path / "r")
    assert done.code == 0, done.err
    records = {r["domain"]: r for r in read_records([tmp_path / "r" / "records"])}
    assert records["dtd"]["top1"] is None and records["svhn"]["top1"] == 100 * records["svhn"]["correct"] / 6
    (row,) = pq.read_table(tmp_path / "r" / "table1.parquet").to_pylist()
    assert row["SVHN"] == records["svhn"]["top1"] and row["DTD"] is None and row["domains"] == 1
    assert "no table: the test split of dtd." in done.out
