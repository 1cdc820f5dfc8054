"""Comparisons of the final scores of groups of runs, on one task and over several."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from rllib_risk.ops.run_comparison import (
    aggregate_iqm,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_ci,
    stratified_ci,
)


def test_pairs_by_hand():
    # Pairs: 1 is above neither, 3 ties with 3 and is below 4, 5 is above both.
    ours, theirs = [1.0, 3.0, 5.0], [3.0, 4.0]
    assert probability_of_improvement(ours, theirs) == pytest.approx(2.5 / 6)
    # Resamples of groups that do not overlap all give the same share.
    assert probability_of_improvement_ci([4.0, 5.0], [1.0, 2.0, 3.0]) == (1.0, 1.0)
    # Of two groups of two: 16 equally likely resamples. (1, 1) against (2, 2) has 0
    # with probability 1/16, so the 2.5 % quantile is 0; all others are above.
    assert probability_of_improvement_ci([1.0, 3.0], [2.0, 2.0])[0] == 0.0


def test_as_in_rliable():
    """rliable divides the Mann-Whitney statistic by the number of pairs."""
    ours, theirs = [0.1, 0.7, 0.7, 0.9], [0.2, 0.7, 0.3]
    expected = mannwhitneyu(ours, theirs, alternative="greater").statistic / 12
    assert probability_of_improvement(ours, theirs) == pytest.approx(expected)


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="ours must be finite"):
        probability_of_improvement([], [1.0])
    with pytest.raises(ValueError, match="theirs must be finite"):
        probability_of_improvement([1.0], [float("nan")])
    with pytest.raises(ValueError, match="two runs or more per group, got 1 and 2"):
        probability_of_improvement_ci([1.0], [1.0, 2.0])


def test_a_profile_by_hand():
    tasks = [[0.0, 0.5, 1.0, 1.0], [0.25, 0.5]]
    # Above 0.25: 3 of 4 runs and 1 of 2; each task counts one half.
    assert performance_profile(tasks, [0.25, 0.75]).tolist() == [0.625, 0.25]
    # Of six scores, one is dropped on each side: (.25 + .5 + .5 + 1) / 4.
    assert aggregate_iqm(tasks) == 0.5625


def test_resamples_stay_in_their_task():
    """Equal runs of each task leave no spread, however far apart the tasks are."""
    tasks = [[0.0, 0.0], [1.0, 1.0, 1.0]]
    profile = partial(performance_profile, thresholds=[-1.0, 0.5])
    low, high = stratified_ci(tasks, profile)
    assert low.tolist() == high.tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="at least one task"):
        stratified_ci([], aggregate_iqm)
    with pytest.raises(ValueError, match="task 1 must be finite"):
        stratified_ci([[1.0], [float("inf")]], aggregate_iqm)


# rliable 1.2.0 on these scores, with 50,000 resamples: `create_performance_profile` and
# the percentile interval of `get_interval_estimates` with `metrics.aggregate_iqm`.
RUNS_BY_TASK = [
    [0.805, 0.808, 0.515],
    [0.286, 0.054, 0.383],
    [0.408, 0.045, 0.049],
    [0.999, 0.652, 0.235],
    [0.435, 0.974, 0.898],
]


def test_profiles_over_tasks_are_those_of_rliable():
    tasks = np.array(RUNS_BY_TASK).T
    thresholds = [0.0, 0.25, 0.5, 0.75, 0.9]
    profile = partial(performance_profile, thresholds=thresholds)
    expected = [15 / 15, 11 / 15, 7 / 15, 5 / 15, 2 / 15]
    np.testing.assert_allclose(profile(tasks), expected)
    low, high = stratified_ci(list(tasks), profile, reps=20_000)
    # Shares are fifteenths, and no end is close to the next fifteenth.
    np.testing.assert_allclose(low * 15, [15, 8, 3, 2, 0])
    np.testing.assert_allclose(high * 15, [15, 14, 11, 9, 5])
    assert aggregate_iqm(tasks) == pytest.approx(0.503)
    low, high = stratified_ci(list(tasks), aggregate_iqm, reps=20_000)
    np.testing.assert_allclose([low, high], [0.282, 0.712], atol=0.01)
