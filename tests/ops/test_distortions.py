"""Distortion risk measures and mean-variance: closed forms, two views, properties."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.risk import (
    DISTORTION_PARAMETERS,
    check_distortion,
    cvar,
    distort_fractions,
    distortion_weights,
    mean_variance,
    sort_atoms,
    var_weights,
)

PROPERTY = settings(max_examples=200, derandomize=True)
NUMBERS = st.floats(-100, 100, allow_nan=False, width=32)
ATOMS = st.lists(NUMBERS, min_size=1, max_size=40)
KINDS = st.sampled_from(sorted(DISTORTION_PARAMETERS))
# Inside the range of every kind.
PARAMETERS = st.floats(0.3, 2.5)
NORMAL = statistics.NormalDist()
# Midpoints: atom j stands for the fractions ((j - 1)/M, j/M].
MANY = (np.arange(100_000) + 0.5) / 100_000


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def measure(kind, atoms, parameter):
    atoms = tensor(atoms) if not torch.is_tensor(atoms) else atoms
    weights = distortion_weights(kind, parameter, atoms.shape[-1])
    return (sort_atoms(atoms) @ weights.to(atoms)).item()


def var(atoms, level):
    atoms = tensor(atoms)
    return (sort_atoms(atoms) @ var_weights([level], len(atoms))[0].to(atoms)).item()


def normal_atoms(mean=0.0, std=1.0):
    return mean + std * torch.special.ndtri(tensor(MANY))


# VaR ----------------------------------------------------------------------------------


# Atoms 1..10: the ceil(10 alpha)-th, which is its own number.
@pytest.mark.parametrize(
    ("level", "expected"), [(0.05, 1), (0.1, 1), (0.11, 2), (0.3, 3), (0.5, 5), (1, 10)]
)
def test_var_of_one_to_ten(level, expected):
    assert var([7, 1, 10, 4, 2, 9, 3, 6, 8, 5], level) == expected


def test_var_counts_in_integers():
    # In float32 0.3 * 100 and 0.6 * 100 are above 30 and 60: atoms 31 and 61.
    rows = var_weights([0.3, 0.6, "0.3"], 100)
    assert rows.argmax(dim=1).tolist() == [29, 59, 29]
    assert rows.sum(dim=1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("level", [0.05, 0.25, 0.5, 0.9])
def test_var_and_cvar_of_a_normal_distribution(level):
    # X = 3 + 2 G: VaR = 3 + 2 z and CVaR = 3 - 2 phi(z) / level with z = Phi^-1(level).
    z = NORMAL.inv_cdf(level)
    atoms = normal_atoms(3.0, 2.0)
    assert var(atoms.tolist(), level) == pytest.approx(3 + 2 * z, abs=1e-3)
    expected = 3 - 2 * NORMAL.pdf(z) / level
    assert cvar(atoms, level).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("level", [0, -0.1, 1.5, float("nan")])
def test_var_levels_outside_the_range_are_refused(level):
    with pytest.raises(ValueError, match="risk level"):
        var_weights([level], 10)


# Wang, CPW, power: by hand ------------------------------------------------------------


# g(j/4) for j = 0..4, and its differences.
# Power, eta = 1 (exponent 2): g = u^2: 0, 1/16, 4/16, 9/16, 1.
# Power, eta = -1: g = 1 - (1 - u)^2: 0, 7/16, 12/16, 15/16, 1.
# Power, eta = -2 (exponent 3): g = 1 - (1 - u)^3: 0, 37/64, 56/64, 63/64, 1.
@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (1.0, [1 / 16, 3 / 16, 5 / 16, 7 / 16]),
        (-1.0, [7 / 16, 5 / 16, 3 / 16, 1 / 16]),
        (-2.0, [37 / 64, 19 / 64, 7 / 64, 1 / 64]),
        (0.0, [0.25] * 4),
    ],
)
def test_power_weights_of_four_atoms(parameter, expected):
    assert distortion_weights("power", parameter, 4).tolist() == pytest.approx(expected)


def test_power_of_one_to_ten():
    # eta = 1: weights (2 j - 1) / 100, so the sum of j (2 j - 1) / 100 over 1..10:
    # (2 * 385 - 55) / 100 = 7.15. eta = -1 mirrors it: 11 - 7.15 = 3.85.
    atoms = [7, 1, 10, 4, 2, 9, 3, 6, 8, 5]
    assert measure("power", atoms, 1.0) == pytest.approx(7.15)
    assert measure("power", atoms, -1.0) == pytest.approx(3.85)


def test_wang_weights_of_two_atoms():
    # g(1/2) = Phi(Phi^-1(1/2) - eta) = Phi(0.75) for eta = -0.75: 0.7733726.
    # Hence 0.7733726 * -10 + 0.2266274 * 10 = -5.467453 for the atoms -10 and 10.
    weights = distortion_weights("wang", -0.75, 2)
    assert weights.tolist() == pytest.approx([0.7733726, 0.2266274], abs=1e-6)
    assert measure("wang", [10, -10], -0.75) == pytest.approx(-5.467453, abs=1e-5)


# 2^-eta / (2 * 2^-eta)^(1/eta) = 2^-(eta + (1 - eta)/eta). The exponent is 0.71 +
# 0.29/0.71 = 1.118451 at 0.71, 0.5 + 1 = 1.5 at 0.5, and 1 at 1.
@pytest.mark.parametrize(
    ("parameter", "middle"), [(0.71, 2**-1.118451), (0.5, 2**-1.5), (1.0, 0.5)]
)
def test_cpw_in_the_middle(parameter, middle):
    got = distort_fractions("cpw", tensor([0.0, 0.5, 1.0]), parameter)
    assert got.tolist() == pytest.approx([0.0, middle, 1.0], abs=1e-5)


def test_cpw_in_iqn_gives_tails_less_weight():
    # Near 0 the map is tau^0.71, so g(u) is near u^(1/0.71) and the lowest of 100 atoms
    # has about 0.01^1.408 = 0.0015 instead of 0.01. Near 1, 1 - beta is (1 - tau)^0.71
    # / 0.71, so the highest has about (0.71 * 0.01)^1.408 = 0.0009.
    weights = distortion_weights("cpw", 0.71, 100)
    assert weights[0].item() == pytest.approx(0.0015, rel=0.2)
    assert weights[-1].item() == pytest.approx(0.0009, rel=0.2)
    # With Tversky and Kahneman's curve as g itself the tails weigh more than 0.01.
    edges = tensor([0.01, 0.99])
    prospect = distort_fractions("cpw", edges, 0.71).tolist()
    assert prospect[0] > 0.03
    assert 1 - prospect[1] > 0.03


# Closed forms -------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", [-1.5, -0.75, 0.0, 0.4])
def test_wang_shifts_a_normal_distribution(parameter):
    # E[3 + 2 (Phi^-1(tau) + eta)] = 3 + 2 eta.
    got = measure("wang", normal_atoms(3.0, 2.0), parameter)
    assert got == pytest.approx(3 + 2 * parameter, abs=1e-3)


@pytest.mark.parametrize("parameter", [0.0, 0.5, 1.0, 3.0])
def test_power_of_a_uniform_distribution(parameter):
    # Z(u) = u on [0, 1], so the measure is the integral of beta. With e = 1 + |eta|:
    # tau^(1/e) gives e / (e + 1), and 1 - (1 - tau)^(1/e) gives 1 / (e + 1).
    e = 1 + parameter
    assert measure("power", MANY, parameter) == pytest.approx(e / (e + 1), abs=1e-4)
    if parameter:
        averse = measure("power", MANY, -parameter)
        assert averse == pytest.approx(1 / (e + 1), abs=1e-4)


def test_cpw_of_a_uniform_distribution_is_the_integral_of_its_map():
    # Simpson's rule on the map as printed, in plain Python.
    def beta(tau, eta=0.71):
        return tau**eta / (tau**eta + (1 - tau) ** eta) ** (1 / eta)

    n = 20_000
    values = [beta(k / n) for k in range(n + 1)]
    inner = 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])
    integral = (values[0] + inner + values[-1]) / (3 * n)
    assert measure("cpw", MANY, 0.71) == pytest.approx(integral, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "neutral"), [("wang", 0.0), ("cpw", 1.0), ("power", 0.0)]
)
def test_neutral_parameters_are_the_mean(kind, neutral):
    weights = distortion_weights(kind, neutral, 37)
    torch.testing.assert_close(weights, torch.full((37,), 1 / 37))
    fractions = tensor(np.linspace(0, 1, 11))
    torch.testing.assert_close(distort_fractions(kind, fractions, neutral), fractions)


# The two views ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [
        ("wang", -0.75),
        ("wang", 0.5),
        ("cpw", 0.71),
        ("cpw", 0.3),
        ("cpw", 1.5),
        ("power", -2.0),
        ("power", 2.0),
    ],
)
@pytest.mark.parametrize("quantile", [NORMAL.inv_cdf, lambda u: -math.log(1 - u)])
def test_weights_agree_with_the_map_of_fractions(kind, parameter, quantile):
    # Quadrature of Z(beta(tau)) over tau, by midpoints, of a normal and of a (skewed)
    # exponential distribution. Where the map is flat at 1, float64 rounds it to 1, so
    # fractions stop below 1.
    mapped = distort_fractions(kind, tensor(MANY), parameter).clamp(max=1 - 1e-12)
    sampled = statistics.fmean(quantile(u) for u in mapped.tolist())
    weighted = measure(kind, [quantile(u) for u in MANY], parameter)
    assert weighted == pytest.approx(sampled, abs=1e-3)


@PROPERTY
@given(KINDS, PARAMETERS, st.booleans(), st.integers(1, 60))
def test_weights_are_where_the_map_lands(kind, parameter, negative, num_atoms):
    # The map takes the cumulative weights exactly to the edges j/M.
    if negative and kind != "cpw":
        parameter = -parameter
    weights = distortion_weights(kind, parameter, num_atoms).double()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)
    masses = weights.cumsum(0)[:-1]
    # The map is steep where a weight is tiny: compare on both sides of it.
    edges = torch.arange(1, num_atoms, dtype=torch.float64) / num_atoms
    low = distort_fractions(kind, (masses - 1e-5).clamp(min=0), parameter)
    high = distort_fractions(kind, (masses + 1e-5).clamp(max=1), parameter)
    assert ((low <= edges) & (edges <= high)).all()


@PROPERTY
@given(KINDS, PARAMETERS, ATOMS, NUMBERS, st.floats(0.01, 50))
def test_translation_and_positive_scaling(kind, parameter, atoms, shift, scale):
    """R2: for 200 random distributions."""
    base = measure(kind, atoms, parameter)
    moved = measure(kind, shift + scale * tensor(atoms), parameter)
    assert moved == pytest.approx(shift + scale * base, rel=1e-5, abs=1e-2)
    assert min(atoms) - 1e-3 <= base <= max(atoms) + 1e-3


@PROPERTY
@given(st.sampled_from(["wang", "power"]), ATOMS)
def test_monotone_in_the_parameter(kind, atoms):
    parameters = [-3.0, -1.0, -0.5, 0.0, 0.2, 1.0, 4.0]
    values = [measure(kind, atoms, parameter) for parameter in parameters]
    assert (np.diff(values) >= -1e-4).all()
    assert values[3] == pytest.approx(np.mean(atoms), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("kind", sorted(DISTORTION_PARAMETERS))
def test_fractions_keep_their_shape_and_type(kind):
    fractions = torch.rand(3, 2, 5)
    mapped = distort_fractions(kind, fractions, DISTORTION_PARAMETERS[kind])
    assert mapped.shape == fractions.shape
    assert mapped.dtype == torch.float32
    assert ((mapped >= 0) & (mapped <= 1)).all()


# Refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(DISTORTION_PARAMETERS))
@pytest.mark.parametrize("parameter", [float("nan"), float("inf"), -float("inf")])
def test_parameters_that_are_not_finite_are_refused(kind, parameter):
    with pytest.raises(ValueError, match=f"{kind} must be finite"):
        distortion_weights(kind, parameter, 10)
    with pytest.raises(ValueError, match=f"{kind} must be finite"):
        distort_fractions(kind, torch.rand(3), parameter)


@pytest.mark.parametrize("parameter", [-1.0, 0.0, 0.1, 0.25, 0.279])
def test_cpw_is_refused_where_its_map_falls(parameter):
    with pytest.raises(ValueError, match=r"at least 0\.2795"):
        check_distortion("cpw", parameter)


@pytest.mark.parametrize("parameter", [0.2, 0.27, 0.279, 0.2795, 0.3, 0.71, 1.0, 2.0])
def test_cpw_is_refused_exactly_where_a_scan_sees_it_fall(parameter):
    tau = np.linspace(0, 1, 200_001)
    mass, rest = tau**parameter, (1 - tau) ** parameter
    rises = (np.diff(mass / (mass + rest) ** (1 / parameter)) >= 0).all()
    if rises:
        check_distortion("cpw", parameter)
    else:
        with pytest.raises(ValueError, match="increasing"):
            check_distortion("cpw", parameter)


def test_unknown_distortions_are_refused():
    with pytest.raises(ValueError, match="'wong': it must be one of wang, cpw"):
        distortion_weights("wong", 0.5, 10)


# Mean-variance ------------------------------------------------------------------------


def test_mean_variance_by_hand():
    # 1..10: mean 5.5, variance (100 - 1) / 12 = 8.25: 5.5 - 0.1 * 8.25 = 4.675.
    atoms = tensor([7, 1, 10, 4, 2, 9, 3, 6, 8, 5])
    assert mean_variance(atoms, 0.1).item() == pytest.approx(4.675)
    assert mean_variance(atoms, 0).item() == pytest.approx(5.5)
    # One atom has no variance. Rows are separate: 0 and 2 have variance 1.
    assert mean_variance(tensor([3.0]), 5.0).item() == 3.0
    rows = mean_variance(tensor([[0.0, 2.0], [4.0, 4.0]]), 0.5)
    assert rows.tolist() == [0.5, 4.0]


def test_mean_variance_of_a_normal_distribution():
    got = mean_variance(normal_atoms(3.0, 2.0), 0.25).item()
    assert got == pytest.approx(3 - 0.25 * 4, abs=1e-3)


def test_mean_variance_gradient():
    # d/dz_j = (1 - 2 c (z_j - mean)) / M, for 0 and 2: (1 + 1)/2 and (1 - 1)/2.
    atoms = tensor([0.0, 2.0]).requires_grad_()
    mean_variance(atoms, 0.5).backward()
    assert atoms.grad.tolist() == [1.0, 0.0]


@PROPERTY
@given(ATOMS, NUMBERS, st.floats(0, 5))
def test_mean_variance_moves_with_the_atoms_and_falls_with_the_penalty(
    atoms, shift, penalty
):
    base = mean_variance(tensor(atoms), penalty).item()
    moved = mean_variance(tensor(atoms) + shift, penalty).item()
    assert moved == pytest.approx(base + shift, rel=1e-6, abs=1e-6)
    assert mean_variance(tensor(atoms), penalty + 1).item() <= base + 1e-9


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf")])
def test_penalties_outside_the_range_are_refused(penalty):
    with pytest.raises(ValueError, match="penalty of mean_variance"):
        mean_variance(tensor([1.0]), penalty)
