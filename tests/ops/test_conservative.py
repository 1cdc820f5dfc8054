"""The conservative penalty: hand-worked numbers and what it does to values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.conservative import conservative_penalty

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
    # Per atom the same, and the mean of all; only legal actions count.
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
