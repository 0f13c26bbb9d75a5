"""Entries from packages outside: loaded through their entry point, with one sentence for every mistake."""

import sys
from importlib.metadata import EntryPoint

import pytest

from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods import registry
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import entries, select


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """`outside(code)` adds a package whose entry point of our group is the module `foreign_method`, with that code."""
    entries()  # the suite's own are registered before the list is copied
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))

    def forget() -> None:
        registry._import.cache_clear()
        registry._load.cache_clear()

    def install(code: str) -> None:
        (tmp_path / "foreign_method.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "foreign_method", raising=False)
        point = EntryPoint("mine", "foreign_method", "visual_decathlon.methods")
        monkeypatch.setattr(
            registry.importlib.metadata, "entry_points", lambda group: [point] if group == point.group else []
        )
        forget()

    yield install
    forget()
    sys.modules.pop("foreign_method", None)


@pytest.mark.parametrize("default", ["", " = field(default_factory=int)"])
@pytest.mark.parametrize("decorators", ["@register\n@dataclass(frozen=True)", "@dataclass(frozen=True)\n@register"])
def test_an_option_without_default_is_refused_at_once(outside, default: str, decorators: str):
    """Otherwise no listing and no wildcard could make the method."""
    outside(
        "from dataclasses import dataclass, field\nfrom visual_decathlon.methods.method import Method\n"
        "from visual_decathlon.methods.registry import register\n"
        f"{decorators}\nclass Mine(Method):\n    name = 'mine'\n    rank: int{default}\n"
    )
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"option 'rank' of 'mine' has no default in foreign_method\.Mine \(.*; give"
        ):
            select("all")


def test_the_name_of_the_revision_is_no_option(outside):
    """`full_spec` ends in it."""
    outside(
        "from dataclasses import dataclass\nfrom visual_decathlon.methods.method import Method\n"
        "from visual_decathlon.methods.registry import register\n"
        "@register\n@dataclass(frozen=True)\nclass Mine(Method):\n    name = 'mine'\n    revision: int = 2\n"
    )
    with pytest.raises(InputError, match=r"foreign_method.* has an option 'revision', .*; rename it"):
        select("all")


REQUIRED = "".join(f"    {name} = 'x'\n" for name in ("label", "family", "fidelity", "paper", "mergeable", "lr"))
HEAD = (
    "from dataclasses import dataclass\nfrom visual_decathlon.methods.method import Method\n"
    "from visual_decathlon.methods.registry import register\n"
    "@register\n@dataclass(frozen=True)\nclass Mine(Method):\n"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (HEAD + "    name = 'mine'\n" + REQUIRED.replace("    lr = 'x'\n", ""), r"Mine \(.*\) has no lr; set it"),
        (HEAD + "    rank: int = 1\n" + REQUIRED, r"Mine \(.*\) has no name; set it"),
        (HEAD + "    name = 'ｌora'\n" + REQUIRED, "is no word that method= can name"),
        (
            HEAD.replace("@dataclass(frozen=True)\n", "") + "    name = 'mine'\n" + REQUIRED,
            r"Mine \(.*\) is no dataclass",
        ),
        (
            HEAD + "    name = 'mine'\n" + REQUIRED + "    def __post_init__(self): 1 / 0\n",
            "'mine' of .* cannot be made with",
        ),
        ("import sys\nsys.exit(3)", r"entry point mine = foreign_method .* does not load \(SystemExit: 3\)"),
    ],
)
def test_a_careless_method_from_outside_is_one_sentence(outside, code: str, message: str):
    outside(code)
    with pytest.raises(InputError, match=message):
        entries()


def test_a_method_from_outside(outside):
    outside(
        "from dataclasses import dataclass\nfrom visual_decathlon.methods.method import Method\n"
        "from visual_decathlon.methods.registry import register\n"
        "@register\n@dataclass(frozen=True)\nclass Mine(Method):\n    name = 'mine'\n    rank: int = 1\n" + REQUIRED
    )
    (method,) = select("mine(rank=3)")
    assert method.rank == 3
    assert "mine" in [entry.name for entry in entries()]


RENAMED = {
    "source": "backbone_structure",
    "views": "cached_views",
    "widen": "width_multiplier",
    "bound": "start_tolerance",
    "joint": "has_joint_stage",
    "alone": "trains_per_domain",
    "once": "shared_params",
    "together": "build_joint",
    "served": "inference_module",
    "why_not": "skip_reason",
    "refusal": "unsupported_reason",
}
MINE = HEAD.replace("import dataclass", "import dataclass, field") + "    name = 'mine'\n" + REQUIRED
CLASS_VARIABLE = "    {}: __import__('typing').ClassVar[float] = 2.0\n"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
@pytest.mark.parametrize("line", ["    {} = 2.0\n", CLASS_VARIABLE, "    def {}(self, *given): return None\n"])
@pytest.mark.parametrize("swap", [False, True])
def test_an_attribute_under_its_old_name_is_refused(outside, old: str, new: str, line: str, swap: bool):
    """It would be ignored: no code reads it any more."""
    code = MINE + line.format(old)
    if swap:
        code = code.replace("@register\n@dataclass(frozen=True)\n", "@dataclass(frozen=True)\n@register\n")
    outside(code)
    for _ in range(2):
        with pytest.raises(
            InputError, match=rf"'mine' of foreign_method\.Mine \(.*defines {old!r}, which is now {new!r}; rename"
        ):
            entries()


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
@pytest.mark.parametrize(
    "line",
    ["    {old}: int = 8\n", "    {old} = 8\n    {new} = 0\n", "    {old}: int = 8\n    {new} = property(len)\n"],
)
def test_an_old_name_with_another_meaning_is_accepted(outside, old: str, new: str, line: str):
    """As an option, or in a class that defines the new name, as the `views` of partial."""
    outside(MINE + line.format(old=old, new=new))
    assert "mine" in [entry.name for entry in entries()]


def test_an_old_option_views_with_a_split_is_refused(outside):
    outside(MINE + "    views: int = 8\n    def split(self, network): return network.body, network.head\n")
    with pytest.raises(InputError, match="defines 'views', which is now 'cached_views'; rename"):
        entries()


def test_a_joint_stage_beside_a_training_per_domain_is_refused(outside):
    """Until 2026-12 that was a classifier of domains, which has attributes of its own by now."""
    outside(MINE + "    has_joint_stage = True\n")
    with pytest.raises(InputError, match=r"foreign_method\.Mine \(.*classifies_domains = True in place of"):
        entries()


def test_every_renamed_attribute_is_one_of_methods():
    assert registry._RENAMED == RENAMED
    assert all(hasattr(Method, new) and not hasattr(Method, old) for old, new in RENAMED.items())


@pytest.mark.parametrize(
    ("old", "new"), {"folded": "merge", "weight": "adapted_weight", "bias": "adapted_bias"}.items()
)
def test_an_adapter_with_an_old_name_of_a_method_is_refused(old, new):
    from visual_decathlon.methods.layers.delta import DeltaConv

    with pytest.raises(InputError, match=rf"Mine defines `{old}`, which is now `{new}`; rename it"):
        type("Mine", (DeltaConv,), {old: lambda self: self.conv})
    type("Mine", (DeltaConv,), {"bias": None})  # no method


@pytest.mark.parametrize("code", ["import no_such_module_anywhere", "1 / 0", "def ("])
def test_an_entry_point_that_does_not_load(outside, code):
    outside(code)
    for _ in range(2):  # and not only the first time
        with pytest.raises(InputError, match=r"entry point mine = foreign_method .*uninstall"):
            select("bn_adapt")


def test_an_entry_point_with_a_name_that_is_taken(outside):
    outside(
        "from visual_decathlon.methods.method import Method\n"
        "from visual_decathlon.methods.registry import register\n"
        "@register\nclass Mine(Method):\n    name = 'finetune'\n"
    )
    with pytest.raises(
        InputError, match=r"'finetune' is taken twice, by visual_decathlon\.methods\.own_network.* foreign_method\.Mine"
    ):
        entries()
