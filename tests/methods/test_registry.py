"""Naming methods: strings to methods and back, one sentence for every mistake, no code in a string is run."""

import contextlib
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods import registry
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import GROUPS, entries, register, select, select_named
from visual_decathlon.methods.residual_adapters import ParAdapter, ResAdapter

ROOT = Path(__file__).parents[2]
NAMES = [entry.name for entry in entries()]


@pytest.fixture
def toy(monkeypatch):
    """An entry with an option of each type, registered for one test only."""
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))

    @register
    @dataclasses.dataclass(frozen=True)
    class Toy(Method):
        name = "toy"

        rank: int = 8
        alpha: float = 1.0
        left: bool = False
        kind: str = "a"
        act: Literal["relu", "gelu"] = "relu"
        level: Literal[1, 2] = 1
        most: int | None = None
        sizes: tuple[int, ...] = (1,)
        pair: tuple[float, Literal["a"] | None] = (1.0, None)
        rate: float | int = 1

    return Toy


# --- strings to methods and back --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_of_every_entry(name):
    (method,) = select(name)
    assert type(method).name == name and method.spec == name
    assert select(method.full_spec) == [method]
    assert select(method.spec) == [method]
    for field in dataclasses.fields(method):
        default = method.inner.full_spec if field.name == "method" else field.default  # the options of that one too
        shown = f"{field.name}={default!r}" in method.full_spec
        assert shown != (field.name in method.later_options), field.name  # those leave older hashes as they are


def test_a_revision_changes_the_full_string_alone(toy, monkeypatch):
    """Records of another revision are of another method, and are not made again under the same name."""
    assert "revision" not in toy().full_spec
    monkeypatch.setattr(toy, "revision", 2)
    (method,) = select("toy(rank=4)")
    assert method.spec == "toy(rank=4)" and method.full_spec.endswith(", rate=1, revision=2)")
    assert select(method.full_spec) == [method]
    for other in (1, 3, True, "2"):
        with pytest.raises(InputError, match=r"which has revision 2 of toy with other numbers; check out the commit"):
            select(f"toy(revision={other!r})")


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ("toy", "toy"),
        ("toy()", "toy"),
        ("toy(rank=8)", "toy"),
        ("toy(rank=4)", "toy(rank=4)"),
        ("toy( alpha = 2 , rank = 4 )", "toy(rank=4, alpha=2.0)"),
        ("toy(alpha=-.5)", "toy(alpha=-0.5)"),
        ("toy(left=True)", "toy(left=True)"),
        ("toy(kind=\"a, (b)='c'\")", "toy(kind=\"a, (b)='c'\")"),
        ("toy(act='gelu',level=2)", "toy(act='gelu', level=2)"),
        ("toy(most=3)", "toy(most=3)"),
        ("toy(most=None, sizes=[1])", "toy"),
        ("toy(sizes=(), pair=(2, 'a'))", "toy(sizes=(), pair=(2.0, 'a'))"),
        ("toy(sizes=[1, 2], rate=2)", "toy(sizes=(1, 2), rate=2)"),
        ("toy(rate=2.0)", "toy(rate=2.0)"),
    ],
)
def test_canonical_string(toy, given, spec):
    (method,) = select(given)
    assert method.spec == spec
    assert select(spec) == [method]
    assert select(method.full_spec) == [method]
    assert select(method.full_spec)[0].full_spec == method.full_spec


def test_the_full_string_names_every_option(toy):
    options = "rank=8, alpha=1.0, left=False, kind='a', act='relu', level=1"
    assert toy().full_spec == f"toy({options}, most=None, sizes=(1,), pair=(1.0, None), rate=1)"
    assert select("bn_adapt")[0].full_spec == "bn_adapt"


def test_several():
    def specs(expression):
        return [method.spec for method in select(expression)]

    assert specs("finetune,bn_adapt") == ["finetune", "bn_adapt"]
    assert specs(" finetune , , bn_adapt,") == ["finetune", "bn_adapt"]
    assert specs("bn_adapt,bn_adapt(),bn_adapt") == ["bn_adapt"]
    assert specs("res_adapter(init='zero', off_the_shelf=True),par_adapter") == [
        "res_adapter(init='zero', off_the_shelf=True)",
        "par_adapter",
    ]
    assert specs("par_adapter(init='he'),par_adapter") == ["par_adapter(init='he')", "par_adapter"]
    assert specs("all") == NAMES == sorted(NAMES)
    assert specs("res*") == [name for name in NAMES if name.startswith("res")]
    assert specs("*_adapter") == [name for name in NAMES if name.endswith("_adapter")]
    assert specs("finetune,all")[0] == "finetune" and sorted(specs("finetune,all")) == NAMES


def test_words_for_several_methods():
    table1, grid = select("table1"), select("grid")
    assert [method.spec for method in table1] == list(GROUPS["table1"]) and len(table1) == 11
    assert len(grid) == 12 and {type(method).name for method in grid} == {"adapter"}
    fields = [(method.arrangement, method.conv, method.scale) for method in grid]
    assert len(set(fields)) == 12
    assert select("feature, table1 ,grid") == [*select("feature"), *(m for m in table1 if m.name != "feature"), *grid]
    assert not set(GROUPS) & set(NAMES)


def test_what_is_asked_for_by_its_own_name():
    assert select_named("all") == select_named("table1,grid,lora*") == select_named("bn_adap?") == set()
    assert select_named("lora*,lora,adapter(conv='group'),lora(alpha=4, rank=8)") == {
        "lora",
        "adapter(conv='group')",
        "lora(alpha=4.0)",
    }
    assert select_named("table1, finetune()") == {"finetune"}


def test_options_arrive():
    assert select("res_adapter(init='zero', off_the_shelf=True)") == [ResAdapter(init="zero", off_the_shelf=True)]
    assert select("par_adapter(init='he')") == [ParAdapter(init="he")]


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("par_adaptor", "did you mean par_adapter"),
        ("quite_something_else", "there are .*bn_adapt"),
        ("par_adapter(inti='he')", "no option 'inti'; did you mean init"),
        ("par_adapter(zzz=1)", "no option 'zzz'; its options are: init"),
        ("bn_adapt(rank=1)", "no option 'rank'; its options are: none"),
        ("par_adapter(init='xavier')", "init must be 'zero' or 'he'"),
        ("par_adapter(init=['he'])", "init must be 'zero' or 'he'"),
        ("par_adapter(init='he', init='zero')", "not of the form"),
        ("par_adapter(init={[]: 1})", "not of the form"),
        ("par_adapter(**{'init': 'he'})", "no option None"),
        ("par_adapter('he')", "not of the form"),
        ("par_adapter(init=he)", r"not of the form .*\(quote words: init='he'\)"),
        ("par_adapter(**he)", r"option=value, \.\.\.\); see"),
        ("par_adapter(init='he'", "not of the form"),
        ("par_adapter)", "not of the form"),
        ("methods.par_adapter", "not of the form"),
        ("(" * 5000, "not of the form"),
        ("bn_adapt(" + "[" * 5000, "not of the form"),
        ("bn\0adapt", "not of the form"),
        ("1", "not of the form"),
        ("zzz*", "fits no method"),
        ("Table1", r"did you mean table1\?"),
        ("gird", r"did you mean grid\b"),
        ("all()", "all stands for several methods and has no options; give it as a bare word"),
        ("grid(conv='group')", "grid stands for several methods"),
        ("", "is empty"),
        (" , ", "is empty"),
        ("res_adapter(off_the_shelf=True)", "init='zero' or init='he'"),
        ("toy(rank=4.0)", "rank must be of type int"),
        ("toy(rank=True)", "rank must be of type int"),
        ("toy(rank='4')", "rank must be of type int"),
        ("toy(alpha='x')", "alpha must be of type float"),
        ("toy(alpha=False)", "alpha must be of type float"),
        ("toy(left=1)", "left must be of type bool"),
        ("toy(kind=None)", "kind must be of type str"),
        ("toy(level=True)", "level must be 1 or 2"),
        ("toy(level=1.0)", "level must be 1 or 2"),
        ("toy(alpha=1" + "0" * 400 + ")", r"^toy\(alpha=10{59}\.\.\.\): alpha must be a finite number$"),
        ("toy(alpha=0x" + "f" * 5000 + ")", "alpha must be a finite number"),
        ("toy(alpha=1e999)", r"^toy\(alpha=inf\): alpha must be a finite number$"),
        ("toy(alpha=nan)", r"^toy\(alpha=nan\): alpha must be a finite number$"),
        ("toy(alpha=-inf)", r"^toy\(alpha=-inf\): alpha must be a finite number$"),
        ("toy(alpha=+Infinity)", r"^toy\(alpha=inf\): alpha must be a finite number$"),
        ("toy(alpha='nan')", "alpha must be of type float"),
        ("toy(rank=inf)", r"^toy\(rank=inf\): rank must be of type int$"),
        ("toy(kind=nan)", r"^toy\(kind=nan\): kind must be of type str$"),
        ("toy(rank=2147483648)", r"^toy\(rank=2147483648\): rank must be below 2\*\*31$"),
        ("toy(rank=-2147483648)", r"^toy\(rank=-2147483648\): rank must be above -2\*\*31$"),
        ("toy(rank=0x" + "f" * 5000 + ")", r"^toy\(rank=0xf+\.\.\.\): rank must be below 2\*\*31$"),
        ("toy(sizes=(0x" + "f" * 5000 + ", 1.0))", r"sizes must be of type tuple\[int, \.\.\.\]"),
        ("toy(revision=0x" + "f" * 5000 + ")", "is not in this version of the suite"),
        ("toy(most='3')", "most must be of type int or None"),
        ("toy(most=True)", "most must be of type int or None"),
        ("toy(sizes=3)", r"sizes must be of type tuple\[int, \.\.\.\]"),
        ("toy(sizes=(1, 2.0))", r"sizes must be of type tuple\[int, \.\.\.\]"),
        ("toy(pair=(1, 'a', 2))", r"pair must be of type tuple\[float"),
        ("toy(pair=(1, 'b'))", r"pair must be of type tuple\[float"),
    ],
)
def test_one_sentence_for_every_mistake(toy, given, message):
    with pytest.raises(InputError, match=message) as caught:
        select(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "bn_adapt(rank=open({path!r}, 'w'))",
        "par_adapter(init=__import__('os').mkdir({path!r}))",
        "__import__('os').mkdir({path!r})",
        "par_adapter(init=[open({path!r}, 'w') for _ in '1'])",
        'par_adapter(init=f"{{open({path!r}, chr(119))}}")',
        "(lambda: open({path!r}, 'w'))()",
        "par_adapter(**open({path!r}, 'w'))",
    ],
)
def test_code_is_never_evaluated(tmp_path, code):
    canary = tmp_path / "canary"
    expression = code.format(path=str(canary))
    with pytest.raises(InputError):
        select(expression)
    assert not canary.exists()
    with contextlib.suppress(TypeError):  # the same code does write when it is evaluated
        eval(expression.replace("bn_adapt(", "dict(").replace("par_adapter(", "dict("))
    assert canary.exists()


# --- the list ---------------------------------------------------------------------------------------------------


def test_a_name_taken_twice_names_both_places(monkeypatch):
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))

    class Other(Method):
        name = "bn_adapt"

    with pytest.raises(InputError, match="taken twice") as caught:
        register(Other)
    for place in ("visual_decathlon.methods.bn_adapt.BNAdapt", "bn_adapt.py", "Other", "test_registry.py"):
        assert place in str(caught.value)
    assert register(type(select("bn_adapt")[0]))  # registering the same entry again is no error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-method", "is no word that method= can name; use letters"),
        ("", "is no word"),
        ("lambda", "is no word"),
        ("all", "is the suite's word for several methods; rename it"),
        ("grid", "is the suite's word"),
    ],
)
def test_a_name_that_no_string_could_find(monkeypatch, name: str, message: str):
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    other = type("Other", (Method,), {"name": name})
    with pytest.raises(InputError, match=rf"{name!r} of .*Other \(.*{message}"):
        register(other)
    assert name not in registry._registry


def test_an_option_without_default_never_enters_the_list(toy):
    @dataclasses.dataclass(frozen=True)
    class Other(Method):
        name = "other"
        rank: int

    with pytest.raises(InputError, match=r"'rank' of 'other' has no default in .*Other \(.*test_registry\.py\); give"):
        register(Other)
    assert "other" not in registry._registry


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from visual_decathlon.methods.registry import entries\n"
        "from visual_decathlon.benchmark.backbones.shapes import resnet26_shapes\n"
        "for entry in entries():\n"
        "    m = entry(); m.spec, m.full_spec, m.start, m.multiplier(resnet26_shapes())\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'pandas', 'fvcore', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_listed_string_with_options_names_the_same_method():
    """Every option and nothing else: what `make methods` lists can be given to METHOD=."""
    for entry in entries():
        method = entry()
        assert select(method.with_options) == [method] and "revision" not in method.with_options
        assert select(method.with_options)[0].full_spec == method.full_spec
