"""What is drawn from a seed is numpy's Mersenne Twister, so it is equal on every machine and with every torch."""

from math import sqrt

import numpy as np
import pytest
import torch

from visual_decathlon.methods.layers.drawn import positions, uniform


def raw(seed: int, count: int) -> list[int]:
    """The first 32-bit numbers of the Mersenne Twister in its first authors' seeding."""
    bits = np.random.MT19937()
    bits._legacy_seeding(seed)
    return [int(bits.random_raw()) for _ in range(count)]


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_uniform_numbers(seed):
    whole = np.array([number % 2**24 for number in raw(seed, 60)], dtype=np.float32).reshape(20, 3)
    wanted = (2 * whole / np.float32(2**24) - 1) * np.float32(sqrt(3))
    assert np.array_equal(uniform(seed, 20, 3, like=torch.zeros(1)).numpy(), wanted)
    assert uniform(seed, 2, like=torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_they_have_variance_one():
    drawn = uniform(0, 100_000, like=torch.zeros(1))
    assert abs(float(drawn.mean())) < 0.01 and abs(float(drawn.var()) - 1) < 0.01
    assert not torch.equal(drawn, uniform(1, 100_000, like=torch.zeros(1)))


@pytest.mark.parametrize(("seed", "count", "among"), [(0, 6, 100), (5, 1, 1), (3, 40, 40), (9, 500, 9216)])
def test_positions(seed, count, among):
    """The first of a shuffle that swaps each place with a random one behind it."""
    order = list(range(among))
    for i, number in zip(range(among - 1), raw(seed, among - 1), strict=True):
        j = i + number % (among - i)
        order[i], order[j] = order[j], order[i]
    assert positions(seed, count, among, torch.zeros(1)).tolist() == sorted(order[:count])


def test_the_global_generator_and_type_do_not_matter():
    like, state = torch.zeros(1), torch.get_rng_state()
    wanted = uniform(0, 5, like=like), positions(0, 5, 50, like)
    torch.set_default_dtype(torch.float64)
    try:
        assert all(map(torch.equal, (uniform(0, 5, like=like), positions(0, 5, 50, like)), wanted))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
