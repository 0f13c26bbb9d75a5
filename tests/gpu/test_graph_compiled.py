"""On a device: a compiled step, in a graph on a GPU, is close to the plain one. Compiling takes half a minute."""

import math


def test_a_compiled_step_comes_near_the_plain_one(trained):
    compiled, plain = (trained("par_adapter", f"compile={on}", "width=0.125", images=320) for on in ("true", "false"))
    assert compiled.history[0]["loss"] != compiled.history[1]["loss"]
    losses = zip(compiled.history, plain.history, strict=True)
    assert all(math.isclose(row["loss"], other["loss"], rel_tol=0.02) for row, other in losses)
