"""Random numbers of a step: the published generator, their distributions, and their state."""

import copy

import pytest
import torch

from visual_decathlon.methods.layers.noise import Noise, splitmix64


def noise(seed: int = 0) -> Noise:
    torch.manual_seed(seed)
    return Noise()


def test_it_is_splitmix64():
    """In Python's integers; the first outputs from the seed 1234567 are those of the authors' reference code."""

    def reference(state: int) -> int:
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    gamma = 0x9E3779B97F4A7C15
    assert reference((1234567 + gamma) % 2**64) == 6457827717110365317
    positions = [0, 1, 2, 77, 2**40 + 3, 2**62]
    got = splitmix64(torch.tensor(positions)).tolist()
    assert [word % 2**64 for word in got] == [reference(at * gamma % 2**64) for at in positions]


def test_gumbels_distribution():
    draws = noise()
    first, again = (draws.gumbel(torch.Size((20000, 2))) for _ in range(2))
    assert first.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert first.var().item() == pytest.approx(torch.pi**2 / 6, rel=0.03)
    assert abs(torch.corrcoef(torch.stack([first.flatten(), again.flatten()]))[0, 1]) < 0.02
    assert first.isfinite().all() and first.dtype == torch.float32


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.0])
def test_dropout(rate):
    """Every channel, row, column and image loses its share; what is kept is divided by 1 - rate."""
    x = torch.randn(32, 8, 24, 20)
    y = noise().dropout(x, rate)
    kept = y != 0
    assert torch.allclose(y[kept], x[kept] / (1 - rate), rtol=1e-4)
    for dim in range(4):
        share = kept.double().mean([d for d in range(4) if d != dim])
        assert (share - (1 - rate)).abs().max() < 0.04
    assert kept.double().mean().item() == pytest.approx(1 - rate, abs=0.003)
    lanes = kept.permute(0, 2, 3, 1).flatten()[: len(x) * 3840 // 4 * 4].view(-1, 4).double()
    if rate:
        assert (torch.corrcoef(lanes.T) - torch.eye(4)).abs().max() < 0.02


def test_dropout_does_not_depend_on_the_memory_format():
    x = torch.randn(3, 5, 7, 4)
    wanted = noise().dropout(x, 0.3)
    assert torch.equal(noise().dropout(x.to(memory_format=torch.channels_last), 0.3), wanted)
    assert noise().dropout(x.bfloat16(), 0.3).dtype == torch.bfloat16


def test_the_state_is_one_number():
    """It moves on in place, so a checkpoint and a captured step see it; torch's generator is left alone."""
    draws = noise()
    state, counter = torch.get_rng_state(), draws.drawn
    same = copy.deepcopy(draws)
    first = draws.words(10)
    assert draws.drawn is counter and counter == same.drawn + 10
    assert torch.equal(torch.cat([same.words(4), same.words(6)]), first)
    assert not torch.isin(draws.words(10), first).any()
    assert torch.equal(torch.get_rng_state(), state) and not draws.state_dict()
    assert len({int(noise(seed).drawn) for seed in range(4)}) == 4
