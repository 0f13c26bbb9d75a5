"""The command line: quick help, one sentence for a wrong option, and the words that make composes."""

import ast
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.__main__ import HOME, main, parser

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "pandas", "timm", "fvcore", "pyarrow", "numpy", "rich")


@pytest.mark.parametrize("command", [[], *([name] for name in HOME)], ids=" ".join)
def test_help_is_quick_and_loads_nothing_heavy(command: list[str]):
    code = (
        "import sys\nfrom benchmark.__main__ import main\n"
        f"try:\n    main({[*command, '--help']!r})\n"
        f"finally:\n    sys.stderr.write(repr([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0 and done.stdout.startswith("usage: python -m benchmark")
        assert ast.literal_eval(done.stderr) == []
    assert statistics.median(seconds) < 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "required"),
        (["bench"], "'bench'"),
        (["run"], "--method"),
        (["run", "--method", "feature", "--split", "train"], "'train'"),
        (["run", "--method", "feature", "--limit", "0"], "--limit"),
        (["run", "--method", "feature", "--limit", "99999999999"], "--limit"),
        (["run", "--method", "feature", "--limit", "²"], "--limit"),
        (["run", "--method", "feature", "--workers", "-1"], "--workers"),
        (["run", "--method", "feature", "--device", "tpu"], "'tpu'"),
        (["run", "--method", "feature", "--own", "mine"], "name=folder"),
        (["run", "--method", "feature", "--colour", "red"], "--colour"),
        (["methods", "--width", "0"], "multiple of 1/32"),
        (["methods", "--width", "wide"], "--width"),
        (["tables", "--from", "/nowhere"], "/nowhere holds no records"),
        (["data"], "nothing to do"),
    ],
)
def test_wrong_option_is_one_sentence(words: list[str], told: str, capsys):
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    err = capsys.readouterr().err
    assert code == 2 and told in err and err.count("\n") == 1 and "usage:" not in err


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        (["run", "--method", "feature"], "--set", ["epochs=10", "pretrain.epochs=5"]),
        (["run", "--method", "feature"], "--domains", ["svhn", "dtd"]),
        (["perf"], "--only", ["batches", "step"]),
    ],
)
def test_lists_bare_or_quoted(command: list[str], option: str, words: list[str]):
    a, b = words
    for given in ([a, b], [f"{a} {b}"], [f"{a},{b}"], [f" {a}, ", b], [a, option, b]):
        assert getattr(parser().parse_args([*command, option, *given]), option[2:]) == words, given
    assert getattr(parser().parse_args(command), option[2:]) == [], "what one command gave stays with it"


def test_broken_option_through_the_real_command_line(command):
    assert (
        "did you mean res_adapter"
        in command([sys.executable, "-m", "benchmark", "run", "--method", "res_adaptor"]).sentence
    )


def test_methods_are_listed_without_torch():
    code = "import sys\nfrom benchmark.__main__ import main\nmain(['methods'])\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "res_adapter" in done.stdout and "2.09" in done.stdout, done.stderr


def composed(*assignments: str) -> list[str]:
    """The words that `make bench` hands to Python, as its shell would split them."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    words = ["make", "-n", "bench", *assignments]
    done = subprocess.run(words, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = done.stdout[done.stdout.index("-m benchmark run") :]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    shell = f"{sys.executable} -c '{script}' {text}"
    return ast.literal_eval(subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout)


def test_make_bench_composes_the_command():
    words = composed("METHOD=lora(rank=8)", "DATA=some where/decathlon-1.0", "SEEDS=3", "SET=epochs=2 lr=0.1")
    assert words == ["-m", "benchmark", "run", "--method", "lora(rank=8)", "--data", "some where/decathlon-1.0"] + [
        *("--set", "epochs=2 lr=0.1"),
        *("--seeds", "3"),
    ]


def test_make_bench_gives_only_what_is_asked_for():
    assert composed("METHOD=res_*,feature") == ["-m", "benchmark", "run", "--method", "res_*,feature"]
    assert composed("METHOD=all", "PREDICTIONS=1")[5:] == ["--predictions"]
    words = composed("METHOD=all", "OWN=a=/x b=/y", "SPLIT=test", "DOMAINS=svhn,dtd", "LIMIT=5", "BACKBONE=w.pt")
    assert words[5:] == ["--backbone", "w.pt", "--split", "test", "--domains", "svhn,dtd"] + [
        *("--own", "a=/x", "--own", "b=/y"),
        *("--limit", "5"),
    ]


def test_make_bench_keeps_the_quotes_of_an_option():
    method = "res_adapter(init='zero', off_the_shelf=True)"
    assert composed(f"METHOD={method}")[4] == method
