"""The Makefile: the words that it gives to the command line, the variables it refuses, and the recorded command."""

import ast
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from visual_decathlon.benchmark.cli.common import command as recorded_command
from visual_decathlon.benchmark.config.profiles import FIXED, Profile, Recipe

ROOT = Path(__file__).parents[3]


def outside() -> dict[str, str]:
    """The environment without the variables that a make which runs the tests has set."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def make(*words: str, **environment: str) -> str:
    """The output of make."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    command, env = ["make", *words], outside() | environment
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def composed(*assignments: str) -> list[str]:
    """The words that `make bench` gives to Python, split by the shell."""
    output = make("-n", "bench", *assignments)
    text = output[output.index("-m benchmark ") :]
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
        *("--own", "a=/x b=/y"),
        *("--limit", "5"),
    ]


def test_make_bench_keeps_the_quotes_of_an_option():
    method = "res_adapter(init='zero', off_the_shelf=True)"
    assert composed(f"METHOD={method}")[4] == method


def recorded(tmp_path: Path, monkeypatch, *assignments: str, **environment: str) -> str:
    """The command that a record keeps for `make bench` with these variables."""
    shown = tmp_path / "shown.mk"
    shown.write_text(f'include {ROOT / "Makefile"}\nshow: ; @printf %s "$$BENCH_COMMAND"\n')
    output = make("-f", str(shown), "-o", ".venv/made", "show", *assignments, **environment)
    monkeypatch.setenv("BENCH_COMMAND", output.replace("make show", "make bench", 1))
    return recorded_command()


def again(command: str) -> list[str]:
    """The words that Python gets if a shell runs a recorded command."""
    printed = subprocess.run(["sh", "-c", command.replace("make", "printf '%s\\0'", 1)], capture_output=True, text=True)
    target, *assignments = printed.stdout.split("\0")[:-1]
    assert target == "bench"
    return composed(*assignments)


@pytest.mark.parametrize(
    "assignments",
    [
        ["METHOD=res_adapter", "SEEDS=3"],
        ["METHOD=res_adapter(init='he'),lora(rank=4, alpha=8)", "SET=epochs=2 lr=0.1", "OWN=a=/x b=/y"],
        [
            "METHOD=res*",
            "OWN=my=my birds c=it's",
            "DATA=some where/it's $$5/decathlon",
            "DOMAINS=svhn dtd",
            "CACHE=~/.cache",
            "LIMIT=5",
        ],
        ['METHOD=adapter(arrangement="serial")', "DATA=back\\slash;#", "RESULTS=a'b`c"],
        ["RERUN=0123", "DATA=d", "CACHE=c c"],
    ],
)
def test_a_recorded_command_can_be_run_by_a_shell(assignments: list[str], tmp_path: Path, monkeypatch):
    command = recorded(tmp_path, monkeypatch, *assignments)
    assert again(command) == composed(*assignments)


def test_a_recorded_command_is_easy_to_read_and_includes_variables_of_the_environment(tmp_path: Path, monkeypatch):
    assert recorded(tmp_path, monkeypatch, "METHOD=feature,bn_adapt", "SEEDS=3", DEVICE="cpu", SHELL_ONLY="1") == (
        "make bench METHOD=feature,bn_adapt SEEDS=3 DEVICE=cpu"
    )
    command = recorded(tmp_path, monkeypatch, "METHOD=res_adapter(init='he')", "SET=epochs=2 lr=0.1")
    assert command == "make bench METHOD=\"res_adapter(init='he')\" SET='epochs=2 lr=0.1'"
    monkeypatch.delenv("BENCH_COMMAND")
    words = ["run", "--method", "lora(rank=3, alpha=2)", "--data", "it's"]
    monkeypatch.setattr("sys.argv", ["x", *words])
    command = recorded_command()
    assert command.startswith("python -m benchmark run ") and shlex.split(command)[3:] == words


def lists_of_the_makefile() -> dict[str, set[str]]:
    """The values of `reads_*`, `variables`, `targets` and similar lists in the Makefile."""
    lists = "reads_% variables targets settings recipe switches others mistaken"
    print_them = f'show: ; @$(foreach v,$(filter {lists},$(.VARIABLES)),echo "$(v) $($(v))";)'
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    command = ["make", "-s", "-f", "Makefile", "-f", "-", "show"]
    streams = {"input": print_them + "\n", "capture_output": True, "text": True}
    result = subprocess.run(command, cwd=ROOT, env=outside(), check=True, **streams)
    return {name: set(values) for name, *values in map(str.split, result.stdout.splitlines())}


def test_the_makefile_lists_the_variables_that_each_target_reads():
    lists, text = lists_of_the_makefile(), (ROOT / "Makefile").read_text()
    shared = {name: re.search(rf"^{name} = ((?:.*\\\n)*.*)$", text, re.M).group(1) for name in ("runs", "folders")}
    for target in lists["targets"]:
        recipe = re.search(rf"^{target}: .*\n((?:\t.*\n)+)", text, re.M).group(1)
        for name, content in shared.items():
            recipe = recipe.replace(f"$({name})", content)
        used = set(re.findall(r"[ (,]([A-Z_]+)[,)]", recipe)) - {"PY"}
        used -= {"RERUN"} - lists[f"reads_{target}"]  # `runs` asks for it; sum is refused it
        used |= {"RAY_ADDRESS"} & lists[f"reads_{target}"]  # make exports it, and the engine reads the environment
        assert used == lists[f"reads_{target}"], target
    recorded = set().union(*(lists[f"reads_{target}"] for target in lists["targets"]))
    assert lists["variables"] == recorded - {"SLOW", "A", "B", "FILE", "LABELS", "GPU_PYTHON", "PLAN", "RAY_ADDRESS"}


def test_the_makefile_knows_every_setting():
    lists = lists_of_the_makefile()
    recipe = {field.name for field in dataclasses.fields(Recipe)} - {*FIXED}
    assert lists["recipe"] == recipe
    assert lists["settings"] == recipe | {field.name for field in dataclasses.fields(Profile)} - {
        *("name", "adapt", "pretrain")
    }


def test_mistaken_names_are_no_variables_and_mean_one():
    lists = lists_of_the_makefile()
    read = set().union(*(lists[f"reads_{target}"] for target in lists["targets"]))
    for pair in lists["others"]:
        other, here = pair.split(":")
        assert here in read | lists["settings"] and other not in lists["settings"] and other.upper() not in read, pair
    for pair in lists["mistaken"]:
        slip, here = pair.split(":")
        readers = [target for target in lists["targets"] if here in lists[f"reads_{target}"]]
        assert readers and not any(slip in lists[f"reads_{target}"] for target in readers), pair
    assert lists["switches"] <= read


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bench", "METHOD=x", "SEED=5"], "make bench does not read SEED= (did you mean SEEDS=?); it reads BACKBONE "),
        (["METHOD=x", "DOMAIN=a"], "make bench does not read DOMAIN= (did you mean DOMAINS=?); "),
        (["bench", "METHOD=x", "SPLITS=val"], "SPLITS= (did you mean SPLIT=?)"),
        (["bench", "METHOD=x", "EPOCHS=3"], "EPOCHS= (did you mean SET=epochs=?)"),
        (["bench", "METHOD=x", "BATCH_SIZE=3"], "BATCH_SIZE= (did you mean SET=batch=?)"),
        (["bench", "METHOD=x", "LEARNING_RATE=3"], "LEARNING_RATE= (did you mean SET=lr=?)"),
        (["bench", "METHOD=x", "GPU=0"], "GPU= (did you mean DEVICE=?)"),
        (["sum", "METHOD=x", "CUDA=1"], "CUDA= (did you mean DEVICE=?)"),
        (["bench", "METHOD=x", "SETTINGS=a=1"], "SETTINGS= (did you mean SET=?)"),
        (["bench", "METHOD=x", "DETERMINISTIC=0"], "DETERMINISTIC= (did you mean SET=deterministic=?)"),
        (["bench", "METHOD=x", "pretrain.nesterov=0"], "(did you mean SET=pretrain.nesterov=?)"),
        (["lint", "FOO=1"], "make lint does not read FOO=; it reads no variables."),
        (["bench", "METHOD=x", "Pretrain.Lr=3"], "Pretrain.Lr= (did you mean SET=pretrain.lr=?)"),
        (["bench", "METHOD=x", "WIDTH=1"], "WIDTH= (did you mean SET=width=?)"),
        (["bench", "method=x"], "method= (did you mean METHOD=?)"),
        (["sum", "METHOD=x", "Methods=y"], "Methods= (did you mean METHOD=?)"),
        (["sum", "METHOD=x", "RERUN=0"], "make sum does not read RERUN=; it reads"),
        (["bench", "RERUN=0", "LIMIT=3"], "make bench with RERUN= does not read LIMIT=; it reads BACKBONE CACHE DATA"),
        (["bench", "METHOD=x", "it's=1"], "it's=; it reads"),
        (["bench", "runs=--help"], "runs=; "),
        (
            ["results", "lint", "Only=pareto"],
            "make results lint does not read Only= (did you mean ONLY=?); ",
        ),
        (["lint", "SLOW=1"], "make lint does not read SLOW=; it reads no variables"),
        (["submit", "METHOD=x", "SEEDS=1"], "SEEDS= (did you mean SEED=?)"),
        (["data", "OWNS=a=b", "DATE=x"], "OWNS= (did you mean OWN=?)"),
        (["methods", "NETWORKS=x"], "(did you mean NETWORK=?)"),
        (["efficiency", "NETWORKS=x"], "NETWORKS= (did you mean NETWORK=?); it reads CACHE DEVICE FROM NETWORK ONLY"),
        (["efficiency", "GPU=0"], "GPU= (did you mean DEVICE=?)"),
        (["gpu", "GPU_PYTHONS=x"], "GPU_PYTHONS= (did you mean GPU_PYTHON=?); it reads CACHE GPU_PYTHON ONLY RESULTS"),
        (["gpu", "METHOD=x"], "make gpu does not read METHOD="),
        (["bench", "METHOD=x", "GPU_PYTHON=x"], "make bench does not read GPU_PYTHON="),
    ],
)
def test_make_refuses_a_variable_that_the_target_does_not_read(words: list[str], expected: str):
    assert expected in refused(*words)


def refused(*words: str, **environment: str) -> str:
    """The sentence with which make refuses these words before it starts a command."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    env = outside() | environment
    result = subprocess.run(["make", "-n", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and result.stdout == ""
    return result.stderr


def test_switches_are_on_off_or_refused():
    for on in ("1", "true", "yes", "True", " 1 "):
        assert composed("METHOD=all", f"PREDICTIONS={on}")[5:] == ["--predictions"], on
        assert "not slow" not in make("-n", "test", f"SLOW={on}"), on
    for off in ("0", "false", "no", "No", "", " "):
        assert composed("METHOD=all", f"PREDICTIONS={off}")[5:] == [], off
        assert "-m 'not slow'" in make("-n", "test", f"SLOW={off}"), off
    for neither in ("2", "of", "1 0", "all"):
        expected = f"={neither} is neither on nor off; give 1, true or yes, or 0, false or no."
        assert f"PREDICTIONS{expected}" in refused("bench", "METHOD=all", f"PREDICTIONS={neither}"), neither
        assert f"SLOW{expected}" in refused("test", f"SLOW={neither}"), neither
    assert "PREDICTIONS=2 is" in refused("bench", "METHOD=all", PREDICTIONS="2")
    assert "ruff" in make("-n", "lint", PREDICTIONS="2", SLOW="2")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bench", "METHOD=x", "MY VAR=1"], "make has no target MY VAR=1; it has bench sum"),
        (["MY VAR=1"], "(the name of a variable has no blanks)"),
        (["bench", "METHOD=x", "OWN=birds=my", "birds"], "make has no target birds; "),
    ],
)
def test_make_runs_nothing_if_one_target_is_unknown(words: list[str], expected: str):
    assert expected in refused(*words)


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        ("bench", "SEED", "make bench does not read SEED= (did you mean SEEDS=?); it reads BACKBONE "),
        ("bench", "DOMAIN", "DOMAIN= (did you mean DOMAINS=?)"),
        ("sum", "SPLITS", "SPLITS= (did you mean SPLIT=?)"),
        ("bench", "METHODS", "METHODS= (did you mean METHOD=?)"),
        ("bench", "EPOCHS", "EPOCHS= (did you mean SET=epochs=?)"),
        ("submit", "SEEDS", "SEEDS= (did you mean SEED=?)"),
    ],
)
def test_make_refuses_a_mistaken_name_in_the_environment(target: str, name: str, expected: str):
    sentence = refused(target, "METHOD=x", **{name: "5"})
    assert expected in sentence and f"(unset {name} in the environment)" in sentence
    assert target in make("-n", target, "METHOD=x", **{name: ""})


def test_make_takes_its_own_variables_and_leaves_the_environment_alone():
    output = make(
        "-n", "lint", "test", "SLOW=1", "PYTHON=python3", "SHELL=/bin/sh", "V=1", "VERBOSE=1", SEED="5", EPOCHS="3"
    )
    assert "pytest" in output and "ruff" in output
    others = {"FILE": "f", "NETWORK": "n", "WIDTH": "w", "LABELS": "l", "GPU": "0", "DATE": "d", "OUT": "o"}
    assert make("-n", "bench", "METHOD=x", **others) == make("-n", "bench", "METHOD=x")


def test_make_bench_reruns():
    assert composed("RERUN=0123", "DATA=d") == ["-m", "benchmark", "rerun", "0123", "--data", "d"]


def test_make_efficiency_keeps_the_parentheses_of_a_name():
    words = make("-n", "efficiency", "NETWORK=a(x=1, y='b'),c", "SIZE=64", "ONLY=blocks", "FROM=my runs", "DEVICE=cpu")
    assert words.split("-m benchmark ")[1].split("--only")[0].strip() == (
        "efficiency --network 'a(x=1, y='\\''b'\\''),c' --size '64' \\"
    )
    assert "--only 'blocks' --device 'cpu' --from 'my runs'" in words


def test_make_gpu_runs_in_the_venv_or_in_another_python():
    usual = make("-n", "-W", "pyproject.toml", "gpu", "ONLY=step,bench", "RESULTS=my results")
    assert "making .venv" in usual, "a changed project is installed first"
    assert ".venv/bin/python -m benchmark gpu --only 'step,bench' --results 'my results'" in usual
    own = make("-n", "-W", "pyproject.toml", "gpu", "GPU_PYTHON=/opt/my python/bin/python3")
    assert own.strip() == "'/opt/my python/bin/python3' -m benchmark gpu", "and .venv is neither made nor needed"
