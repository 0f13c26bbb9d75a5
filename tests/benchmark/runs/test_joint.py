"""Joint training over all domains: its batches, shared weights, domain classifier, and the runs that use it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load

from visual_decathlon.benchmark.backbones.resnet26 import resnet26
from visual_decathlon.benchmark.backbones.safetensors_file import read_safetensors, write_safetensors
from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes
from visual_decathlon.benchmark.records.provenance import Provenance
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.job import JointTrainingJob, RunJob, jobs_for
from visual_decathlon.benchmark.runs.joint import (
    DomainLabelledBatches,
    InterleavedBatches,
    load_joint,
    train_joint,
)
from visual_decathlon.benchmark.training.loader import open_images
from visual_decathlon.benchmark.training.pretrain import pretrain
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.joint import DomPred, FinetuneAll, classifier_widths
from visual_decathlon.methods.layers.joint import DomainClassifier, DomainRoutedNetwork, JointNetwork
from visual_decathlon.methods.layers.network import own_tensors, stored_tensors
from visual_decathlon.methods.layers.series import put_series

NAMES = ("dtd", "svhn", "daimlerpedcls")


@pytest.fixture
def runs(planned, tmp_path: Path):
    """The runs of both joint methods on three domains, their backbone pretrained."""
    request, _, planned_runs = planned("res_adapter_finetune_all,res_adapter_dom_pred", domains=NAMES, cache=tmp_path)
    pretrain(planned_runs[0].backbone, "cpu", lambda row: None)
    return {method.name: [run for run in planned_runs if run.method == method.full_spec] for method in request.methods}


def opened(run) -> dict:
    return {i.domain.name: open_images(i, run.profile, 8, "cpu") for i in run.joint.images}


def test_the_classifier_stands_on_the_networks_of_finetune_all(runs):
    """One training of the networks for both methods; the classifier is another, and part of the run's identity."""
    alone, routed = (runs[f"res_adapter_{name}"][0] for name in ("finetune_all", "dom_pred"))
    assert alone.joint == routed.joint and alone.classifier is None
    assert routed.classifier.hash != routed.joint.hash != replace(routed.joint, classifier=True).hash
    assert replace(routed, classifier=None).hash != routed.hash
    provenance = Provenance.__new__(Provenance)
    jobs = jobs_for([*runs["res_adapter_finetune_all"], *runs["res_adapter_dom_pred"]], Path("r"), provenance)
    over_all = [job for job in jobs if isinstance(job, JointTrainingJob)]
    assert [job.describe() for job in over_all] == [
        "res_adapter_finetune_all over all domains",
        "res_adapter_dom_pred, its classifier, over all domains",
    ]
    keys = [{job.key for job in over_all[:1]}, {job.key for job in over_all}]
    for job in jobs:
        if isinstance(job, RunJob):
            wanted = keys[job.run.classifier is not None] | {job.run.backbone.hash}
            assert job.dependencies == wanted and not job.run.source_cell


def test_interleaved_batches_are_the_epoch_of_every_domain_in_random_order(runs):
    domains = opened(runs["res_adapter_finetune_all"][0])
    batches = InterleavedBatches(domains)
    seen = list(batches.train(3, 1))
    assert len(seen) == batches.steps == sum(b.steps for b in domains.values())
    order = [name for (name, _), _ in seen]
    assert order != sorted(order, key=NAMES.index)  # not one domain after the other
    for name, own in domains.items():
        mine = [(x, y) for (other, x), y in seen if other == name]
        for (x, y), (wanted, labels) in zip(mine, own.train(3, 1), strict=True):
            assert torch.equal(x, wanted) and torch.equal(y, labels)


def test_domain_labelled_batches_show_unnormalised_images_by_the_root_of_their_number(runs):
    domains = opened(runs["res_adapter_dom_pred"][0])
    small = replace(runs["res_adapter_dom_pred"][0].joint.images[0], limit=7)
    domains[small.domain.name] = open_images(small, runs["res_adapter_dom_pred"][0].profile, 8, "cpu")
    batches = DomainLabelledBatches(domains)
    images = [len(part) for part in domains.values()]
    roots = [n**0.5 for n in images]
    wanted = [round(sum(images) * root / sum(roots)) for root in roots]
    assert wanted[0] > images[0] == 7  # it is shown more than once
    xs, ys = zip(*batches.train(3, 1))
    x, y = torch.cat(xs), torch.cat(ys)
    assert y.bincount().tolist() == wanted and len(batches) == sum(wanted) == len(x) and len(xs) == batches.steps
    assert min(len(set(y.tolist())) for y in ys) > 1  # a batch of one domain would hide it from batch norm
    assert 0 <= x.min() < x.max() <= 1
    for index, part in enumerate(domains.values()):
        passes = -(-wanted[index] // images[index])
        shown = [part.pixels(part.plan(3, passes + i)) for i in range(passes)]
        expected = torch.cat(shown).permute(0, 3, 1, 2)[: wanted[index]] / 255
        got = x[y == index]
        assert all(any(torch.allclose(a, b, atol=1e-6) for b in expected) for a in got)
        assert torch.allclose(got.mean((2, 3)).sort(0)[0], expected.mean((2, 3)).sort(0)[0], atol=1e-5)  # each once
    again = torch.cat([y for _, y in batches.train(3, 2)])
    assert again.bincount().tolist() == wanted and not torch.equal(again, y)


def _series():
    torch.manual_seed(0)
    network = resnet26(3, 0.125)
    put_series(network)
    return network.requires_grad_(False).eval()


def test_joint_networks_share_the_convolutions_and_nothing_else():
    source = _series()
    before = {n: t.clone() for n, t in source.state_dict().items()}
    module = JointNetwork(source, {"a": 4, "b": 6}).train()
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    first, second = module.networks["a"], module.networks["b"]
    moved = {n: t.clone() for n, t in module.state_dict().items()}
    optimiser = FinetuneAll().optimiser(FinetuneAll().groups(module, 1e-4, 100), 0.1, 0.9, True)
    for _ in range(2):
        loss, logits = FinetuneAll().loss(module, ("a", x), y, F.cross_entropy)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    assert logits.shape == (8, 4)
    after = module.state_dict()
    for name, t in after.items():
        shared = name.endswith("conv.conv.weight")
        mine = name.startswith("networks.a.")
        assert torch.equal(t, moved[name]) != (shared or mine), name
    for (_, a), (_, b) in zip(first.conv_sites(), second.conv_sites()):
        assert a.conv.weight is b.conv.weight and a.mix.weight is not b.mix.weight
    assert all(torch.equal(t, before[n]) for n, t in source.state_dict().items())
    kept = stored_tensors(first, module.trunk)  # a domain's file holds no shared weight
    floats = sum(t.numel() for n, t in kept.items() if "running" not in n and "num_batches" not in n)
    shapes = resnet26_shapes(0.125)
    assert floats == FinetuneAll().floats(shapes) + shapes.head(4)


def test_images_of_another_domain_count_as_mistakes():
    torch.manual_seed(0)
    classifier, network = DomainClassifier(classifier_widths(4), 3).train(), resnet26(5, 0.125).eval()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    images = torch.rand(64, 3, 40, 40)
    with torch.no_grad():
        images *= torch.rand(64, 3, 1, 1)  # colours differ, or the classifier assigns all to one domain
        x = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        for _ in range(20):
            classifier(images)
        chosen = classifier.eval()(images[:, :, 4:36, 4:36]).argmax(1)
        assert 0 < (chosen == 1).sum() < 64  # both happen
        plain, out = network(x).argmax(1), DomainRoutedNetwork(network, classifier, 1, mean, std, 32)(x).argmax(1)
    assert torch.equal(out, torch.where(chosen == 1, plain, 5))


def test_the_domain_classifiers_size_is_its_closed_form():
    shapes = resnet26_shapes(0.25)
    assert DomPred().shared_params(shapes) == sum(
        p.numel() for p in DomainClassifier(classifier_widths(8), 10).parameters()
    )
    assert DomPred().multiplier(resnet26_shapes()) == pytest.approx(2.49, abs=0.005)


@pytest.mark.parametrize("part", ["joint", "classifier"])
def test_a_stopped_joint_training_continues_to_the_same_bits(runs, part):
    joint = getattr(runs["res_adapter_dom_pred"][0], part)

    class Stop(Exception):
        """Ends a training between two epochs."""

    def stop(row):
        raise Stop

    train_joint(joint, "cpu", lambda row: None)
    whole = joint.path.read_bytes()
    joint.path.unlink()
    with pytest.raises(Stop):
        train_joint(joint, "cpu", stop)
    assert not joint.path.is_file()
    train_joint(joint, "cpu", lambda row: None)
    module, history, _ = load_joint(joint, "cpu")
    assert sum(row["seconds"] for row in history) > 0
    wanted = load(whole)
    source = own_tensors(module, torch.nn.Module())
    assert all(torch.equal(source[n], t) for n, t in wanted.items())


def test_a_file_of_another_training_is_refused(runs):
    """Under its own hash, with an epoch more in the recipe; and a file whose facts or weights are damaged."""
    joint = runs["res_adapter_finetune_all"][0].joint
    train_joint(joint, "cpu", lambda row: None)
    tensors, about = read_safetensors(joint.path)
    write_safetensors(joint.path, tensors, {k: v for k, v in about.items() if k != "hash"})  # as older files
    assert load_joint(joint, "cpu")[1]
    first = next(name for name, t in tensors.items() if t.is_floating_point())
    nan = tensors | {first: torch.full_like(tensors[first], torch.nan)}
    for changed, words, sentence in (
        (tensors, {"hash": "0123456789abcdef"}, "is of another training"),
        (tensors, {"history": "5"}, "is damaged"),
        (dict(list(tensors.items())[1:]), {}, "lacks"),
        (nan, {}, first),
    ):
        write_safetensors(joint.path, changed, about | words)
        with pytest.raises(InputError, match=sentence) as caught:
            load_joint(joint, "cpu")
        assert str(joint.path) in str(caught.value) and "remove it, and it is trained again" in str(caught.value)


def test_the_run_of_every_domain_uses_the_joint_training(here, tmp_path: Path):
    four = "res_adapter_finetune_all,res_adapter_dom_pred,par_adapter_joint_svd,joint_signs"
    done = here("--domains", *NAMES, method=four, results=tmp_path / "r")
    assert done.code == 0, done.err
    assert done.out.count("its domain recognised") == 3
    records = read_records([tmp_path / "r" / "records"])
    assert len(records) == 12
    assert all((tmp_path / "r" / "adapters" / f"{r['hash']}.safetensors").stat().st_size == r["bytes"] for r in records)
    by = {(r["method"], r["domain"]): r for r in records}
    for name in NAMES:
        routed, joint = by["res_adapter_dom_pred", name], by["res_adapter_finetune_all", name]
        assert routed["prepare_seconds"] > 0 and len(joint["history"]) == 2
        assert routed["history"] == joint["history"]  # the same networks
        assert joint["routed"] is None and routed["correct"] <= min(routed["routed"], joint["correct"])
        assert joint["correct"] - routed["correct"] <= routed["eval_images"] - routed["routed"]
        assert routed["multiplier"] > joint["multiplier"]
        assert np.isclose(joint["train_seconds"], sum(row["seconds"] for row in joint["history"]))
