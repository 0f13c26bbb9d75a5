"""A method that is misspelt, does not fit or cannot run here: one sentence and code 2, before anything is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.records.store import read_records
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.runs.runnable import keep_runnable
from visual_decathlon.benchmark.runs.user_backbone import UserBackbone
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import GROUPS, entries, select, select_named

NEEDS_ATTENTION = ("prefix", "prompt")
REFUSED = ("adaptformer", "depthwise", "pfeiffer", *NEEDS_ATTENTION)  # on the ResNet-26


@pytest.fixture
def refused(here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`refused(method, *words)`: its sentence, with no file written and no image opened."""

    def opened(*_):
        raise AssertionError("the data were opened")

    monkeypatch.setattr("visual_decathlon.benchmark.runs.data.domains_in", opened)
    monkeypatch.chdir(tmp_path)

    def run(method: str, *words: str) -> str:
        sentence = here(*words, method=method, results=tmp_path / "results").sentence
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
        return sentence

    return run


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("lora(rnak=8)", "lora has no option 'rnak'; did you mean rank?"),
        ("bn_adapt(rank=8)", "bn_adapt has no option 'rank'; its options are: none"),
        ("adapter(groups=2)", "adapter has no option 'groups'"),
        ("adapter(arrangement='beside')", "arrangement must be 'serial' or 'parallel'"),
        ("lora(rank=0)", "lora(rank=0): rank must be 1 or more"),
        ("lora(rank='8')", "rank must be of type int"),
        ("adapter(conv='group', group_count=7)", "make no 7 groups; change its options or take another method"),
        ("conv_adapter(reduction=5)", "do not divide by 5; change its options or take another method"),
        ("boft(block=7)", "block must be even"),
        ("boft(block=10)", "make no blocks of 10; change its options"),
        ("oft(block=1000000000)", "a block of 1000000000 is larger than every matrix of this backbone"),
        ("houlsby(bottleneck=1000000000)", "is no bottleneck: this backbone's widest layer has"),
        ("houlsby(bottleneck=9223372036854775808)", "bottleneck must be below 2**31"),
        ("snell(dim=1000000000)", "has more dimensions than every matrix of this backbone"),
        ("rep_adapter(hidden=1000000000)", "is no bottleneck: no convolution of this backbone reads more than"),
        ("vera(rank=100000)", "its random matrices would have 32,000,000 numbers, more than the"),
        ("lora(alpha=nan)", "lora(alpha=nan): alpha must be a finite number"),
        ("pad_prompt(width=100000)", "the border is wider than the image of 32 pixels; lower it"),
        ("partial(last=99)", "this backbone has 12 residual blocks; lower last"),
        ("lroa", "no method is called 'lroa'; did you mean lora"),
        ("TABLE1", "did you mean table1?"),
        ("table1(seeds=3)", "table1 stands for several methods and has no options; give it as a bare word"),
        ("lora*(rank=2)", "is not of the form name or name(option=value, ...)"),
    ],
)
def test_options_that_are_unknown_or_do_not_fit(method: str, expected: str, refused):
    assert expected in refused(method)


RANKED = [e.name for e in entries() if hasattr(e, "rank_at") and "rank" in e.__dataclass_fields__]


@pytest.mark.parametrize("spec", [*(f"{name}(rank=100_000)" for name in RANKED), "lora_tkd(r2=100_000)"])
def test_a_rank_larger_than_every_matrix(spec: str, refused):
    sentence = refused(spec)
    assert "=100000)" in sentence or "=100000," in sentence
    assert "larger than every" in sentence and "; lower it" in sentence


@pytest.mark.parametrize(
    "method",
    [
        "lora(rank=__import__('os').system('touch {path}'))",
        "lora(rank=open('{path}', 'w'))",
        "__import__('os').system('touch {path}')",
        "lora(**__import__('os').environ)",
        "bn_adapt,lora(rank=[open('{path}', 'w') for _ in 'x'])",
    ],
)
def test_code_in_the_string_is_not_run(method: str, refused, tmp_path: Path):
    assert "name(option=value" in refused(method.format(path=tmp_path / "touched"))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", NEEDS_ATTENTION)
@pytest.mark.parametrize("among", ["{}", "bn_adapt,{}", "{}*,{}"])
def test_a_method_that_needs_attention(name: str, among: str, refused):
    """Alone and in a list: what is asked for by name is not left out."""
    sentence = refused(among.format(name, name))
    assert sentence.startswith(f"{name} learns ") and "attention" in sentence and "vision transformer" in sentence


def test_a_method_that_needs_depthwise_convolutions(refused):
    for words in ((), ("--set", "network=timm/resnet18")):
        sentence = refused("bn_adapt,depthwise", *words)
        assert sentence.startswith("depthwise gives ") and sentence.endswith("=network=torchvision/mobilenet_v2")


def test_a_list_in_which_one_does_not_fit(refused):
    assert refused("bn_adapt,lora(rank=9999)").startswith("lora(rank=9999): the rank is larger")


def test_a_wildcard_without_a_method_that_can_run(refused):
    assert refused("pr[eo]*").startswith("none of prefix, prompt can run here: ")


@pytest.fixture
def sifted(bench) -> Callable:
    """`sifted(expression, settings, given)`: (strings of the methods that are kept, reported sentences)."""

    def sift(expression: str, settings: str = "", given: UserBackbone | None = None) -> tuple[list[str], list[str]]:
        request = Request(select(expression), profile("standin", settings.split()), bench.data, user_backbone=given)
        reported: list[str] = []
        stay = keep_runnable(request, select_named(expression), reported.append).methods
        return [method.spec for method in stay], reported

    return sift


def test_all_leaves_out_methods_that_cannot_run_and_reports_them(sifted):
    stay, reported = sifted("all")
    assert stay == [e.name for e in entries() if e.name not in REFUSED]
    left = [line for line in reported if line.startswith("left out: ")]
    assert [line.removeprefix("left out: ").partition(" ")[0] for line in left] == [*REFUSED]
    assert "boft leaves stem.conv alone: its 27 columns make no blocks of 4" in reported


def test_a_misspelt_domain_in_an_option_is_reported(sifted):
    for given, expected in (("aircarft", 1), ("aircraft", 0), ("mine", 0)):
        stay, reported = sifted(f"res_adapter_decay(domains=({given!r},))")
        assert len(stay) == 1 and sum("did you mean 'aircraft'?" in line for line in reported) == expected


def test_methods_too_large_for_a_slim_backbone_are_left_out(sifted):
    stay, reported = sifted("arc*,lora*", "width=0.0625")
    assert stay == ["lora", "lora_cp", "lora_tkd", "lora_tkd_cp", "lora_tucker"]
    assert any(line.startswith("left out: arc(rank=32): the rank is larger than every matrix") for line in reported)
    with pytest.raises(InputError, match=r"oft\(side='left'\): a block of 32 is larger"):
        sifted("lora*,oft(side='left')", "width=0.0625")


def test_the_words_for_several_methods_run_whole(sifted):
    for word, specs in GROUPS.items():
        stay, reported = sifted(word)
        assert len(stay) == len(specs) == {"table1": 11, "grid": 12}[word]
        assert not [line for line in reported if line.startswith("left out")]


def test_a_wildcard_trains_the_rest(here, tmp_path: Path):
    done = here("--domains", "dtd", method="prompt*,prefix*,feat*", results=tmp_path)
    assert done.code == 0, done.err
    assert all(f"left out: {name} learns" in done.out for name in NEEDS_ATTENTION)
    assert [r["method"] for r in read_records([tmp_path / "records"])] == ["feature"]


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A file of plain weights."""
    from safetensors.torch import save_file

    save_file(build(profile("standin", ["width=0.125"]), "plain", 3).state_dict(), tmp_path / "b.safetensors")
    return tmp_path / "b.safetensors"


@pytest.mark.parametrize("among", ["{}", "bn_adapt,{}"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("res_adapter_large", "leave BACKBONE= out"),
        ("res_adapter", "off_the_shelf=True"),
        ("res_adapter_dom_pred", "add one to the folder"),
    ],
)
def test_a_user_backbone_lacks_what_a_method_needs(name: str, expected: str, among: str, backbone: Path, refused):
    sentence = refused(among.format(name), "--backbone", str(backbone))
    assert f"BACKBONE={backbone.name}" in sentence and name in sentence and expected in sentence


def test_a_wildcard_on_a_user_backbone(sifted):
    given = UserBackbone("b.safetensors", {"plain": "abc"}, profile("standin", []), None)
    stay, reported = sifted("*res_adapter*,bn*", given=given)
    assert stay == ["bn_adapt"]
    assert sum(line.startswith("left out: ") for line in reported) == 5
    stay, reported = sifted("table1", given=given)
    assert stay == ["scratch", "scratch_plus", "feature", "finetune", "lwf", "bn_adapt"]


def test_a_library_backbone_has_one_width(refused):
    sentence = refused("res_adapter_large", "--set", "network=torchvision/resnet18")
    assert sentence == "res_adapter_large needs a wider backbone, and torchvision/resnet18 has one width; use resnet26"
