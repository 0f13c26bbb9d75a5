"""Batches compared with torchvision's transforms, the properties of an epoch's plan, and the gather on the device."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from visual_decathlon.benchmark.training.loader import HOLDOUT_FOLDS, select_indices
from visual_decathlon.datasets import batches as batching
from visual_decathlon.datasets.annotations import Split
from visual_decathlon.datasets.batches import Batches, _Resident, whole_pack
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.datasets.pack import Pack, pack

CROP = 16
SIZES = [(16, 16), (17, 18), (18, 40), (19, 16), (16, 29), (31, 16), (16, 23), (17, 17), (45, 20), (20, 21), (16, 16)]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """`make(sizes)`: a pack of random images of these (width, height), labelled 0, 1, 2, 0, ..."""

    def packed(sizes=SIZES, labels=None, seed=0) -> Pack:
        root = tmp_path_factory.mktemp("release")
        rng = np.random.default_rng(seed)
        for i, (width, height) in enumerate(sizes):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{i:04}.png")
        files = [f"{i:04}.png" for i in range(len(sizes))]
        labels = np.arange(len(sizes)) % 3 if labels is None else np.array(labels)
        split = Split(DOMAINS["dtd"], "train", root, files, np.arange(len(sizes)) + 100 * seed, labels, ("a", "b", "c"),
                      "tiny", root)  # fmt: skip
        return pack(split, root / "cache", min(map(min, sizes)))

    return packed


@pytest.fixture(scope="module")
def ragged(make) -> Pack:
    """Images with sides of 16 pixels and more; packing keeps shorter sides of 16 and 17 and resizes the others."""
    return make()


def batches(*packs: Pack, domain="dtd", batch=4, crop=CROP, **how) -> Batches:
    return Batches([whole_pack(p) for p in packs], DOMAINS[domain], crop, batch, **how)


# --- against torchvision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_evaluation_is_torchvisions(ragged, domain):
    from torchvision import transforms

    mean, std = DOMAINS[domain].mean, DOMAINS[domain].std
    transform = transforms.Compose(
        [transforms.CenterCrop(CROP), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    wanted = torch.stack([transform(Image.fromarray(ragged.image(i))) for i in range(len(ragged))])
    got = torch.cat([x for x, _ in batches(ragged, domain=domain).evaluate(3)])
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-6


def test_every_slack_is_centred_as_torchvision_does(make):
    """If the slack is odd, the centre is rounded to the even pixel."""
    from torchvision import transforms

    wide = make([(16 + slack, 16) for slack in range(12)])
    for i, (x, _) in enumerate(batches(wide).evaluate(1)):
        wanted = transforms.CenterCrop(CROP)(Image.fromarray(wide.image(i)))
        assert torch.equal(x, batches(wide).normalise(torch.from_numpy(np.array(wanted))[None]))


def test_evaluation_is_in_order_and_whole(ragged):
    shown = list(batches(ragged).evaluate(3))
    assert torch.cat([y for _, y in shown]).tolist() == ragged.labels.tolist()
    assert all(len(y) <= 3 for _, y in shown) and all(y.dtype == torch.int64 for _, y in shown)


# --- the plan of an epoch ---------------------------------------------------------------------------------------


def test_crops_stay_inside_and_reach_both_ends(ragged):
    of = batches(ragged)
    square = of.sizes.min(axis=1, keepdims=True)  # the centre square, from which test crops come too
    first = np.rint((of.sizes - square) / 2).astype(int)
    seen = [set() for _ in of.sizes]
    for epoch in range(300):
        plan = of.plan(0, epoch)
        assert sorted(plan.index) == list(range(len(of)))  # every image once
        for i, top, left in zip(plan.index, plan.top, plan.left, strict=True):
            seen[i].add((int(top), int(left)))
    for offsets, (down, across), slack in zip(seen, first, square[:, 0] - CROP, strict=True):
        assert {top for top, _ in offsets} == set(range(down, down + slack + 1))
        assert {left for _, left in offsets} == set(range(across, across + slack + 1))


def test_offsets_are_uniform_and_half_are_flipped(make):
    of = batches(make([(20, 20)] * 50))
    plans = [of.plan(3, epoch) for epoch in range(80)]
    n = 80 * 50
    for offsets, ways in (([p.left for p in plans], 5), ([p.top for p in plans], 5), ([p.flip for p in plans], 2)):
        counts = np.bincount(np.concatenate(offsets).astype(int), minlength=ways)
        assert len(counts) == ways
        deviation = (n / ways * (1 - 1 / ways)) ** 0.5
        assert np.abs(counts - n / ways).max() < 5 * deviation
    # the three draws are independent
    left, top, flip = (np.concatenate([getattr(p, name) for p in plans]) for name in ("left", "top", "flip"))
    assert np.abs(np.corrcoef([left, top, flip])[np.triu_indices(3, 1)]).max() < 5 / n**0.5


@pytest.mark.parametrize("domain", DOMAINS)
def test_flips_where_the_domain_allows(ragged, domain):
    of = batches(ragged, domain=domain)
    flips = np.concatenate([of.plan(0, epoch).flip for epoch in range(20)])
    assert flips.any() == (domain not in ("gtsrb", "omniglot", "svhn"))
    assert not flips.all()


def test_a_plan_is_a_function_of_seed_and_epoch(ragged):
    def drawn(seed, epoch, domain="dtd") -> bytes:
        np.random.seed(np.random.randint(1000))  # the global generators have no influence
        torch.manual_seed(int(torch.randint(1000, ())))
        return b"".join(np.ascontiguousarray(f).tobytes() for f in batches(ragged, domain=domain).plan(seed, epoch))

    assert drawn(0, 0) == drawn(0, 0)
    assert len({drawn(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
    assert drawn(0, 0) != drawn(0, 0, domain="aircraft")


def test_centre_crops_in_training_where_nothing_is_cropped(ragged):
    of = batches(ragged, domain="svhn", random=False)
    centre, plan = of.centre(), of.plan(0, 5)
    assert not np.array_equal(plan.index, centre.index)  # shuffled still
    assert np.array_equal(plan.top, centre.top[plan.index]) and np.array_equal(plan.left, centre.left[plan.index])
    assert not plan.flip.any()


def test_training_follows_the_plan(ragged):
    of = batches(ragged)
    plan = of.plan(2, 7)
    assert plan.flip.any() and not plan.flip.all()
    x, y = (torch.cat(part) for part in zip(*of.train(2, 7), strict=True))
    for row, (i, top, left, flip) in enumerate(zip(*plan, strict=True)):
        window = ragged.image(i)[top : top + CROP, left : left + CROP]
        window = np.fliplr(window) if flip else window
        assert torch.equal(x[row], of.normalise(torch.from_numpy(window.copy())[None])[0])
        assert y[row] == ragged.labels[i]


@pytest.mark.parametrize(("images", "batch"), [(11, 4), (11, 3), (11, 16), (11, 1), (11, 11), (7, 2)])
def test_an_epoch_is_cut_evenly(make, images, batch):
    of = batches(make([(16, 16)] * images), batch=batch)
    sizes = [len(y) for _, y in of.train(0, 0)]
    assert len(sizes) == of.steps and sum(sizes) == images
    assert max(sizes) - min(sizes) <= 1
    assert abs(of.steps - images / batch) <= 0.5 or of.steps == 1


def test_layout_and_type(ragged):
    x, y = next(batches(ragged).train(0, 0))
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.shape == (len(y), 3, CROP, CROP)
    assert x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


# --- the device's gather ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 1024])
def test_the_gather_gives_the_bytes_of_the_slices(ragged, make, monkeypatch, chunk):
    monkeypatch.setattr(batching, "_CHUNK", chunk)
    other = make([(16, 21), (25, 17)], seed=1)
    of = Batches([(ragged, np.array([8, 2, 5])), whole_pack(other), (ragged, np.array([9]))], DOMAINS["dtd"], CROP, 4)
    copied = []
    join = np.concatenate
    with monkeypatch.context() as patched:
        patched.setattr(np, "concatenate", lambda arrays: copied.append(len(arrays)) or join(arrays))
        resident = _Resident(of)
    assert sum(copied) == len(of) == 6 and max(copied) == min(chunk, 6)  # the host holds one chunk at a time
    for plan in (of.centre(), *(of.plan(0, epoch) for epoch in range(10))):
        gathered = resident.gather(plan)
        assert gathered.dtype == torch.uint8
        assert gathered.numpy().tobytes() == of.slices(plan).numpy().tobytes()
    plain = [x for x, _ in of.train(0, 3)]
    of._resident = resident
    for (x, _), wanted in zip(of.train(0, 3), plain, strict=True):
        assert torch.equal(x, wanted) and x.is_contiguous(memory_format=torch.channels_last)


def test_pixels_live_on_the_device_where_they_fit(ragged, monkeypatch):
    need = 3 * int(ragged.sizes.prod(axis=1).sum())
    shown = []
    for room in (need, need - 1):
        monkeypatch.setattr(batching, "_room", lambda device, room=room: room)
        of = Batches([whole_pack(ragged)], DOMAINS["dtd"], CROP, 4)
        assert (of._resident is not None) == (room == need)
        shown.append([x for x, _ in of.train(0, 3)])
    assert all(torch.equal(a, b) for a, b in zip(*shown, strict=True))


# --- parts ------------------------------------------------------------------------------------------------------


def test_parts_are_joined(ragged, make):
    other = make([(16, 21), (25, 17), (16, 16)], labels=[2, 2, 1], seed=1)
    keep = np.array([8, 2, 5])
    of = Batches([(ragged, keep), whole_pack(other)], DOMAINS["dtd"], CROP, 4)
    assert len(of) == 6
    assert of.ids.tolist() == [8, 2, 5, 100, 101, 102]
    assert of.labels.tolist() == [2, 2, 2, 2, 2, 1]
    images = [ragged.image(i) for i in keep] + [other.image(i) for i in range(3)]
    assert [tuple(s) for s in of.sizes] == [image.shape[:2] for image in images]
    for i, (image, window) in enumerate(zip(images, of.slices(of.centre()), strict=True)):
        top, left = of.centre().top[i], of.centre().left[i]
        assert np.array_equal(window, image[top : top + CROP, left : left + CROP])


def test_no_labels(ragged, make):
    stripped = make([(16, 16)] * 3, seed=2)
    stripped.labels = None
    of = batches(ragged, stripped)
    assert of.labels is None and sum(len(x) for x, _ in of.evaluate(4)) == 14


def test_no_image_and_a_too_small_image_are_refused(ragged):
    with pytest.raises(InputError, match=r"dtd: an image of 16 pixels .* cannot show 17"):
        batches(ragged, crop=17)
    with pytest.raises(InputError, match="dtd: no image is left"):
        Batches([(ragged, np.arange(0))], DOMAINS["dtd"], CROP, 4)


def test_training_needs_two_images(ragged):
    """With one image batch norm would see one value per channel; for evaluation one image is enough."""
    one, two = (Batches([(ragged, np.arange(n))], DOMAINS["dtd"], CROP, 4) for n in (1, 2))
    with pytest.raises(InputError, match=r"^dtd: training needs at least 2 training images; "):
        next(one.train(0, 0))
    assert [len(y) for _, y in one.evaluate()] == [1] and [len(y) for _, y in two.train(0, 0)] == [2]


def test_holdout_and_limit(make):
    labels = [0] * 11 + [1] * 5 + [2] * 4 + [0] * 4
    packed = make([(16, 16)] * len(labels), labels=labels)
    fit, held, everyone = (select_indices(packed, part, None) for part in ("fit", "held", "all"))
    assert not set(fit) & set(held)
    assert sorted([*fit, *held]) == everyone.tolist() == list(range(len(labels)))
    of_class = [np.flatnonzero(packed.labels == c) for c in range(3)]
    for images in of_class:  # the last fifth of each class, in the release's order
        cut = len(images) // HOLDOUT_FOLDS
        assert sorted(set(held) & set(images)) == images[len(images) - cut :].tolist()
    assert len(held) == 15 // 5 + 5 // 5 + 4 // 5
    for part, all_of in (("all", everyone), ("fit", fit), ("held", held)):
        for limit in (1, 3, 4, len(all_of), 100):
            some = select_indices(packed, part, limit)
            assert len(some) == min(limit, len(all_of)) == len(set(some))
            assert set(some) <= set(all_of) and some.tolist() == sorted(some)
    assert {packed.labels[i] for i in select_indices(packed, "all", 6)} == {0, 1, 2}  # spread over the split


def test_the_domain_decides_the_normalisation(ragged):
    """Mean and standard deviation are those of the domain, not of the pack."""
    grey = dataclasses.replace(DOMAINS["dtd"], mean=(0.0,) * 3, std=(1.0,) * 3)
    x, _ = next(Batches([whole_pack(ragged)], grey, CROP, 11).evaluate())
    assert float(x.min()) >= 0 and float(x.max()) <= 1
    assert torch.equal((x * 255).round().to(torch.uint8)[0].permute(1, 2, 0), torch.from_numpy(ragged.image(0).copy()))
