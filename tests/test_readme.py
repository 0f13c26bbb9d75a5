"""The README's code does what the README says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CHECK = """
import torch
from benchmark.backbones.resnet26 import resnet26
from benchmark.backbones.shapes import shapes_of
from methods.layers.network import own_tensors
from methods.registry import select

source = resnet26(10, 0.125)
shapes = shapes_of(source)
(method,) = select("shift")
network = method.place(source, 7).train()
trained = {name for name, p in network.named_parameters() if p.requires_grad}
assert set(own_tensors(network, source)) == trained
assert sum(p.numel() for p in network.parameters() if p.requires_grad) == method.floats(shapes) + shapes.head(7)
network(torch.randn(4, 3, 32, 32)).sum().backward()
assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters() if p.requires_grad)
print("fine")
"""


def test_the_example_method_is_a_method(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(example.splitlines()) < 30
    (tmp_path / "shift.py").write_text(example + CHECK)
    done = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(tmp_path / 'shift.py')!r}).read())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fine\n", done.stderr


def test_every_variable_of_the_readme_is_one_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    table = (ROOT / "README.md").read_text().split("| variable |")[1].split("\n\n")[0]
    names = {name for cell in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in re.findall(r"`([A-Z]+)`", cell)}
    assert names
    named = set(re.findall(r"option,([A-Z]+),", makefile)) | {"METHOD", "OWN"}
    assert names <= named
