"""Statistics of returns, against numbers worked out by hand and against rliable."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rllib_risk.ops.statistics import (
    aggregate_curves,
    bootstrap_ci,
    cvar_ci,
    cvar_of_returns,
    iqm,
    mean_interval,
    return_statistics,
)

scores = arrays(
    np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, allow_nan=False)
)


def test_return_statistics_of_four_episodes():
    # Sorted: -107, -9, -7, -7.
    #   mean    (-107 - 9 - 7 - 7) / 4 = -130 / 4         = -32.5
    #   median  (-9 - 7) / 2                              = -8
    #   q25     position 0.25 * 3 = 0.75: -107 + 0.75 * 98 = -33.5
    #   q75     position 0.75 * 3 = 2.25: between -7 and -7 = -7
    #   CVaR    ceil(0.4) = 1 lowest                      = -107
    #   std     deviations 25.5, 23.5, -74.5, 25.5: squares 7403, divided by 3
    #   success 3 of 4, length (7 + 9 + 7 + 5) / 4        = 0.75, 7
    result = return_statistics(
        [-7.0, -9.0, -107.0, -7.0], [True, True, False, True], [7, 9, 7, 5]
    )
    assert result == {
        "episodes": 4,
        "return_mean": -32.5,
        "return_median": -8.0,
        "return_min": -107.0,
        "return_max": -7.0,
        "return_q25": -33.5,
        "return_q75": -7.0,
        "return_cvar_10": -107.0,
        "return_std": pytest.approx(math.sqrt(7403 / 3)),
        "success_rate": 0.75,
        "episode_len_mean": 7.0,
    }


def test_interval_of_a_mean_by_hand():
    # 0 and 2: mean 1, standard deviation sqrt(2), standard error 1. The 0.975 quantile
    # of one degree of freedom (Cauchy) is tan(0.475 pi) = 12.7062.
    assert mean_interval(1.0, math.sqrt(2.0), 2) == pytest.approx((-11.7062, 13.7062))
    # One return has no spread.
    std = return_statistics([1.0], None, [1])["return_std"]
    assert mean_interval(1.0, std, 1) is None


def test_interval_of_a_tail_by_hand():
    # The lowest half of two draws of (0, 10) is 0 with .75 and 10 with .25. Every tail
    # of ten equal returns is that return.
    assert cvar_ci([0.0, 10.0], 0.5) == (0.0, 10.0)
    assert cvar_ci([3.0] * 10, 0.1) == (3.0, 3.0)
    with pytest.raises(ValueError, match="level must be in"):
        cvar_ci([1.0], 0.0)


def test_success_rate_is_nan_where_the_environment_reports_none():
    assert math.isnan(return_statistics([1.0], None, [3])["success_rate"])


@pytest.mark.parametrize(
    ("returns", "successes", "lengths", "message"),
    [
        ([], None, [], "returns must not be empty"),
        ([1.0, math.nan], None, [1, 1], "returns must be finite"),
        ([1.0, 2.0], None, [1], "2 returns but 1 lengths"),
        ([1.0, 2.0], [True], [1, 1], "2 returns but 1 successes"),
        ([[1.0]], None, [1], "returns must have 1 dimension"),
    ],
)
def test_return_statistics_refuses(returns, successes, lengths, message):
    with pytest.raises(ValueError, match=message):
        return_statistics(returns, successes, lengths)


@pytest.mark.parametrize(
    ("episodes", "lowest"),
    # ceil(E / 10). 30 is the trap: 0.1 * 30 = 3.0000000000000004 in floating point.
    [(1, 1), (10, 1), (11, 2), (30, 3), (31, 4), (32, 4), (70, 7), (320, 32)],
)
def test_cvar_10_takes_a_tenth_rounded_up(episodes, lowest):
    # Returns 0, 1, ..., E - 1: the mean of the k lowest is (k - 1) / 2.
    returns = np.random.default_rng(0).permutation(episodes)
    assert cvar_of_returns(returns, 0.1) == (lowest - 1) / 2


@given(scores, st.integers(1, 100))
@settings(max_examples=200)
def test_cvar_matches_its_definition(values, percent):
    """R30: CVaR is the mean of the sorted tail."""
    # The definition in whole numbers, over a plain Python sort.
    num_lowest = -(-percent * len(values) // 100)
    expected = math.fsum(sorted(values.tolist())[:num_lowest]) / num_lowest
    got = cvar_of_returns(values, percent / 100)
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(scores)
@settings(max_examples=200)
def test_cvar_properties(values):
    levels = [0.05, 0.1, 0.3, 0.7, 1.0]
    cvars = [cvar_of_returns(values, level) for level in levels]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(cvars))
    assert cvars[-1] == pytest.approx(values.mean(), abs=1e-9)
    shifted = cvar_of_returns(2.0 * values + 5.0, 0.1)
    assert shifted == pytest.approx(2.0 * cvars[1] + 5.0, abs=1e-9)


@pytest.mark.parametrize("level", [0.0, -0.1, 1.01, math.nan])
def test_cvar_refuses_levels_outside_0_1(level):
    with pytest.raises(ValueError, match="level must be in"):
        cvar_of_returns([1.0], level)


def test_iqm_drops_a_quarter_on_each_side():
    # 1..8: without 1, 2 and 7, 8 the mean of 3, 4, 5, 6 is 4.5.
    assert iqm([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0]) == 4.5
    # Five seeds: floor(5 / 4) = 1 dropped on each side, (-7 - 7 - 9) / 3.
    assert iqm([-7.0, -400.0, -7.0, -9.0, -7.0]) == pytest.approx(-23.0 / 3.0)
    # Up to three scores nothing is dropped.
    assert iqm([0.0, 3.0, 9.0]) == 4.0


def test_iqm_along_an_axis_and_over_all():
    table = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0], [30.0, 400.0]])
    # Per column the middle two of four: (1 + 2) / 2 and (20 + 30) / 2.
    np.testing.assert_array_equal(iqm(table, axis=0), [1.5, 25.0])
    # All eight sorted: 0 1 2 10 20 30 30 400: (2 + 10 + 20 + 30) / 4.
    assert iqm(table) == 15.5


@given(scores)
@settings(max_examples=200)
def test_iqm_matches_its_definition(values):
    """R30: rliable's definition, over a plain Python sort."""
    cut = len(values) // 4
    middle = sorted(values.tolist())[cut : len(values) - cut]
    expected = math.fsum(middle) / len(middle)
    assert iqm(values) == pytest.approx(expected, rel=1e-9, abs=1e-9)


# rliable 1.2.0 on these scores: `metrics.aggregate_iqm`, and the percentile interval of
# `library.get_interval_estimates` with 50,000 resamples of the runs (RandomState(0)).
RLIABLE_SCORES = [0.346, 0.822, 0.33, -1.303, 0.905, 0.446, -0.537, 0.581, 0.365]
RLIABLE_SCORES += [0.294, 0.028]
RLIABLE_IQM, RLIABLE_INTERVAL = 0.34142857142857136, (-0.11628571, 0.57528571)


def test_iqm_and_interval_are_those_of_rliable():
    """R30: numbers from rliable itself, on fixed scores."""
    assert iqm(RLIABLE_SCORES) == pytest.approx(RLIABLE_IQM, abs=1e-9)
    got = bootstrap_ci(RLIABLE_SCORES, iqm, reps=50_000, seed=1)
    # Monte-Carlo error of the 2.5 % and 97.5 % quantiles of 50,000 draws.
    assert got == pytest.approx(RLIABLE_INTERVAL, abs=0.01)


def test_bootstrap_of_two_runs_has_a_known_distribution():
    # Resamples of (0, 1): mean 0 with probability 1/4, 0.5 with 1/2, 1 with 1/4. The
    # 2.5 % and 97.5 % quantiles are therefore 0 and 1; the 30 % and 70 % ones are 0.5.
    assert bootstrap_ci([0.0, 1.0], np.mean) == (0.0, 1.0)
    assert bootstrap_ci([0.0, 1.0], np.mean, level=0.4) == (0.5, 0.5)


def test_bootstrap_agrees_with_a_plain_loop():
    values = np.random.default_rng(1).normal(size=9)
    rng = np.random.default_rng(2)
    # Of nine the interquartile mean drops two at each end.
    means = [np.sort(rng.choice(values, size=9))[2:7].mean() for _ in range(20_000)]
    low, high = bootstrap_ci(values, iqm, reps=20_000, seed=3)
    # Monte-Carlo error of a 2.5 % quantile of 20,000 draws; the spread is about 0.4.
    np.testing.assert_allclose(
        [low, high], np.quantile(means, [0.025, 0.975]), atol=0.03
    )


def test_bootstrap_of_a_mean_matches_its_normal_limit():
    # The bootstrap distribution of a mean has standard deviation s / sqrt(n).
    values = np.random.default_rng(4).normal(size=400)
    half_width = 1.959964 * values.std() / math.sqrt(values.size)
    low, high = bootstrap_ci(values, np.mean, reps=20_000)
    np.testing.assert_allclose(
        [low, high], [values.mean() - half_width, values.mean() + half_width], atol=5e-3
    )


def test_bootstrap_of_curves_resamples_whole_runs():
    curves = np.random.default_rng(5).normal(size=(5, 3))
    low, high = bootstrap_ci(curves, iqm, seed=6)
    for point in range(3):
        expected = bootstrap_ci(curves[:, point], iqm, seed=6)
        assert (low[point], high[point]) == pytest.approx(expected)


def test_bootstrap_is_reproducible_and_large_curves_go_in_blocks():
    curves = np.random.default_rng(7).normal(size=(5, 4000))
    first, second = (bootstrap_ci(curves, np.mean, reps=1000) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first[0].shape == (4000,)


def test_bootstrap_of_one_run_has_no_width():
    assert bootstrap_ci([3.0]) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "must not be empty"),
        ([math.inf], {}, "must be finite"),
        (np.zeros((2, 2, 2)), {}, r"\[runs\] or \[runs, points\]"),
        ([1.0], {"reps": 0}, "reps >= 1"),
        ([1.0], {"level": 1.0}, "0 < level < 1"),
    ],
)
def test_bootstrap_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_ci(values, **options)


def test_a_run_that_ended_early_keeps_its_last_value():
    # Run 0 is solved at x = 20; run 1 goes on to 40 with one evaluation every 10.
    curve = aggregate_curves(
        [[10, 20], [10, 20, 30, 40]],
        [[-50.0, -7.0], [-90.0, -80.0, -60.0, -40.0]],
        statistic=np.mean,
    )
    np.testing.assert_array_equal(curve.x, [10, 20, 30, 40])
    # Means of (-50, -90), (-7, -80), (-7, -60), (-7, -40).
    np.testing.assert_array_equal(curve.center, [-70.0, -43.5, -33.5, -23.5])
    np.testing.assert_array_equal(curve.low, [-90.0, -80.0, -60.0, -40.0])
    np.testing.assert_array_equal(curve.high, [-50.0, -7.0, -7.0, -7.0])
    assert curve.num_runs == 2


def test_the_grid_starts_where_every_run_has_a_value():
    # From the later start, 10, to the later end, 20, with two points. At x = 10 run 0
    # is half-way from 0 to 4.
    curve = aggregate_curves([[5, 15], [10, 20]], [[0.0, 4.0], [6.0, 8.0]])
    np.testing.assert_array_equal(curve.x, [10, 20])
    np.testing.assert_array_equal(curve.center, [(2.0 + 6.0) / 2, (4.0 + 8.0) / 2])


def test_runs_of_one_evaluation():
    single = aggregate_curves([[10], [10]], [[1.0], [3.0]])
    assert (single.x.tolist(), single.center.tolist()) == ([10.0], [2.0])
    with pytest.raises(ValueError, match="need as many"):
        aggregate_curves([], [])


def test_long_runs_are_thinned():
    x = np.arange(1, 1001)
    curve = aggregate_curves([x], [2.0 * x], max_points=50)
    assert curve.x.shape == (50,)
    np.testing.assert_allclose(curve.center, 2.0 * curve.x)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 1], [0.0, 0.0], "x must increase"),
        ([1, 2], [0.0], "2 x values but 1 y values"),
        ([], [], "must not be empty"),
    ],
)
def test_aggregate_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        aggregate_curves([x], [y])
