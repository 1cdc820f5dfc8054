"""CVaR and its relatives against hand-worked numbers and a second implementation."""

import statistics
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.risk import (
    as_fraction,
    cvar,
    cvar_weights,
    num_kept_atoms,
    num_kept_atoms_float32,
    sort_atoms,
    straight_through_level,
)

PROPERTY = settings(max_examples=200, derandomize=True)
NUMBERS = st.floats(-100, 100, allow_nan=False, width=32)
ATOMS = st.lists(NUMBERS, min_size=1, max_size=40)
LEVELS = st.integers(1, 10).map(lambda k: k / 10)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def cvar_by_loop(atoms, k, num_levels):
    """Mean of the ceil(k M / K) smallest, picked one at a time."""
    rest = [float(a) for a in atoms]
    kept = -(-k * len(rest) // num_levels)
    total = 0.0
    for _ in range(kept):
        smallest = min(rest)
        rest.remove(smallest)
        total += smallest
    return total / kept


def cvar_by_supremum(atoms, level):
    """Rockafellar and Uryasev: max over c of c - E[(c - X)+] / level.

    The maximum of this concave, piecewise linear function lies at one of the atoms.
    """
    x = np.asarray(atoms, np.float64)
    return max(c - np.maximum(c - x, 0).mean() / level for c in x)


# Atoms 1..10. "count": mean of the lowest 1, 3, 5, 7, 10. "eq2_raw": their sums 1, 6,
# 15, 28, 55 over M = 10. "code_offby1": the sums over 0, 2, 4, 6, 9. The first would
# divide by zero, so it is the atom itself.
@pytest.mark.parametrize(
    ("level", "count", "raw", "official"),
    [
        (0.1, 1.0, 0.1, 1.0),
        (0.3, 2.0, 0.6, 3.0),
        (0.5, 3.0, 1.5, 3.75),
        (0.7, 4.0, 2.8, 28 / 6),
        (1.0, 5.5, 5.5, 55 / 9),
    ],
)
def test_cvar_of_one_to_ten(level, count, raw, official):
    atoms = tensor([7, 1, 10, 4, 2, 9, 3, 6, 8, 5])
    for norm, expected in (
        ("count", count),
        ("eq2_raw", raw),
        ("code_offby1", official),
    ):
        assert cvar(atoms, level, norm=norm).item() == pytest.approx(expected)


def test_official_form_at_level_one_is_off_by_one_atom():
    # M / (M - 1) times the mean: 100/99 of it at M = 100.
    atoms = torch.randn(100, dtype=torch.float64)
    official = cvar(atoms, 1, norm="code_offby1").item()
    assert official == pytest.approx(atoms.mean().item() * 100 / 99)


# ceil(k M / 10) for k = 1..10. In float32 ceil(0.3 * 100) is 31, hence integers.
@pytest.mark.parametrize(
    ("num_atoms", "kept"),
    [
        (100, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (65, [7, 13, 20, 26, 33, 39, 46, 52, 59, 65]),
        (55, [6, 11, 17, 22, 28, 33, 39, 44, 50, 55]),
        (10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_kept_atoms(num_atoms, kept):
    levels = [k / 10 for k in range(1, 11)]
    assert [num_kept_atoms(level, num_atoms) for level in levels] == kept
    rows = cvar_weights(levels, num_atoms)
    assert (rows > 0).sum(dim=1).tolist() == kept
    # The kept atoms are the lowest ones.
    for row, number in zip(rows, kept, strict=True):
        assert (row[:number] > 0).all()


@pytest.mark.parametrize("num_atoms", [50, 100, 200])
@pytest.mark.parametrize("level", [0.3, 0.6, "0.3", np.float64(0.6)])
def test_levels_that_float32_rounds_up(num_atoms, level):
    assert num_kept_atoms(level, num_atoms) == round(float(level) * num_atoms)


# In float32 alpha M - 1 is above the integer at 0.3 and 0.6 of 50, 100 and 200 atoms,
# so its ceiling is one more. All other levels are as in integers.
@pytest.mark.parametrize(
    ("num_atoms", "kept"),
    [
        (20, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (50, [5, 10, 16, 20, 25, 31, 35, 40, 45, 50]),
        (100, [10, 20, 31, 40, 50, 61, 70, 80, 90, 100]),
        (200, [20, 40, 61, 80, 100, 121, 140, 160, 180, 200]),
    ],
)
def test_kept_atoms_of_the_released_float32_code(num_atoms, kept):
    levels = [k / 10 for k in range(1, 11)]
    assert [num_kept_atoms_float32(level, num_atoms) for level in levels] == kept
    rows = cvar_weights(levels, num_atoms, norm="code_offby1", mode="ceil_float32")
    assert (rows > 0).sum(dim=1).tolist() == kept
    for row, number in zip(rows, kept, strict=True):
        assert row[:number].tolist() == pytest.approx([1 / (number - 1)] * number)


@PROPERTY
@given(st.integers(1, 300), st.integers(1, 100), st.data())
def test_the_float32_count_is_that_of_float32_tensors(num_atoms, num_levels, data):
    k = data.draw(st.integers(1, num_levels))
    level = torch.tensor(float(k)) / torch.tensor(float(num_levels))
    last = torch.ceil(level * num_atoms - 1).int()
    counted = (torch.arange(num_atoms).int() <= last).sum().item()
    assert num_kept_atoms_float32(Fraction(k, num_levels), num_atoms) == counted


def test_cvar_of_one_to_a_hundred_as_released():
    # Level 0.3: 1 + ... + 31 = 496, over 30 as released; 1 + ... + 30 = 465 over 29 in
    # integers; 496 / 31 as a mean.
    atoms = torch.arange(1.0, 101.0)
    released = cvar(atoms, 0.3, norm="code_offby1", mode="ceil_float32")
    assert released.item() == pytest.approx(496 / 30)
    assert cvar(atoms, 0.3, norm="code_offby1").item() == pytest.approx(465 / 29)
    assert cvar(atoms, 0.3, mode="ceil_float32").item() == pytest.approx(16.0)


# M = 55, atoms 1..55. ceil: the mean of 1..6, 1..17, 1..28.
# exact: 5.5 atoms are kept at 0.1, so (1+..+5 + 0.5 * 6) / 5.5 = 18 / 5.5; at 0.3 it is
# 16.5: (136 + 0.5 * 17) / 16.5; at 0.5 it is 27.5: (378 + 0.5 * 28) / 27.5.
@pytest.mark.parametrize(
    ("level", "ceil", "exact"),
    [
        (0.1, 3.5, 18 / 5.5),
        (0.3, 9.0, 144.5 / 16.5),
        (0.5, 14.5, 392 / 27.5),
    ],
)
def test_exact_mode(level, ceil, exact):
    atoms = torch.arange(1, 56, dtype=torch.float64)
    assert cvar(atoms, level).item() == pytest.approx(ceil)
    assert cvar(atoms, level, mode="exact").item() == pytest.approx(exact, rel=1e-6)


@PROPERTY
@given(ATOMS, st.integers(1, 10))
def test_ceil_mode_is_the_mean_of_the_smallest(atoms, k):
    got = cvar(tensor(atoms), k / 10).item()
    assert got == pytest.approx(cvar_by_loop(atoms, k, 10), rel=1e-6, abs=1e-5)


@PROPERTY
@given(ATOMS, st.floats(0.01, 1))
def test_exact_mode_is_the_supremum_form(atoms, level):
    got = cvar(tensor(atoms), level, mode="exact").item()
    assert got == pytest.approx(cvar_by_supremum(atoms, level), rel=1e-5, abs=1e-4)


@PROPERTY
@given(ATOMS)
def test_level_one_is_the_mean(atoms):
    """R2: for 200 random distributions."""
    for mode in ("ceil", "exact"):
        got = cvar(tensor(atoms), 1, mode=mode).item()
        assert got == pytest.approx(np.mean(atoms), rel=1e-6, abs=1e-5)


@PROPERTY
@given(ATOMS, st.randoms(use_true_random=False), st.sampled_from(["ceil", "exact"]))
def test_monotone_in_the_level_below_the_mean_and_blind_to_order(atoms, rng, mode):
    """R2: monotone in the level."""
    levels = [k / 20 for k in range(1, 21)]
    values = [cvar(tensor(atoms), level, mode=mode).item() for level in levels]
    assert (np.diff(values) >= -1e-5).all()
    assert max(values) <= np.mean(atoms) + 1e-5
    shuffled = list(atoms)
    rng.shuffle(shuffled)
    for level, value in zip(levels, values, strict=True):
        assert cvar(tensor(shuffled), level, mode=mode).item() == value


@PROPERTY
@given(ATOMS, NUMBERS, st.floats(0.01, 50), LEVELS)
def test_translation_and_positive_scaling(atoms, shift, scale, level):
    """R2: for 200 random distributions."""
    base = cvar(tensor(atoms), level).item()
    moved = cvar(shift + scale * tensor(atoms), level).item()
    assert moved == pytest.approx(shift + scale * base, rel=1e-5, abs=1e-3)


@PROPERTY
@given(NUMBERS, st.integers(2, 40), LEVELS)
def test_constant_atoms_have_that_value_at_every_level(value, num_atoms, level):
    atoms = tensor([value] * num_atoms)
    assert cvar(atoms, level).item() == pytest.approx(value, rel=1e-6)
    exact = cvar(atoms, level, mode="exact").item()
    assert exact == pytest.approx(value, rel=1e-6)


@PROPERTY
@given(st.integers(1, 60), st.integers(1, 20))
def test_exact_mode_is_a_distortion_of_probability(num_atoms, k):
    # CVaR asks for quantiles at level * tau, so g(u) = min(u / level, 1), and atom j
    # weighs g(j/M) - g((j - 1)/M).
    edges = np.minimum(np.arange(num_atoms + 1) / num_atoms / (k / 20), 1)
    weights = cvar_weights([k / 20], num_atoms, mode="exact")[0]
    np.testing.assert_allclose(weights, np.diff(edges), atol=1e-6)


QUANTILES = (np.arange(10_000) + 0.5) / 10_000


@pytest.mark.parametrize("level", [0.05, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_closed_forms(level):
    """R2: uniform, normal and two-point returns, 10,000 quantiles."""
    # Uniform on [0, 1]: the mean of [0, level].
    assert cvar(tensor(QUANTILES), level).item() == pytest.approx(level / 2, abs=1e-3)
    # Standard normal: E[X | X <= z] = -phi(z) / level with P(X <= z) = level.
    normal = statistics.NormalDist()
    atoms = tensor([normal.inv_cdf(q) for q in QUANTILES])
    expected = -normal.pdf(normal.inv_cdf(level)) / level if level < 1 else 0.0
    assert cvar(atoms, level).item() == pytest.approx(expected, abs=1e-3)
    # -5 with probability 0.2, else 4: (0.2 * -5 + (level - 0.2) * 4) / level above 0.2.
    atoms = tensor(np.where(QUANTILES < 0.2, -5.0, 4.0))
    expected = -5.0 if level <= 0.2 else (-1.0 + (level - 0.2) * 4) / level
    assert cvar(atoms, level).item() == pytest.approx(expected, abs=1e-3)


def test_gradient_is_one_nth_on_the_n_smallest():
    # M = 10, level 0.3: the three smallest, 1, 2 and 3, stand at positions 1, 4 and 6.
    atoms = tensor([7, 1, 10, 4, 2, 9, 3, 6, 8, 5]).requires_grad_()
    cvar(atoms, 0.3).backward()
    expected = torch.zeros(10, dtype=torch.float64)
    expected[[1, 4, 6]] = 1 / 3
    torch.testing.assert_close(atoms.grad, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", ["ceil", "exact"])
def test_gradient_by_finite_differences(mode):
    torch.manual_seed(0)
    atoms = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cvar(x, 0.4, mode=mode), (atoms,))


def test_straight_through_is_hard_in_value_and_trains_the_level():
    torch.manual_seed(1)
    atoms = torch.randn(6, 20, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    weights = cvar_weights([k / 5 for k in range(1, 6)], 20).double()
    values = straight_through_level(
        sort_atoms(atoms) @ weights.T, logits.softmax(dim=-1)
    )
    chosen = logits.argmax(dim=-1)
    for row, k in enumerate(chosen.tolist()):
        hard = cvar_by_loop(atoms[row].tolist(), k + 1, 5)
        assert values[row].item() == pytest.approx(hard, rel=1e-6)
    values.sum().backward()
    for row, k in enumerate(chosen.tolist()):
        # Level (k + 1)/5 of 20 atoms keeps 4 (k + 1): the hard choice's gradient.
        kept = 4 * (k + 1)
        lowest = atoms[row].argsort()[:kept]
        expected = torch.zeros(20, dtype=torch.float64)
        expected[lowest] = 1 / kept
        torch.testing.assert_close(atoms.grad[row], expected, rtol=1e-6, atol=0)
    # The probabilities of a softmax sum to 1, so the gradients sum to 0.
    assert logits.grad.sum(dim=-1).abs().max() < 1e-12
    assert (logits.grad.abs().sum(dim=-1) > 1e-3).all()


def test_straight_through_pushes_the_level_the_way_the_value_must_go():
    # d(value)/d(logits) = P (C - E_P[C]); d(E[level])/d(logits) = P (alpha - E[alpha]).
    # C and alpha both rise with k, so a step that raises the value raises the level.
    torch.manual_seed(2)
    levels = torch.arange(1, 11, dtype=torch.float64) / 10
    weights = cvar_weights(levels.tolist(), 50).double()
    atoms = torch.randn(200, 50, dtype=torch.float64)
    logits = torch.randn(200, 10, dtype=torch.float64, requires_grad=True)
    probs = logits.softmax(dim=-1)
    values = straight_through_level(sort_atoms(atoms) @ weights.T, probs)
    up = torch.autograd.grad(values.sum(), logits, retain_graph=True)[0]
    level_up = torch.autograd.grad((probs * levels).sum(), logits)[0]
    after = ((logits + 0.01 * up).softmax(dim=-1) * levels).sum(dim=-1)
    assert (after > (probs * levels).sum(dim=-1)).all()
    assert ((up * level_up).sum(dim=-1) > 0).all()


def test_sort_is_the_same_with_and_without_gradient():
    torch.manual_seed(3)
    atoms = torch.randn(4, 5, 6).transpose(0, 2)  # [6, 5, 4], not contiguous
    with_grad = sort_atoms(atoms.clone().requires_grad_())
    assert torch.equal(sort_atoms(atoms), with_grad)
    with torch.no_grad():
        assert torch.equal(sort_atoms(atoms.clone().requires_grad_()), with_grad)
    with torch.inference_mode():
        assert torch.equal(sort_atoms(atoms.clone()), with_grad)


@pytest.mark.parametrize("level", [0, -0.1, 1.01, float("nan"), float("inf"), "x"])
def test_levels_outside_the_range_are_refused(level):
    with pytest.raises(
        ValueError, match=rf"risk level must be in \(0, 1\], not {level}"
    ):
        as_fraction(level)


def test_unknown_forms_are_refused():
    with pytest.raises(ValueError, match="mode='floor'"):
        cvar_weights([0.5], 10, mode="floor")
    with pytest.raises(ValueError, match="norm='other'"):
        cvar_weights([0.5], 10, norm="other")
    with pytest.raises(ValueError, match="exact"):
        cvar_weights([0.5], 10, norm="eq2_raw", mode="exact")
