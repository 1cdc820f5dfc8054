"""Comparisons of the final scores of groups of runs, on one task or over several.

Definitions of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice". SciPy is imported inside the functions, because training does
not need it.

Letters in shapes: ``R``, ``S`` runs (seeds) of two groups, or of one task; ``P``
thresholds. Scores over several tasks are a sequence of arrays ``[..., R]``, one per
task, whose numbers of runs may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rllib_risk.ops.statistics import FloatArray, iqm


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Probability that a run of one group scores higher than a run of another.

    It is the share of pairs of runs in which ours is higher. Ties count one half. This
    is the Mann-Whitney statistic divided by the number of pairs.

    Args:
        ours: Final scores, ``[R]``.
        theirs: Final scores of the other group, ``[S]``.

    Returns:
        The probability, in [0, 1].

    Raises:
        ValueError: If a group is empty, or a score is NaN or infinite.
    """
    return float(_probability(_scores(ours, "ours"), _scores(theirs, "theirs")))


def probability_of_improvement_ci(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    reps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of :func:`probability_of_improvement`.

    The runs of both groups are resampled independently.

    Args:
        ours: Final scores, ``[R]`` with at least two runs.
        theirs: Final scores of the other group, ``[S]`` with at least two runs.
        reps: Number of resamples.
        level: Confidence level of the interval, in (0, 1).
        seed: Seed of the resampling: the same scores give the same interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If a group has fewer than two runs, or a score is NaN or infinite.
    """
    from scipy.stats import bootstrap

    x, y = _scores(ours, "ours"), _scores(theirs, "theirs")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"need two runs or more per group, got {len(x)} and {len(y)}")
    interval = bootstrap(
        (x, y),
        _probability,
        n_resamples=reps,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def performance_profile(
    tasks: Sequence[ArrayLike], thresholds: ArrayLike
) -> FloatArray:
    """Share of runs that score above each threshold, over several tasks.

    Each task counts equally: the shares of the tasks are averaged. If all tasks have
    the same number of runs, this is the run-score distribution of rliable.

    Args:
        tasks: Scores on each task, ``[..., R]``, normalised to be comparable.
        thresholds: Thresholds, ``[P]``.

    Returns:
        Shares in [0, 1], ``[..., P]``.
    """
    limits = np.asarray(thresholds, np.float64)[:, None]
    shares = [(np.asarray(t)[..., None, :] > limits).mean(axis=-1) for t in tasks]
    return np.asarray(np.mean(shares, axis=0))


def aggregate_iqm(tasks: Sequence[ArrayLike]) -> Any:
    """Interquartile mean of the runs of all tasks together, as in rliable.

    Args:
        tasks: Scores on each task, ``[..., R]``, normalised to be comparable.

    Returns:
        A float, or an array of the leading axes.
    """
    return iqm(np.concatenate([np.asarray(t) for t in tasks], axis=-1), axis=-1)


def stratified_ci(
    tasks: Sequence[ArrayLike],
    statistic: Callable[[Sequence[FloatArray]], Any],
    *,
    reps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Percentile bootstrap interval that resamples the runs within each task.

    The tasks stay the same, so the interval is about other seeds and not about other
    tasks.

    Args:
        tasks: Final scores on each task, ``[R]``.
        statistic: Maps resampled tasks ``[reps, R]`` to ``[reps]`` or ``[reps, P]``.
        reps: Number of resamples.
        level: Confidence level of the interval, in (0, 1).
        seed: Seed of the resampling: the same scores give the same interval.

    Returns:
        Lower and upper end, ``[]`` or ``[P]``.

    Raises:
        ValueError: If there is no task, a task has no run, or a score is NaN or
            infinite.
    """
    if not tasks:
        raise ValueError("need the scores of at least one task")
    rng = np.random.default_rng(seed)
    scores = [_scores(task, f"task {index}") for index, task in enumerate(tasks)]
    resampled = [rng.choice(task, (reps, task.size)) for task in scores]
    ends = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    low, high = np.quantile(statistic(resampled), ends, axis=0)
    return low, high


def _probability(x: FloatArray, y: FloatArray, axis: int = -1) -> Any:
    """Share of pairs in which ``x`` is higher; ``axis`` holds the runs of both."""
    ours = np.moveaxis(x, axis, -1)[..., :, None]
    theirs = np.moveaxis(y, axis, -1)[..., None, :]
    higher = (ours > theirs) + 0.5 * (ours == theirs)  # [..., R, S]
    return higher.mean(axis=(-2, -1))


def _scores(values: ArrayLike, name: str) -> FloatArray:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite scores of one run or more, [runs]")
    return scores
