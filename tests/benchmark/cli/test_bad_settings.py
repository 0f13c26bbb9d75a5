"""A wrong method, setting or choice ends in one sentence, before anything is packed."""

import shutil
from pathlib import Path

import pytest

from visual_decathlon.benchmark.config.profiles import profile


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("res_adaptor", "did you mean res_adapter"),
        ("nothing_like_it_at_all", "no method is called"),
        ("res_adapter(intt='he')", "did you mean init"),
        ("res_adapter(init='hee')", "init must be 'source' or 'he' or 'zero'"),
        ("res_adapter(off_the_shelf='yes')", "off_the_shelf must be of type bool"),
        ("res_adapter(off_the_shelf=True)", "add init='zero' or init='he'"),
        ("feature(x=1)", "feature has no option 'x'"),
        ("feature(", "is not of the form"),
        ("zz*", "fits no method"),
        (" , ", "METHOD= is empty"),
        ("__import__('os').system('true')", "is not of the form"),
    ],
)
def test_wrong_method(method: str, expected: str, refused):
    assert expected in refused(method=method)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("epoch=3", "did you mean epochs"),
        ("image_size=32", "the side of the images is crop here"),
        ("decai=1e-4", "did you mean weight_decay?"),  # a slip in an old name
        ("epochs", "is not of the form setting=value"),
        ("epochs=0", "above 0"),
        ("epochs=-1", "a number from 0 up"),
        ("epochs=two", "epochs must be a whole number"),
        ("epochs=1.5", "epochs must be a whole number"),
        ("lr=nan", "a number from 0 up"),
        ("lr=x", "lr must be a number"),
        ("nesterov=maybe", "nesterov must be true or false"),
        ("schedule=cosine", "schedule must be one-cycle or steps"),
        ("precision=fp8", "precision must be fp32 or tf32 or bf16 or fp16"),
        ("milestones=a/b", "of the form 0.5/0.8"),
        ("width=0.1", "multiple of 1/32"),
        ("width=0.01", "multiple of 1/32"),
        ("crop=30", "multiple of 8"),
        ("crop=40", "no crop of 40"),
        ("uncropped_size=40", "no crop of 40"),
        ("resize=1000000", "up to 1024 pixels"),
        ("width=999", "multiple of 1/32, at most 32"),
        ("label_smoothing=2", "from 0 to 1"),
        ("momentum=1", "from 0 to below 1"),
        ("pretrain.momentum=1.5", "from 0 to below 1"),
        ("warmup_fraction=2", "from 0 to 1"),
        ("milestones=nan", "from 0 to 1"),
        ("milestones=0.5/-0.1", "from 0 to 1"),
        ("pretrain.milestones=0.5/inf", "from 0 to 1"),
        ("batch=1", "batch must be above 1"),
        ("pretrain.batch=1", "batch must be above 1"),
        ("backbone_seed=2147483648", "below 2147483648"),
        ("epochs=99999999999", "below 2147483648"),
        ("lr=0", "above 0; leave lr out to take"),
        ("pretrain.lr=0.0", "above 0; leave lr out to take"),
        ("follows=paper", "no setting is called 'follows'"),
        ("pretrain.follows=paper", "no setting is called 'pretrain.follows'"),
        ("network=quite_another", "there are resnet26, or torchvision/NAME or timm/NAME of any image classifier"),
        (
            "network=torchvision/resnet19",
            "no classifier of that name; did you mean torchvision/resnet18 or torchvision/resnet1",
        ),
    ],
)
def test_wrong_setting(setting: str, expected: str, refused, tmp_path: Path):
    sentence = refused(settings=setting)
    assert sentence.startswith(f"SET={setting.partition('=')[0]}") or "SET=resize" in sentence
    assert expected in sentence
    assert not (tmp_path / "cache" / "packs").exists(), "refused before anything is packed"


def test_settings_at_their_bounds():
    bounds = ["momentum=0.999", "warm=1", "pretrain.warmup_fraction=0", "drops=0/0.5/1"]
    assert profile("standin", bounds).adapt.milestones == (0.0, 0.5, 1.0)
    chosen = profile("standin", ["crop=8", "shorter=9", "batch=2", "backbone_seed=2147483647", "network=timm/resnet50"])
    assert (chosen.crop, chosen.adapt.batch, chosen.backbone_seed) == (8, 2, 2**31 - 1)
    assert chosen.adapt.lr == 0.0  # the method's own


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--domains", "mnist"], "DOMAINS=mnist: no domain has this name"),
        (["--domains", "svhn"], "DOMAINS=svhn: "),
        (["--seeds", "x"], "SEEDS=x"),
        (["--seeds", "0"], "SEEDS=0"),
        (["--seeds", "0,99999999999"], "SEEDS=0,99999999999"),
        (["--profile", "huge"], "standin, decathlon, standin-vit, decathlon-vit, decathlon-2018"),
        (["--own", "dtd=/nowhere"], "official domain"),
        (["--own", "mine=/nowhere"], "mine: /nowhere"),
        (["--own", "data=/nowhere"], "a column data already"),
        (["--own", f"{'x' * 61}=/nowhere"], "up to 60 of a-z"),
        (["--own", "mine=/nowhere", "--domains", "mime"], "ucf101, mine"),
        (["--data", "/" + "x" * 300], "cannot be read (File name too long)"),
        (["--backbone", "/" + "x" * 300], "cannot be read (File name too long)"),
        (["--own", f"mine=/{'x' * 300}"], "cannot be read (File name too long)"),
        (["--data", "~nobody-of-this-name"], "does not exist"),
        (["--own", "a=/x", "--own", "a=/y"], "given twice"),
        (["--backbone", "/nowhere"], "BACKBONE=/nowhere does not exist"),
        (["--split", "test"], "SPLIT=val"),
    ],
)
def test_wrong_choice(words: list[str], expected: str, refused):
    assert expected in refused(*words)


def test_holdout_of_too_few_images(refused, tiny: Path, tmp_path: Path):
    for title in "ab":
        (tmp_path / "few" / title).mkdir(parents=True)
        for i, source in enumerate(sorted((tiny / "data" / "dtd" / "train").iterdir())[:4]):
            shutil.copy(source, tmp_path / "few" / title / f"{i}.png")
    sentence = refused("--own", f"few={tmp_path / 'few'}", "--split", "holdout")
    assert sentence.startswith("few: ") and str(tmp_path / "few") in sentence and "SPLIT=val" in sentence
