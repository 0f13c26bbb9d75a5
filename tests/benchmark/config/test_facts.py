"""Compares published rows, profiles and defaults of methods with the same numbers, typed a second time.

Everything that decides the numbers of a run, or is shown next to them, is checked by a second copy.
"""

import csv
import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visual_decathlon.benchmark.config.profiles import PROFILES, RECORDED_NAMES, Recipe
from visual_decathlon.benchmark.config.specs import NEWER_OF_RECIPE
from visual_decathlon.benchmark.tables import published
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.registry import entries

ROOT = Path(__file__).parents[3]
FACTS = Path(__file__).with_name("published_facts.csv")  # typed from the papers, apart from results/published


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_published_rows_are_as_they_were_typed_a_second_time():
    names = list(rows(FACTS)[0])
    assert {*DOMAINS, "label", "mean", "S"} < set(names)
    assert [{n: row[n] for n in names} for row in rows(published.PATH)] == rows(FACTS)


def test_the_second_copy_adds_up():
    """This finds a cell that was mistyped in both copies: means and scores are those of the papers."""
    facts = rows(FACTS)
    fine = next(row for row in facts if row["label"] == "Finetune")
    for row in facts:
        if not row["svhn"]:
            continue
        cells = [float(row[name]) for name in DOMAINS]
        digits = max(len(row[name].partition(".")[2]) for name in DOMAINS)
        assert sum(cells) / 10 == pytest.approx(float(row["mean"]), abs=0.011 if digits == 2 else 0.11), row["label"]
        limits = [2 * (100 - float(fine[name])) for name in DOMAINS]
        score = sum(1000 * (max(0.0, e - (100 - c)) / e) ** 2 for c, e in zip(cells, limits, strict=True))
        assert score == pytest.approx(float(row["S"]), abs=4 if digits == 2 else 20), row["label"]


def test_the_second_copy_equals_the_source(shared: Path):
    names = [name for name in rows(FACTS)[0] if name != "method"]  # the registry's entries are ours to name
    for row, fact in zip(rows(shared / "published.csv"), rows(FACTS), strict=True):
        assert {n: row[n] for n in names} == {n: fact[n] for n in names}


def test_figures_of_other_benchmarks():
    chapter = [
        (r["method"], r["params_m"], r["SID"], r["SD"], r["ER"]) for r in rows(published.PUBLISHED / "chapter.csv")
    ]
    assert chapter == [
        ("FT", "94.7", "64.56", "3.58", "68.94"),
        ("Houlsby32", "0.6", "87.71", "4", "65.25"),
        ("Houlsby128", "4.61", "89.44", "3.91", "66.82"),
        ("CHAPTER", "4.67", "91.56", "3.84", "70.41"),
    ]
    names = ("model", "method", "flops_ratio", "top1_change", "top5_change")
    assert [" ".join(r[n] or "-" for n in names) for r in rows(published.PUBLISHED / "compression.csv")] == [
        "VGG-16 Asym. ~5.00 - -1.00",
        "VGG-16 TKD+VBMF 4.93 - -0.50",
        "VGG-16 EPS=0.005 5.26 -0.92 -0.34",
        "ResNet-18 Channel Gating 1.61 -1.62 -1.03",
        "ResNet-18 Discrimination-aware 1.89 -2.29 -1.38",
        "ResNet-18 FBS 1.98 -2.54 -1.46",
        "ResNet-18 MUSCO 2.42 -0.47 -0.30",
        "ResNet-18 EPS=0.00325 3.09 -0.69 -0.15",
        "ResNet-50 EPS=0.0028 2.64 -1.47 -0.71",
    ]


PAPER = {
    "epochs": 120,
    "batch": 128,
    "weight_decay": 1e-4,
    "schedule": "steps",
    "milestones": (80 / 120, 100 / 120),
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "label_smoothing": 0.0,
    "norm_head_decay": 1.0,
    "decay_leak": False,
    "paper_lr": 0.0,
}
DOMAIN = PAPER | {"lr": 0.0, "paper_lr": 0.1}
STANDIN_RECIPE = {
    "epochs": 20,
    "batch": 16,
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "milestones": (),
    "lr": 0.0,
    "momentum": 0.9,
    "nesterov": True,
    "label_smoothing": 0.0,
    "warmup_fraction": 0.2,
    "norm_head_decay": 1.0,
    "decay_leak": False,
    "paper_lr": 0.0,
}
SHAPES = {  # width, shorter side, crop, side of what is never cropped
    "standin": (0.25, 36, 32, 0),
    "decathlon": (1.0, 72, 64, 72),
    "standin-vit": (1.0, 36, 32, 0),
    "decathlon-vit": (1.0, 72, 64, 64),
    "decathlon-2018": (1.0, 72, 64, 72),
    "decathlon-2018-released": (1.0, 72, 64, 72),
}
NETWORKS = {
    "standin-vit": "timm/vit_tiny_patch16_224(depth=4,embed_dim=48,img_size=32,num_heads=4,patch_size=4)",
    "decathlon-vit": "timm/vit_tiny_patch16_224(img_size=64,patch_size=8)",
}
RECIPES = {  # of a domain, of the backbone
    "standin": (STANDIN_RECIPE, STANDIN_RECIPE | {"batch": 64, "lr": 0.2}),
    "decathlon": (DOMAIN, PAPER),
    "standin-vit": (STANDIN_RECIPE, STANDIN_RECIPE | {"batch": 64, "lr": 0.2}),
    "decathlon-vit": (DOMAIN, PAPER),
    "decathlon-2018": (DOMAIN | {"norm_head_decay": 5.0}, PAPER),
    "decathlon-2018-released": (DOMAIN | {"norm_head_decay": 5.0, "decay_leak": True}, PAPER),
}


def test_profiles_are_those_of_the_paper_and_of_the_records():
    assert set(PROFILES) == set(SHAPES)
    for name, profile in PROFILES.items():
        assert (profile.name, profile.network, profile.precision) == (name, NETWORKS.get(name, "resnet26"), "fp32")
        assert (profile.width, profile.resize, profile.crop, profile.uncropped_size) == SHAPES[name]
        assert (profile.backbone_seed, profile.compile) == (0, False)
        for recipe, wanted in zip((profile.adapt, profile.pretrain), RECIPES[name], strict=True):
            assert {key: getattr(recipe, key) for key in wanted} == wanted, name
    assert {f.name for f in dataclasses.fields(Recipe)} == {*STANDIN_RECIPE, "follows"}, "every field is checked here"


def test_the_shipped_records_were_made_with_these_settings():
    """If a default changes, the shipped records no longer belong to the profile."""
    shipped = pq.read_table(ROOT / "results" / "standin" / "records.parquet", columns=["profile", "settings"])
    width, resize, crop, uncropped = SHAPES["standin"]
    for text in shipped["settings"].unique().to_pylist():
        settings = json.loads(text)
        assert [settings[name] for name in ("width", "shorter", "crop", "whole")] == [width, resize, crop, uncropped]
        assert (settings["network"], settings["precision"]) == ("resnet26", "fp32")
        for part, wanted in zip(("adapt", "pretrain"), RECIPES["standin"], strict=True):
            assert not NEWER_OF_RECIPE.keys() & settings[part].keys()
            kept = {key: settings[part][RECORDED_NAMES.get(key, key)] for key in wanted.keys() - NEWER_OF_RECIPE.keys()}
            assert {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()} | NEWER_OF_RECIPE == wanted


FIVE = "('aircraft', 'dtd', 'gtsrb', 'vgg-flowers', 'ucf101')"
LORA = "lora(rank=8, alpha=8.0, form='filters', scaling='linear', init='kaiming', lr_ratio=1.0)"
METHODS = f"""
adalora       0.15 adalora(rank=12, target=8, alpha=12.0, gamma=0.1, interval=10)
adaptformer   0.1  adaptformer(bottleneck=64, scale=0.1, where='mlp')
adapter       0.3  adapter(arrangement='parallel', conv='matching', scale='learned', group_count=2)
adaptformer   0.1  adaptformer(bottleneck=64, scale=0.1, where='mlp')
arc           0.1  arc(rank=32, revision=2)
ba2           0.1  ba2(budget=0.75, weight=1.0)
bitfit        0.1  bitfit(revision=2)
bn_adapt      0.2  bn_adapt
boft          0.1  boft(block=4, factors=4)
c3a           0.3  c3a(block=32)
chapter       0.1  chapter(stages=(0,))
colora        0.15 colora(rank=8, shared=4, alpha=8.0)
conv_adapter  0.3  conv_adapter(reduction=8, where='block')
covnorm       0.1  covnorm(keep=0.105, revision=2)
dan           0.1  dan
delora        0.15 delora(rank=8, strength=15.0)
depthwise     0.1  depthwise
dora          0.15 dora(rank=8, alpha=8.0)
dtl           0.1  dtl(rank=4, kernel=0)
fact          0.3  fact(rank=16, form='tt', scale=0.3)
feature       0.1  feature
filter_atoms  0.1  filter_atoms(inner=4)
finetune      0.05 finetune
fourierft     0.1  fourierft(count=1000, scale=1.0, position_seed=0)
glora         0.15 glora(rank=4, shift='low-rank')
hira          0.15 hira(rank=8)
houlsby       0.1  houlsby(bottleneck=8)
householder   0.15 householder(rank=1)
hra           0.03 hra(rank=8)
ia3           0.1  ia3(revision=2)
loha          0.15 loha(rank=4, alpha=4.0)
lokr          0.1  lokr(rank=8, alpha=8.0, factor=-1)
joint_signs   0.1  joint_signs(group=6)
lora          0.15 {LORA}
lora_cp       0.15 lora_cp(rank=8, alpha=8.0)
lora_tkd      0.15 lora_tkd(r1=8, r2=8, alpha=8.0)
lora_tkd_cp   0.15 lora_tkd_cp(r1=8, r2=8, rank=8, alpha=8.0)
lora_tucker   0.15 lora_tucker(rank=8, alpha=8.0)
lst           0.1  lst(reduction=4)
lwf           0.2  lwf(weight=1.0, temperature=2.0)
mona          0.3  mona(bottleneck=16)
oft           0.06 oft(block=32, side='right')
pad_prompt    0.1  pad_prompt(width=4)
par_adapter   0.1  par_adapter(init='zero')
par_adapter_joint_svd 0.1 par_adapter_joint_svd(init='zero', kept=0.44, revision=2)
par_adapter_svd 0.1 par_adapter_svd(init='zero', rank=16, every=20)
partial       0.05 partial(views=0, last=1)
pfeiffer      0.1  pfeiffer(bottleneck=8)
piggyback     0.1  piggyback(adam=False, own_norm=True)
prefix        0.1  prefix(tokens=10, form='mlp', hidden=512)
prompt        0.1  prompt(tokens=10, deep=True)
quantised     0.15 quantised(method="{LORA}", store='int4', block=32)
randlora      0.15 randlora(rank=8, basis_seed=0)
rep_adapter   0.1  rep_adapter(bias=False, hidden=8, scale=1.0, dropout=0.1)
res_adapter   0.1  res_adapter(init='source', off_the_shelf=False)
res_adapter_decay 0.1 res_adapter_decay(init='source', off_the_shelf=False, factor=5.0, domains={FIVE})
res_adapter_dom_pred 0.1 res_adapter_dom_pred(revision=2)
res_adapter_finetune_all 0.1 res_adapter_finetune_all
res_adapter_large 0.1 res_adapter_large(init='source', off_the_shelf=False, factor=5.0, domains={FIVE})
scratch       0.1  scratch
scratch_plus  0.1  scratch_plus
shira         0.15 shira(share=0.02, mask='random', position_seed=0)
signs         0.1  signs(group=4)
side          0.1  side(views=3, width=16, depths=4, ridge=0.3)
snell         0.3  snell(dim=32, sparsity=0.9)
spatial_adapter 0.3 spatial_adapter(bottleneck=16)
spottune      0.05 spottune(temperature=5.0, revision=2)
ssf           0.1  ssf(revision=2)
taps          0.2  taps(weight=1.0)
vera          0.15 vera(rank=256, basis_seed=0)
"""


def test_rates_and_default_options_of_every_method():
    """They are in the hash of every run: with another default it is another run."""
    own = [entry() for entry in entries() if entry.__module__.startswith("visual_decathlon.methods.")]
    defaults = {method.name: (method.lr, method.full_spec) for method in own}
    wanted = {}
    for line in METHODS.strip().splitlines():
        name, rate, spec = line.split(maxsplit=2)
        wanted[name] = (float(rate), spec)
    assert defaults == wanted


def test_rates_are_those_that_the_recorded_sweep_chose():
    swept = pq.read_table(ROOT / "results" / "standin" / "sweep.parquet").to_pylist()
    chosen = {row["method"]: row["lr"] for row in swept if row["chosen"]}
    assert len(chosen) == 62
    assert {entry.name: entry.lr for entry in entries() if entry.name in chosen} == chosen
