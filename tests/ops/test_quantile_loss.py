"""Quantile-Huber loss: hand-worked numbers, three implementations, and what it fits."""

import statistics
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.quantile import (
    dummy_reward_targets,
    huber,
    mean_and_shape,
    pairwise_quantile_huber_loss,
    quantile_fractions,
    quantile_huber_loss,
)

LOSSES = [quantile_huber_loss, pairwise_quantile_huber_loss]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def loss_and_gradient_by_loop(atoms, targets, fractions, kappa):
    """Sum over atoms of the mean over targets, one pair at a time."""
    loss, gradient = 0.0, np.zeros(len(atoms))
    for m, (atom, tau) in enumerate(zip(atoms, fractions, strict=True)):
        for target in targets:
            error = target - atom
            weight = 1 - tau if error < 0 else tau
            if abs(error) <= kappa:
                value, slope = error**2 / 2, error
            else:
                value = kappa * (abs(error) - kappa / 2)
                slope = kappa * (1 if error > 0 else -1)
            loss += weight * value / kappa / len(targets)
            gradient[m] -= weight * slope / kappa / len(targets)
    return loss, gradient


def test_huber():
    # 0.5^2/2; 1/2 from both sides; 1 * (2 - 1/2). The form with its branches exchanged
    # would be -0.5 at 0 and 2 at 2.
    errors = tensor([0.5, 1.0, 2.0, -2.0, 0.0, -1.0])
    expected = tensor([0.125, 0.5, 1.5, 1.5, 0.0, 0.5])
    torch.testing.assert_close(huber(errors), expected)
    # kappa = 2: 1/2 at 1, and 2 * (3 - 1) at 3.
    torch.testing.assert_close(huber(tensor([1.0, 3.0]), 2.0), tensor([0.5, 4.0]))


def test_huber_is_smooth_where_its_pieces_meet():
    for edge in (-1.0, 0.0, 1.0):
        sides = tensor([edge - 1e-9, edge + 1e-9]).requires_grad_()
        values = huber(sides)
        slopes = torch.autograd.grad(values.sum(), sides)[0]
        assert values.diff().abs().item() < 1e-8
        assert slopes.diff().abs().item() < 1e-8


def test_fractions():
    # (2m - 1) / 8 for m = 1..4, and m / 4.
    assert quantile_fractions(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert quantile_fractions(4, "right_edge").tolist() == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="left"):
        quantile_fractions(4, "left")


# Fractions 0.25 and 0.75, kappa 1.
# [0,1] on [2,2]: errors 2 and 1: 0.25 * 1.5 + 0.75 * 0.5 = 0.75.
# [0,1] on [0,1]: 0 sees 0 and 1: 0.25 * 0.5 / 2; 1 sees -1 and 0: 0.25 * 0.5 / 2.
# [3,4] on [2,2]: errors -1 and -2: 0.75 * 0.5 + 0.25 * 1.5 = 0.75.
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("atoms", "targets", "expected"),
    [([0, 1], [2, 2], 0.75), ([0, 1], [0, 1], 0.125), ([3, 4], [2, 2], 0.75)],
)
def test_hand_worked_losses(loss, atoms, targets, expected):
    got = loss(tensor(atoms).float(), tensor(targets).float(), quantile_fractions(2))
    assert got.item() == pytest.approx(expected, abs=1e-6)


# Multiples of 1/4 often equal each other or the Huber threshold. Floats rarely do.
QUARTERS = st.integers(-20, 20).map(lambda q: q / 4)
VALUES = st.one_of(QUARTERS, st.floats(-50, 50))


@settings(max_examples=200, derandomize=True)
@given(
    st.lists(VALUES, min_size=1, max_size=12),
    st.lists(VALUES, min_size=1, max_size=15),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    st.sampled_from(["midpoint", "right_edge"]),
)
def test_fast_equals_pairwise_equals_loop(atoms, targets, kappa, kind):
    fractions = quantile_fractions(len(atoms), kind)
    loss, gradient = loss_and_gradient_by_loop(
        atoms, targets, fractions.double().tolist(), kappa
    )
    for function in LOSSES:
        theta = tensor(atoms).requires_grad_()
        got = function(theta, tensor(targets), fractions, kappa)
        assert got.item() == pytest.approx(loss, rel=1e-6, abs=1e-9)
        got.backward()
        np.testing.assert_allclose(theta.grad, gradient, rtol=1e-6, atol=1e-9)


def test_batches_of_any_shape_and_layout():
    torch.manual_seed(0)
    atoms = torch.randn(5, 3, 4).transpose(0, 2)  # [4, 3, 5], not contiguous
    targets = torch.randn(7, 3, 4).transpose(0, 2)
    fractions = quantile_fractions(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = quantile_huber_loss(atoms, targets, fractions)
    assert fast.shape == (4, 3)
    assert fast.dtype == torch.float32
    slow = pairwise_quantile_huber_loss(atoms, targets, fractions)
    torch.testing.assert_close(fast, slow)
    for b in range(4):
        for t in range(3):
            expected, _ = loss_and_gradient_by_loop(
                atoms[b, t].tolist(), targets[b, t].tolist(), fractions.tolist(), 1.0
            )
            assert fast[b, t].item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=200, derandomize=True)
@given(st.data())
def test_every_row_may_have_fractions_of_its_own(data):
    num_atoms = data.draw(st.integers(1, 6))

    def rows(elements, size):
        return data.draw(
            st.lists(
                st.lists(elements, min_size=size, max_size=size), min_size=3, max_size=3
            )
        )

    atoms, targets = rows(VALUES, num_atoms), rows(VALUES, 4)
    fractions = rows(st.floats(0, 1), num_atoms)
    expected = [
        loss_and_gradient_by_loop(*row, 1.0)
        for row in zip(atoms, targets, fractions, strict=True)
    ]
    for function in LOSSES:
        theta = tensor(atoms).requires_grad_()
        losses = function(theta, tensor(targets), tensor(fractions))
        np.testing.assert_allclose(
            losses.detach(), [loss for loss, _ in expected], rtol=1e-6, atol=1e-9
        )
        losses.sum().backward()
        np.testing.assert_allclose(
            theta.grad, [gradient for _, gradient in expected], rtol=1e-6, atol=1e-9
        )


def test_far_from_zero_the_sums_of_squares_do_not_cancel():
    # Returns about -10 000 with a spread of 1: squares of 1e8 in the prefix sums.
    torch.manual_seed(1)
    atoms = -10_000 + torch.randn(8, 100)
    targets = -10_000 + torch.randn(8, 100)
    fractions = quantile_fractions(100)
    fast = quantile_huber_loss(atoms, targets, fractions)
    exact = pairwise_quantile_huber_loss(atoms.double(), targets.double(), fractions)
    torch.testing.assert_close(fast.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_by_finite_differences(loss):
    torch.manual_seed(2)
    atoms = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    targets = 2 * torch.randn(3, 9, dtype=torch.float64)
    fractions = quantile_fractions(6)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, fractions, 0.7), atoms)


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_get_no_gradient(loss):
    atoms = torch.randn(4, requires_grad=True)
    targets = torch.randn(4, requires_grad=True)
    loss(atoms, targets, quantile_fractions(4)).backward()
    assert targets.grad is None
    assert atoms.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_small_kappa_is_the_pinball_loss(loss):
    # kappa -> 0 leaves |tau - 1[u < 0]| |u|: 0.25 * 2 + 0.75 * 1 for [0,1] on [2,2].
    got = loss(tensor([0, 1]), tensor([2, 2]), quantile_fractions(2), 1e-6)
    assert got.item() == pytest.approx(1.25, abs=1e-5)


def fit(loss, steps=1500):
    """Free atoms fitted to the 20 midpoint quantiles of N(0, 5)."""
    torch.manual_seed(3)
    normal = statistics.NormalDist(0, 5)
    targets = tensor([normal.inv_cdf((m + 0.5) / 20) for m in range(20)])
    atoms = torch.randn(20, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([atoms], lr=0.3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(atoms, targets, quantile_fractions(20)).backward()
        optimizer.step()
        schedule.step()
    return atoms.detach()


def test_regression_recovers_the_distribution():
    # The outermost of 20 midpoint quantiles of N(0, 5) is 5 * -1.96 = -9.80, and their
    # standard deviation 4.8. The loss's quadratic part pulls them inwards a little.
    atoms = fit(quantile_huber_loss)
    assert (atoms.diff() > 0).all()
    assert atoms[0].item() == pytest.approx(-9.31, abs=0.02)
    assert atoms[-1].item() == pytest.approx(9.31, abs=0.02)
    assert atoms.std().item() == pytest.approx(4.68, abs=0.02)


def test_official_indexing_collapses_the_distribution():
    # With the fraction on the target axis every atom has the same loss.
    def official(atoms, targets, fractions):
        return pairwise_quantile_huber_loss(
            atoms, targets, fractions, form="rmix_released"
        )

    assert fit(official).std().item() < 1e-3


def test_official_form_by_loop():
    # The released code's error is predicted minus target, with the target's fraction.
    torch.manual_seed(4)
    atoms, targets = torch.randn(5).double(), torch.randn(5).double()
    fractions = quantile_fractions(5)
    expected = 0.0
    for atom in atoms.tolist():
        for target, tau in zip(targets.tolist(), fractions.tolist(), strict=True):
            error = atom - target
            size = error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5
            expected += abs(tau - (error < 0)) * size / 5
    got = pairwise_quantile_huber_loss(atoms, targets, fractions, form="rmix_released")
    assert got.item() == pytest.approx(expected, rel=1e-6)
    # Each row has its own fractions, which are equal here.
    rows = [x.expand(3, 2, 5) for x in (atoms, targets, fractions)]
    got = pairwise_quantile_huber_loss(*rows, form="rmix_released")
    assert got.flatten().tolist() == pytest.approx([expected] * 6, rel=1e-6)


# Targets 0, 1, 2, 10 at the midpoints 1/8 to 7/8, kappa 1: fractions on the targets'
# axis give one function of the value for every atom. If a target at or below the atom
# weighs 1 - tau (RiskQ), the slope at 1.5 is 7/8 + 5/8 (0.5) - 5/8 (0.5) - 7/8 = 0, and
# the loss there (7/8 + 5/8 / 8 + 5/8 / 8 + 7/8 * 8) / 4 = 8.03125 / 4. With the
# indicator inverted (RMIX) it is the same with 1/8 and 3/8.
@pytest.mark.parametrize(
    ("form", "targets", "value", "loss"),
    [
        ("riskq_released", (0, 1, 2, 10), 1.5, 2.0078125),
        ("rmix_released", (0, 1, 2, 10), 1.5, 0.3046875),
        ("riskq_released", (10, 0, 2, 1), 7 / 6, None),
        ("rmix_released", (10, 0, 2, 1), 1.7, None),
    ],
)
def test_a_released_loss_has_one_minimum_for_all_atoms(form, targets, value, loss):
    grid = torch.linspace(-2, 12, 140_001, dtype=torch.float64)
    targets = torch.tensor(targets).double()
    fractions = quantile_fractions(4).double()
    rows = torch.stack([grid] * 4, dim=-1)  # all four atoms at one value
    sums = pairwise_quantile_huber_loss(rows, targets, fractions, form=form)
    assert grid[sums.argmin()].item() == pytest.approx(value, abs=1e-4)
    if loss is not None:
        assert sums.min().item() == pytest.approx(4 * loss, abs=1e-6)
    # One function: an atom's loss does not depend on its place.
    for m in range(4):
        moved = torch.full((4,), value).double()
        moved[m] = 3.0
        one = pairwise_quantile_huber_loss(moved, targets, fractions, form=form)
        moved = moved.roll(1)
        other = pairwise_quantile_huber_loss(moved, targets, fractions, form=form)
        assert one.item() == pytest.approx(other.item(), rel=1e-12)


def test_the_right_loss_has_a_minimum_for_each_atom():
    # Slopes, as tau (targets above) - (1 - tau) (targets below), Huber's within 1:
    # e.g. the first: 1/8 (1 + 1 + (1 - .375)) = 7/8 * .375.
    grid = torch.linspace(-2, 12, 140_001, dtype=torch.float64)
    targets = torch.tensor([0.0, 1.0, 2.0, 10.0]).double()
    found = []
    for tau in quantile_fractions(4).double():
        losses = pairwise_quantile_huber_loss(grid[:, None], targets, tau[None])
        found.append(grid[losses.argmin()].item())
    assert found == pytest.approx([0.375, 1.125, 1.875, 9.571429], abs=1e-4)


def test_unknown_forms_are_refused():
    rows = [torch.zeros(4)] * 3
    with pytest.raises(ValueError, match="Unknown form of the quantile loss 'riskq'"):
        pairwise_quantile_huber_loss(*rows, form="riskq")


def test_mean_and_shape_by_hand():
    # Means 2 and 4; deviations (-2, 0, 2) and (-1, -1, 2). Mixed value 7.
    atoms = torch.tensor([[0.0, 2.0, 4.0], [3.0, 3.0, 6.0]])
    assert mean_and_shape(torch.tensor([7.0]), atoms).tolist() == [[4, 6, 11]]
    # A value for each agent: each keeps its own shape.
    each = mean_and_shape(torch.tensor([7.0, 1.0]), atoms)
    assert each.tolist() == [[5, 7, 9], [0, 0, 3]]


def test_dummy_reward_targets_by_hand():
    # Utilities 1 and 2, gamma 0.5, next atoms (0, 4) and (2, 6); then the end.
    utilities = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    atoms = torch.tensor([[[[0.0, 4.0], [2.0, 6.0]], [[8.0, 8.0], [8.0, 8.0]]]])
    discount = torch.tensor([[[0.5], [0.0]]])
    got = dummy_reward_targets(utilities, atoms, discount)
    assert got.tolist() == [[[[1, 3], [3, 5]], [[3, 3], [4, 4]]]]
    # Implied rewards: 1 - 0.5 * 2 = 0 and 2 - 0.5 * 4 = 0, so that the means are 1, 2.
    means = atoms.mean(dim=-1)
    got = dummy_reward_targets(utilities, atoms, discount, means)
    assert got.tolist() == [[[[0, 2], [1, 3]], [[3, 3], [4, 4]]]]
    with pytest.raises(ValueError, match="agents must have one shape"):
        dummy_reward_targets(utilities[..., :1], atoms, discount)
