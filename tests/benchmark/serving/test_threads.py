"""Several threads use one object, with forced interleaving: each call computes on one domain only."""

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from visual_decathlon.benchmark.perf.growth.domains import write
from visual_decathlon.benchmark.serving import multi_domain
from visual_decathlon.benchmark.serving.multi_domain import MultiDomain
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import select

PATIENCE = 1500  # s: no time limit, only the end of a thread that hangs, so that the test fails


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A backbone, and two domains on it with different logits."""
    folder = tmp_path_factory.mktemp("threads")
    backbone, one, _ = write(select("par_adapter_svd(rank=2)")[0], folder, 0.125)
    other, tensors = folder / "other.safetensors", load_file(one)
    tensors["head.bias"] = tensors["head.bias"].flip(0) + 1
    with safe_open(one, "pt") as file:
        save_file(tensors, other, file.metadata())
    return backbone, one, other


@pytest.fixture
def net(files: tuple[Path, Path, Path]) -> MultiDomain:
    backbone, one, other = files
    out = MultiDomain(backbone)
    out.load(one, "one")
    out.load(other, "other")
    return out


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def in_other_thread(action: Callable, *words):
    """Call `action` in a thread of its own, wait for it and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(action(*words)))
    thread.start()
    thread.join(PATIENCE)
    assert len(results) == 1, "it ended, and without an error"
    return results[0]


def during_next_pass(net: MultiDomain, name: str, action: Callable) -> None:
    """Halt the next forward pass of this domain inside the network until another thread has executed `action`."""
    site, _ = next(net.held[name].network.conv_sites())

    def halt(*_):
        hook.remove()
        in_other_thread(action)

    hook = net.held[name].network.get_submodule(site.norm).register_forward_hook(halt)


def test_each_thread_uses_its_own_domain(net: MultiDomain, x):
    wanted = {name: net(x, name) for name in ("one", "other")}
    assert not torch.equal(*wanted.values())
    barrier, results = threading.Barrier(2, timeout=PATIENCE), {}

    def use(name: str) -> None:
        net.use(name)
        barrier.wait()  # both have chosen
        results[name] = net(x), net.name

    threads = [threading.Thread(target=use, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, logits in wanted.items():
        assert torch.equal(results[name][0], logits) and results[name][1] == name
    net.use("one")
    in_other_thread(net.use, "other")
    assert net.name == "one" and torch.equal(net(x), wanted["one"])


def test_a_thread_without_a_choice_uses_the_last_choice(net: MultiDomain, x):
    net.use("other")
    assert in_other_thread(lambda: net.name) == "other" and torch.equal(in_other_thread(net, x), net(x))
    in_other_thread(net.drop, "other")
    with pytest.raises(InputError, match="no domain is in use"):
        net(x)
    net.use("one")
    in_other_thread(net.use, "one")
    net.drop("one")
    assert net.name == "" == in_other_thread(lambda: net.name)


@pytest.mark.parametrize("call", ["named", "in use"])
def test_other_threads_change_nothing_in_a_running_pass(call: str, net: MultiDomain, x, files):
    _, one, other = files
    wanted, others = net(x, "one"), net(x, "other")

    def meddle() -> None:
        assert torch.equal(net(x, "other"), others)
        net.use("other")
        net.load(other, "one")
        assert torch.equal(net(x, "one"), others)
        net.load(one, "merged", merge=True)
        assert torch.allclose(net(x, "merged"), wanted, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            net(x, "other")
        net.drop("one")
        net.drop("other")
        torch.set_grad_enabled(True)

    during_next_pass(net, "one", meddle)
    net.use("one")
    assert torch.equal(net(x, "one") if call == "named" else net(x), wanted)
    assert [*net.held] == ["merged"]


def test_predictions_during_other_predictions(net: MultiDomain, picture, files):
    images = [picture(kind, kind) for kind in range(3)]
    wanted, others = net.predict(images, "one"), net.predict(images, "other")
    assert wanted != others
    results = []
    during_next_pass(net, "one", lambda: results.append(net.predict(images, "other")))
    assert net.predict(images, "one") == wanted and results == [others]


class Door:
    """A lock with an event that is set when a thread has to wait for it."""

    def __init__(self):
        self.lock, self.waits = threading.RLock(), threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.waits.set()
            self.lock.acquire()

    def __exit__(self, *_) -> None:
        self.lock.release()


@pytest.mark.parametrize("what", ["load", "merge", "open"])
def test_two_threads_that_load_at_once_keep_the_random_numbers(what: str, net: MultiDomain, x, files, monkeypatch):
    """The second thread waits; otherwise it would save and restore a state from which the first has drawn."""
    backbone, one, _ = files
    wanted, door, threads = net(x, "one"), Door(), []
    second = {
        "load": lambda: net.load(one, "second"),
        "merge": lambda: net.load(one, "second", merge=True),
        "open": lambda: MultiDomain(backbone),
    }[what]
    restore = multi_domain.restore

    def halted(*words):
        if not threads:
            threads.append(threading.Thread(target=second))
            threads[0].start()
            assert door.waits.wait(PATIENCE)
        return restore(*words)

    monkeypatch.setattr(multi_domain, "_LOADING", door)
    monkeypatch.setattr(multi_domain, "restore", halted)
    torch.manual_seed(3)
    numbers = torch.rand(4)
    torch.manual_seed(3)
    net.load(one, "first")
    threads[0].join(PATIENCE)
    assert torch.equal(torch.rand(4), numbers)
    assert torch.equal(net(x, "first"), wanted)
    assert what == "open" or torch.allclose(net(x, "second"), wanted, atol=1e-4)


def test_it_can_be_copied_and_pickled(net: MultiDomain, x):
    net.use("other")
    wanted = net(x)
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert again.name == "other" and torch.equal(again(x), wanted) and torch.equal(again(x, "one"), net(x, "one"))
