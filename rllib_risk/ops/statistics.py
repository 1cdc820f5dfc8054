"""Statistics of returns within one evaluation, and of scores over several runs.

Within one evaluation: mean, quantiles and CVaR of the returns of its episodes. Over
runs: interquartile mean (IQM) and percentile bootstrap intervals, as proposed by
Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (their library rliable computes the same numbers). SciPy is imported inside
the functions, because training does not need it.

Letters in shapes: ``E`` episodes, ``R`` runs (seeds), ``P`` points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def return_statistics(
    returns: ArrayLike, successes: ArrayLike | None, lengths: ArrayLike
) -> dict[str, float]:
    """Computes summary statistics of the episodes of one evaluation.

    Quartiles are interpolated linearly between order statistics (NumPy's default).

    Args:
        returns: Undiscounted team return of each episode, ``[E]``, in reward units.
        successes: Whether each episode was a success, ``[E]``; None if the environment
            does not report it.
        lengths: Length of each episode, ``[E]``, in environment steps.

    Returns:
        ``episodes``, ``return_mean``, ``return_median``, ``return_min``,
        ``return_max``, ``return_q25``, ``return_q75``, ``return_cvar_10`` (mean of the
        ``ceil(E / 10)`` lowest returns: the 4 lowest of 32), ``return_std`` (standard
        deviation with divisor ``E - 1``; NaN for one episode), ``success_rate`` (NaN if
        ``successes`` is None) and ``episode_len_mean``.

    Raises:
        ValueError: If there is no episode, a return is NaN or infinite, or the lengths
            of the arguments differ.
    """
    values = _finite(returns, "returns", ndim=1)  # [E]
    steps = _finite(lengths, "lengths", ndim=1)  # [E]
    if steps.shape != values.shape:
        raise ValueError(f"{values.size} returns but {steps.size} lengths")
    success_rate = math.nan
    if successes is not None:
        flags = _finite(successes, "successes", ndim=1)  # [E]
        if flags.shape != values.shape:
            raise ValueError(f"{values.size} returns but {flags.size} successes")
        success_rate = float(flags.mean())
    q25, median, q75 = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "episodes": values.size,
        "return_mean": float(values.mean()),
        "return_median": float(median),
        "return_min": float(values.min()),
        "return_max": float(values.max()),
        "return_q25": float(q25),
        "return_q75": float(q75),
        "return_cvar_10": cvar_of_returns(values, 0.1),
        "return_std": float(values.std(ddof=1)) if values.size > 1 else math.nan,
        "success_rate": success_rate,
        "episode_len_mean": float(steps.mean()),
    }


def mean_interval(mean: float, std: float, number: int) -> tuple[float, float] | None:
    """95 % interval of a mean: ``mean +- t std / sqrt(number)``.

    ``t`` is the 0.975 quantile of Student's distribution with ``number - 1`` degrees of
    freedom. The interval is exact for normal samples, and approximate for others.

    Args:
        mean: Mean of the sample.
        std: Standard deviation of the sample, with divisor ``number - 1``.
        number: Size of the sample.

    Returns:
        Lower and upper end; None for fewer than two numbers, which have no spread.
    """
    if number < 2 or not math.isfinite(std):
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, number - 1)) * std / math.sqrt(number)
    return mean - half, mean + half


def cvar_of_returns(returns: ArrayLike, level: float) -> float:
    """Conditional value at risk of a sample: the mean of its lowest fraction ``level``.

    The share is rounded up to whole episodes, ``ceil(level * E)``. The level is read as
    a decimal number. In floating point 0.1 * 30 exceeds 3, and its ceiling would be 4.

    Args:
        returns: Returns of the episodes, ``[E]``.
        level: Share of the episodes, in (0, 1]; 1 gives the mean.

    Raises:
        ValueError: If there is no episode, a return is not finite, or the level is
            outside (0, 1].
    """
    values = _finite(returns, "returns", ndim=1)  # [E]
    return float(np.sort(values)[: _num_lowest(values.size, level)].mean())


def cvar_ci(
    returns: ArrayLike, level: float, *, reps: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of :func:`cvar_of_returns` over episodes.

    Args:
        returns: Returns of the episodes, ``[E]``.
        level: Share of the episodes, in (0, 1]; 1 gives the interval of the mean.
        reps: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: As :func:`cvar_of_returns`.
    """
    values = _finite(returns, "returns", ndim=1)  # [E]
    lowest = _num_lowest(values.size, level)

    def statistic(samples: FloatArray, axis: int = -1) -> FloatArray:
        ordered = np.sort(samples, axis=axis)
        return np.asarray(
            np.take(ordered, np.arange(lowest), axis=axis).mean(axis=axis)
        )

    low, high = bootstrap_ci(values, statistic, reps=reps, seed=seed)
    return float(low), float(high)


def _num_lowest(number: int, level: float) -> int:
    """Number of episodes in the lowest fraction ``level``, rounded up."""
    if not 0.0 < level <= 1.0:
        raise ValueError(f"the CVaR level must be in (0, 1], got {level}")
    return math.ceil(Fraction(str(float(level))) * number)


def iqm(scores: ArrayLike, axis: int | None = None) -> Any:
    """Interquartile mean: the mean without the lowest and the highest quarter.

    Drops ``floor(n / 4)`` scores on each side. With at most three scores it is the
    plain mean.

    Args:
        scores: Scores of any shape.
        axis: The axis to reduce; None: all axes.

    Returns:
        A float, or an array without the reduced axis.

    Raises:
        ValueError: If there is no score, or one is NaN or infinite.
    """
    from scipy.stats import trim_mean

    mean = trim_mean(_finite(scores, "scores"), 0.25, axis=axis)
    return float(mean) if np.ndim(mean) == 0 else mean


def bootstrap_ci(
    scores: ArrayLike,
    statistic: Callable[..., Any] = iqm,
    *,
    reps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a statistic, resampling whole runs.

    A run is resampled with all its points, which keeps the dependence between
    neighbouring points of a curve. With a single run the interval has width zero and
    gives no information about other seeds.

    Args:
        scores: One score per run ``[R]``, or one curve per run ``[R, P]``.
        statistic: ``statistic(array, axis=k)`` reduces axis ``k``: :func:`iqm`,
            ``numpy.mean``, ``numpy.median``.
        reps: Number of resamples.
        level: Confidence level of the interval, in (0, 1).
        seed: Seed of the resampling: the same scores give the same interval.

    Returns:
        Lower and upper end: two floats, or two arrays ``[P]``.

    Raises:
        ValueError: If the scores are empty, not finite, or not of one or two
            dimensions; or if ``reps`` or ``level`` are out of range.
    """
    values = _finite(scores, "scores")
    if values.ndim not in (1, 2):
        raise ValueError(f"scores must be [runs] or [runs, points], got {values.shape}")
    if reps < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"need reps >= 1 and 0 < level < 1, got {reps} and {level}")
    if len(values) == 1:  # SciPy's bootstrap raises for a single observation
        low = high = statistic(values, axis=0)
    else:
        from scipy.stats import bootstrap

        interval = bootstrap(
            (values,),
            statistic,
            n_resamples=reps,
            # Batches of resamples keep the resampled curves below about 64 MB.
            batch=max(1, 8_000_000 // values.size),
            vectorized=True,
            axis=0,
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = interval.low, interval.high
    return (float(low), float(high)) if values.ndim == 1 else (low, high)


@dataclass(frozen=True)
class AggregatedCurve:
    """Curves of several runs on one grid.

    Attributes:
        x: The grid, ``[P]``.
        center: The statistic over the runs, ``[P]``.
        low: Lower end of its confidence interval, ``[P]``.
        high: Upper end, ``[P]``.
        num_runs: Number of runs.
    """

    x: FloatArray
    center: FloatArray
    low: FloatArray
    high: FloatArray
    num_runs: int


def aggregate_curves(
    xs: Sequence[ArrayLike],
    ys: Sequence[ArrayLike],
    *,
    statistic: Callable[..., Any] = iqm,
    max_points: int = 400,
    reps: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> AggregatedCurve:
    """Interpolates the curves of several runs on one grid and summarises them.

    Between evaluations the values are interpolated linearly. After its last evaluation
    a run keeps its last value, so a run that stopped early because it was solved stays
    in the mean. The grid is evenly spaced. It starts where every run has a value, ends
    where the longest run ends, and has as many points as the run with the most
    evaluations.

    Args:
        xs: Increasing x values of each run, ``[points of the run]``.
        ys: Values of each run at these x values, of the same length.
        statistic: See :func:`bootstrap_ci`.
        max_points: Maximum number of grid points.
        reps: See :func:`bootstrap_ci`.
        level: See :func:`bootstrap_ci`.
        seed: See :func:`bootstrap_ci`.

    Raises:
        ValueError: If there is no run, a run has no point, x does not increase, or the
            lengths of x and y differ.
    """
    if not xs or len(xs) != len(ys):
        raise ValueError(f"need as many x as y curves, got {len(xs)} and {len(ys)}")
    run_xs = [_finite(x, f"x of run {i}", ndim=1) for i, x in enumerate(xs)]
    run_ys = [_finite(y, f"y of run {i}", ndim=1) for i, y in enumerate(ys)]
    for index, (x, y) in enumerate(zip(run_xs, run_ys, strict=True)):
        if x.shape != y.shape:
            raise ValueError(f"run {index}: {x.size} x values but {y.size} y values")
        if np.any(np.diff(x) <= 0.0):
            raise ValueError(f"run {index}: x must increase from point to point")
    start, end = max(x[0] for x in run_xs), max(x[-1] for x in run_xs)
    num_points = min(max_points, max(x.size for x in run_xs))
    # Two runs with one evaluation each at different x still need two grid points.
    grid = np.linspace(start, end, max(num_points, 2) if end > start else 1)
    # np.interp keeps the last value beyond the last x.
    curves = np.stack(
        [np.interp(grid, x, y) for x, y in zip(run_xs, run_ys, strict=True)]
    )  # [R, P]
    low, high = bootstrap_ci(curves, statistic, reps=reps, level=level, seed=seed)
    center = np.asarray(statistic(curves, axis=0), dtype=np.float64)
    return AggregatedCurve(grid, center, low, high, len(curves))


def _finite(values: ArrayLike, name: str, ndim: int | None = None) -> FloatArray:
    """Converts to float64 and checks that the array is finite, not empty, of a rank."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} must not be empty")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension, got {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite numbers")
    return array
