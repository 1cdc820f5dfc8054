"""Comparisons of the final scores of two groups of runs."""

import pytest
from scipy.stats import mannwhitneyu

from rllib_risk.ops.run_comparison import (
    probability_of_improvement,
    probability_of_improvement_ci,
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
    """rliable divides the statistic of the Mann-Whitney test by the pairs."""
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
