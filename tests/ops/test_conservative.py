"""The conservative penalty: hand-worked numbers and what it does to values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.conservative import (
    conservative_penalty,
    counterfactual_penalty,
    divergence_weights,
    sampled_penalty,
)
from rllib_risk.ops.implicit import batch_weights

ALL = torch.ones(3)
TAKEN = torch.tensor(1)
PROPERTY = settings(max_examples=200, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    # log(e + e^2 + e^.5) - 2 = log(11.756060) - 2 = .464369; the gradient is the
    # softmax (2.718282, 7.389056, 1.648721) / 11.756060, less 1 at the action taken.
    values = tensor([1.0, 2.0, 0.5]).requires_grad_()
    penalty = conservative_penalty(values, TAKEN, ALL)
    assert penalty.item() == pytest.approx(0.464369, abs=1e-6)
    penalty.backward()
    assert values.grad.tolist() == pytest.approx([0.231224, -0.371468, 0.140244], 1e-5)


def test_equal_values_cost_the_logarithm_of_their_number():
    taken, mask = torch.zeros(2, dtype=torch.long), torch.ones(2, 55)
    for constant in (0.0, -1000.0):
        penalty = conservative_penalty(torch.full((2, 55), constant), taken, mask)
        assert penalty.tolist() == pytest.approx([4.007333] * 2, abs=1e-3)
    # Atoms have the mean of their penalties. Only available actions count.
    atoms = torch.zeros(2, 55, 8)
    assert conservative_penalty(atoms, taken, mask).tolist() == pytest.approx(
        [math.log(55)] * 2
    )
    mask[:, 10:] = 0
    assert conservative_penalty(atoms, taken, mask).tolist() == pytest.approx(
        [math.log(10)] * 2
    )


def test_what_is_not_available_gets_no_gradient():
    values = tensor([1.0, 2.0, 90.0]).requires_grad_()
    penalty = conservative_penalty(values, TAKEN, tensor([1, 1, 0]))
    penalty.backward()
    # log(1 + e^-1)
    assert penalty.item() == pytest.approx(0.313262, abs=1e-6)
    assert values.grad[2] == 0.0


numbers = st.lists(st.floats(-50, 50), min_size=2, max_size=6)


@PROPERTY
@given(numbers, st.floats(-100, 100), st.integers(0, 5))
def test_properties(values, shift, taken):
    q = tensor(values).requires_grad_()
    action = torch.tensor(taken % len(values))
    mask = torch.ones(len(values))
    penalty = conservative_penalty(q, action, mask)
    assert penalty.item() >= -1e-9
    expected = torch.nn.functional.cross_entropy(q[None], action[None])
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(
        conservative_penalty(q + shift, action, mask), penalty, atol=1e-8, rtol=1e-6
    )
    (gradient,) = torch.autograd.grad(penalty, q)
    assert abs(gradient.sum().item()) < 1e-9
    others = torch.arange(len(values)) != action
    assert gradient[action] <= 1e-12 and (gradient[others] >= 0).all()


@PROPERTY
@given(st.integers(0, 1000), st.integers(2, 5), st.integers(1, 6))
def test_the_penalty_of_atoms_is_at_least_that_of_their_mean(seed, actions, num_atoms):
    # log-sum-exp is convex (Jensen), with equality where atoms differ by a shift alone.
    generator = torch.Generator().manual_seed(seed)
    atoms = 5 * torch.randn(actions, num_atoms, generator=generator).double()
    taken, mask = torch.tensor(0), torch.ones(actions)
    of_mean = conservative_penalty(atoms.mean(dim=-1), taken, mask)
    assert conservative_penalty(atoms, taken, mask) >= of_mean - 1e-9
    shifted = atoms[:, :1] + atoms[:1]
    torch.testing.assert_close(
        conservative_penalty(shifted, taken, mask),
        conservative_penalty(shifted.mean(dim=-1), taken, mask),
    )


# Two agents with two actions, both available. They took (0, 1), of value 1.
DEPARTURES = [[1.0, 2.0], [0.0, 1.0]]
BOTH = torch.ones(2, 2)


def test_sampled_joint_actions_by_hand():
    # log(e + 1 + e^2) - 1 = log(11.107338) - 1.
    penalty = sampled_penalty(tensor([0.0, 2.0]), tensor(1.0))
    assert penalty.item() == pytest.approx(1.407606, abs=1e-6)
    # Equal values cost the logarithm of their number, including the action taken.
    assert sampled_penalty(torch.zeros(20), torch.zeros(())).item() == pytest.approx(
        math.log(21)
    )


def test_departures_by_hand():
    # 1/4 log(e + e^2) + 3/4 log(1 + e) - 1 = 0.578315 + 0.984946 - 1.
    penalty = counterfactual_penalty(
        tensor(DEPARTURES), tensor(1.0), BOTH, tensor([0.25, 0.75])
    )
    assert penalty.item() == pytest.approx(0.563262, abs=1e-6)
    # Agent 0's unavailable action does not count: 1/4 (1) + 0.984946 - 1.
    mask = torch.tensor([[1, 0], [1, 1]])
    penalty = counterfactual_penalty(
        tensor(DEPARTURES), tensor(1.0), mask, tensor([0.25, 0.75])
    )
    assert penalty.item() == pytest.approx(0.234946, abs=1e-6)


def test_divergences_by_hand():
    # Both softmaxes are (0.268941, 0.731059). Agent 0's divergence from (1/2, 1/2) is
    # 0.268941 log 0.537883 + 0.731059 log 1.462117 = 0.110944. Agent 1's is 0: its
    # behaviour is the softmax. exp(5 * 0.110944) = 1.741457 to 1: 0.635236, 0.364764.
    behaviour = tensor([[0.5, 0.5], [0.268941, 0.731059]])
    weights = divergence_weights(tensor(DEPARTURES), behaviour, BOTH, 5.0)
    # 1e-5 is added to every probability.
    assert weights.tolist() == pytest.approx([0.635236, 0.364764], abs=5e-5)
    weights = divergence_weights(tensor(DEPARTURES), behaviour, BOTH, 0.0)
    assert weights.tolist() == pytest.approx([0.5, 0.5])


def test_weights_of_a_batch_by_hand():
    # exp(log 1) to exp(log 3): a quarter and three quarters, times two rows.
    values = tensor([0.0, math.log(3), 99.0])
    weights = batch_weights(values, torch.tensor([1, 1, 0]), 1.0)
    assert weights.tolist() == pytest.approx([0.5, 1.5, 0.0])
    # exp(log 3 / 2) = 1.732051 to 1.
    weights = batch_weights(values, torch.tensor([1, 1, 0]), 2.0)
    assert weights.tolist() == pytest.approx([0.732051, 1.267949, 0.0])
