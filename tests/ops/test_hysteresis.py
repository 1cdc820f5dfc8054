"""Hysteretic weights and LH-IQN's likelihood against hand-worked numbers and a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.hysteresis import (
    central_weights,
    hysteretic_weights,
    td_likelihood,
)
from rllib_risk.ops.quantile import huber, quantile_fractions, quantile_huber_loss

PROPERTY = settings(max_examples=200, derandomize=True)
# Multiples of 1/4 often equal each other or a bin's edge. Floats rarely do.
VALUES = st.one_of(st.integers(-20, 20).map(lambda q: q / 4), st.floats(-50, 50))


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def likelihood_by_loop(samples, fractions, targets, half_width):
    """The likelihood, one target and one bin at a time."""
    values, edges = sorted(samples), sorted(fractions)
    total = 0.0
    for target in targets:
        for b in range(len(values) - 1):
            left, right = values[b], values[b + 1]
            if left == right:
                continue
            overlap = min(target + half_width, right) - max(target - half_width, left)
            share = max(overlap, 0.0) / (right - left)
            total += (edges[b + 1] - edges[b]) * share
    return total / len(targets)


# Quantiles 0, 1, 2, 3 at the four midpoints: three bins of width 1 and mass 0.25. Width
# of the interval 2 * 0.125 = 0.25.
# 1.5: all of the interval in one bin: 0.25 * 0.25. 1: half in each of two bins, the
# same. 0: half outside: 0.25 * 0.125. 10: outside. All four atoms: (0.03125 + 0.0625 +
# 0.0625 + 0.03125) / 4. Wide: all bins, 0.75, the mass from first to last fraction.
@pytest.mark.parametrize(
    ("targets", "half_width", "expected"),
    [
        ([1.5], 0.125, 0.0625),
        ([1.0], 0.125, 0.0625),
        ([0.0], 0.125, 0.03125),
        ([10.0], 0.125, 0.0),
        ([0.0, 1.0, 2.0, 3.0], 0.125, 0.046875),
        ([1.5], 100.0, 0.75),
    ],
)
def test_likelihood_by_hand(targets, half_width, expected):
    samples, fractions = tensor([0, 1, 2, 3]), tensor([0.125, 0.375, 0.625, 0.875])
    got = td_likelihood(samples, fractions, tensor(targets), half_width)
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_sampled_fractions_come_in_any_order():
    # The same quantiles and fractions, shuffled as pairs.
    samples, fractions = tensor([2, 0, 3, 1]), tensor([0.625, 0.125, 0.875, 0.375])
    got = td_likelihood(samples, fractions, tensor([1.5]), 0.125)
    assert got.item() == pytest.approx(0.0625)


def test_quantiles_that_cross_make_no_negative_mass():
    # 1 at fraction 0.1, 0 at 0.9: as pairs the only bin would have the mass 0.1 - 0.9.
    # After sorting its mass is 0.8, and an interval of 0.5 covers half of that.
    got = td_likelihood(tensor([1, 0]), tensor([0.1, 0.9]), tensor([0.5]), 0.25)
    assert got.item() == pytest.approx(0.4)


def test_bins_without_width_and_single_quantiles_count_nothing():
    # 0, 1, 1: the bin from 0 to 1 has the mass 0.5 - 0.2; the other bin has no width.
    got = td_likelihood(tensor([0, 1, 1]), tensor([0.2, 0.5, 0.9]), tensor([1]), 2.0)
    assert got.item() == pytest.approx(0.3)
    assert td_likelihood(tensor([1]), tensor([0.5]), tensor([1]), 1.0).item() == 0.0


@PROPERTY
@given(st.data(), st.floats(0.01, 20))
def test_likelihood_is_a_probability_and_equals_the_loop(data, half_width):
    samples = data.draw(st.lists(VALUES, min_size=1, max_size=12))
    fractions = data.draw(
        st.lists(st.floats(0, 1), min_size=len(samples), max_size=len(samples))
    )
    targets = data.draw(st.lists(VALUES, min_size=1, max_size=8))
    got = td_likelihood(tensor(samples), tensor(fractions), tensor(targets), half_width)
    expected = likelihood_by_loop(samples, fractions, targets, half_width)
    assert got.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0 <= got.item() <= 1 + 1e-12


def test_likelihood_of_batches():
    torch.manual_seed(0)
    samples, targets = torch.randn(3, 2, 5), torch.randn(3, 2, 7)
    fractions = torch.rand(3, 2, 5)
    got = td_likelihood(samples.requires_grad_(), fractions, targets, 0.3)
    assert got.shape == (3, 2)
    assert not got.requires_grad
    shared = td_likelihood(samples, fractions[0, 0], targets, 0.3)
    for b, t in np.ndindex(3, 2):
        one = (samples[b, t].tolist(), targets[b, t].tolist(), 0.3)
        own = likelihood_by_loop(one[0], fractions[b, t].tolist(), *one[1:])
        assert got[b, t].item() == pytest.approx(own, abs=1e-5)
        same = likelihood_by_loop(one[0], fractions[0, 0].tolist(), *one[1:])
        assert shared[b, t].item() == pytest.approx(same, abs=1e-5)


def test_weights_by_hand():
    errors = tensor([0.5, 0.0, -0.1, -3.0])
    # Not negative: 1. Negative: alpha, or the likelihood where that is larger.
    assert hysteretic_weights(errors, 0.2).tolist() == [1, 1, 0.2, 0.2]
    likelihood = tensor([0.0, 0.9, 0.1, 0.6])
    assert hysteretic_weights(errors, 0.2, likelihood).tolist() == [1, 1, 0.2, 0.6]


def test_weights_without_hysteresis_are_one():
    # alpha = 1 is plain IQN.
    errors = torch.randn(50)
    assert (hysteretic_weights(errors, 1.0, torch.rand(50)) == 1).all()


def test_weights_have_no_gradient():
    errors = torch.randn(5, requires_grad=True)
    likelihood = torch.rand(5, requires_grad=True)
    assert not hysteretic_weights(errors, 0.1, likelihood).requires_grad


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_weights_outside_the_range_are_refused(alpha):
    with pytest.raises(ValueError, match="hysteretic weight"):
        hysteretic_weights(torch.zeros(2), alpha)


def test_one_quantile_at_the_median_is_half_of_huber():
    # |0.5 - 1[u < 0]| is 0.5 on both sides.
    values, targets = torch.randn(30, 1), 3 * torch.randn(30, 1)
    loss = quantile_huber_loss(values, targets, quantile_fractions(1))
    expected = 0.5 * huber(targets - values).squeeze(-1)
    torch.testing.assert_close(loss, expected)


# The climb game [[11, -30, 0], [-30, 7, 6], [0, 0, 5]] with the other agent uniform. A
# value v has settled where sum of w (y - v) over its three payoffs is zero, w = 1 above
# v and alpha below. Agent 1's first action, alpha 0.1: (11 - 3 + 0) / 1.2 = 6.667; the
# second: 4.762 = (6 + 7 - 0.1 * 30) / 2.1; the third: (5 + 0 + 0) / 1.2 = 4.167. With
# alpha 1 the means: -19/3, -17/3, 5/3, which prefer the third action (payoff 5).
@pytest.mark.parametrize(
    ("alpha", "agent_1", "agent_2"),
    [
        (1.0, [-6.3333, -5.6667, 1.6667], [-6.3333, -7.6667, 3.6667]),
        (0.1, [6.6667, 4.7619, 4.1667], [6.6667, 3.3333, 5.4167]),
        (0.2, [3.5714, 3.1818, 3.5714], [3.5714, 0.7143, 5.0]),
    ],
)
def test_hysteretic_values_of_the_climb_game(alpha, agent_1, agent_2):
    payoffs = tensor([[11, -30, 0], [-30, 7, 6], [0, 0, 5]])
    for rows, expected in ((payoffs, agent_1), (payoffs.T, agent_2)):
        values = torch.zeros(3, 1, dtype=torch.float64)
        for _ in range(400):
            errors = rows - values
            step = hysteretic_weights(errors, alpha) * errors
            values = values + 0.3 * step.mean(dim=1, keepdim=True)
        assert values.flatten().tolist() == pytest.approx(expected, abs=1e-3)


def test_central_weights_by_hand():
    # Both greedy; one not greedy and the target not above `best`; the target above.
    actions = torch.tensor([[[0, 1], [0, 0], [1, 1]]])
    greedy = torch.tensor([[[0, 1], [0, 1], [0, 1]]])
    targets = torch.tensor([[[1.0], [5.0], [6.0]]])
    best = torch.full_like(targets, 5.0)
    weights = central_weights(actions, greedy, targets, best, 0.1)
    assert weights.flatten().tolist() == pytest.approx([1.0, 0.1, 1.0])
    with pytest.raises(ValueError, match="values must have one shape"):
        central_weights(actions, greedy, targets, best[:, :1], 0.1)
