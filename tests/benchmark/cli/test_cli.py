"""The command line: quick help, one sentence for a wrong option, and the words that make composes."""

import ast
import os
import sys
from pathlib import Path

import pytest

from visual_decathlon.benchmark.cli.main import COMMANDS, main, parse

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "torchvision", "pandas", "timm", "fvcore", "pyarrow", "numpy", "rich")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_is_quick_and_loads_nothing_heavy(command: list[str], processes):
    code = (
        "import sys\nfrom visual_decathlon.benchmark.cli.main import main\n"
        f"try:\n    main({[*command, '--help']!r})\n"
        f"finally:\n    sys.stderr.write(repr(([m for m in {HEAVY!r} if m in sys.modules], len(sys.modules))))"
    )
    result = processes.run([sys.executable, "-c", code], cwd=ROOT)
    assert result.returncode == 0 and result.stdout.startswith("usage: python -m benchmark")
    heavy, modules = ast.literal_eval(result.stderr)
    assert heavy == [] and modules < 200, "imports take the time; Python alone has about 60 modules"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "required"),
        (["bench"], "'bench'"),
        (["run"], "--method"),
        (["run", "--method", "feature", "--split", "train"], "'train'"),
        (["run", "--method", "feature", "--limit", "0"], "--limit"),
        (["run", "--method", "feature", "--limit", "99999999999"], "--limit"),
        (["run", "--method", "feature", "--limit", "²"], "--limit"),
        (["run", "--method", "feature", "--limit", "9" * 5000], "must be a whole number from 1 up"),
        (["run", "--method", "feature", "--workers", "-1"], "--workers"),
        (["run", "--method", "feature", "--device", "tpu"], "'tpu'"),
        (["run", "--method", "feature", "--own", "mine"], "name=folder"),
        (["run", "--method", "feature", "--colour", "red"], "--colour"),
        (["methods", "--width", "0"], "multiple of 1/32"),
        (["methods", "--width", "wide"], "--width"),
        (["tables", "--from", "/nowhere"], "/nowhere does not exist; name a folder"),
        (["data"], "nothing to do"),
    ],
)
def test_wrong_option_is_one_sentence(words: list[str], expected: str, capsys):
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2 and expected in err and err.count("\n") == 1 and "usage:" not in err


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        (["run", "--method", "feature"], "--set", ["epochs=10", "pretrain.epochs=5"]),
        (["run", "--method", "feature"], "--domains", ["svhn", "dtd"]),
        (["perf"], "--only", ["batches", "step"]),
        (["growth"], "--only", ["width", "packing"]),
        (["efficiency"], "--only", ["networks", "blocks"]),
        (["gpu"], "--only", ["step", "bench"]),
    ],
)
def test_lists_bare_or_quoted(command: list[str], option: str, words: list[str]):
    a, b = words
    for given in ([a, b], [f"{a} {b}"], [f"{a},{b}"], [f" {a}, ", b], [a, option, b]):
        assert getattr(parse([*command, option, *given]), option[2:]) == words, given
    assert getattr(parse(command), option[2:]) == [], "a command does not change the default of the next one"


def test_broken_option_through_the_real_command_line(command):
    assert (
        "did you mean res_adapter"
        in command([sys.executable, "-m", "benchmark", "run", "--method", "res_adaptor"]).sentence
    )


@pytest.mark.parametrize(("words", "code"), [(["methods"], 0), (["score", "--file", "none.zip"], 2)])
def test_a_finished_command_ends_at_once(words: list[str], code: int, processes, tmp_path: Path):
    """Python needs a second to unload torch, so the process ends without it; output and exit code are complete."""
    left = "import atexit, runpy; atexit.register(open, 'unloaded', 'w')"
    run = "runpy.run_module('benchmark', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = processes.run([sys.executable, "-c", f"{left}; {run}", *words], cwd=tmp_path, env=environment)
    assert result.returncode == code, result.stderr
    assert ("res_adapter" in result.stdout) if code == 0 else ("none.zip" in result.stderr)
    assert not (tmp_path / "unloaded").exists()


def test_methods_are_listed_without_torch(processes):
    code = "import sys\nfrom visual_decathlon.benchmark.cli.main import main\nmain(['methods'])\n"
    code += "assert 'torch' not in sys.modules"
    result = processes.run([sys.executable, "-c", code], cwd=ROOT)
    assert result.returncode == 0 and "res_adapter" in result.stdout and "2.09" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("given", "folders"),
    [
        ("a=x b=y", [("a", "x"), ("b", "y")]),
        ("birds=my birds", [("birds", "my birds")]),
        (" birds=my birds  cats=/more cats/of mine ", [("birds", "my birds"), ("cats", "/more cats/of mine")]),
        ("birds=/d/a=b", [("birds", "/d/a=b")]),
        ("birds=/d/a b/c=d", [("birds", "/d/a b/c=d")]),
    ],
)
def test_own_folders_with_blanks(given: str, folders: list[tuple[str, str]]):
    for words in (["run", "--method", "x"], ["data"]):
        own = parse([*words, "--own", given, "--own", "z=z"]).own
        assert own == [(name, Path(folder)) for name, folder in [*folders, ("z", "z")]]
        assert parse(words).own == []


def test_the_name_of_an_existing_folder_may_have_blanks(tmp_path: Path):
    (tmp_path / "a b=c").mkdir()
    assert parse(["data", "--own", f"x={tmp_path}/a b=c"]).own == [("x", tmp_path / "a b=c")]
    (tmp_path / "my labels").mkdir()
    (tmp_path / "more").mkdir()
    words = f"{tmp_path}/my labels  {tmp_path}/more {tmp_path}/absent"
    labels = parse(["score", "--file", "x", "--labels", words]).labels
    assert labels == [tmp_path / "my labels", tmp_path / "more", tmp_path / "absent"]


def test_rerun_refuses_options_that_are_in_the_record(capsys):
    for words in (["--method", "lora"], ["--set", "epochs=1"], ["--seeds", "2"]):
        with pytest.raises(SystemExit) as end:
            main(["rerun", "0123", *words])
        err = capsys.readouterr().err
        assert end.value.code == 2 and words[0] in err and err.count("\n") == 1
