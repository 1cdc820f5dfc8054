"""Estimates as sums of ratios of means over episodes, and their intervals.

An estimate is ``sum_k f_k mean_e(a_ek) / mean_e(b_ek)`` over episodes ``e``. The factor
``f_k`` is the share of episodes that reach the step of the term: a product of such
ratios itself. So one bootstrap and one formula of errors serve all estimators.

Sources: Efron and Tibshirani (1993), Chapter 12, the studentised bootstrap; Hao et al.
(2021), "Bootstrapping Fitted Q-Evaluation for Off-Policy Inference".

Letters: ``E`` episodes, ``T`` steps of the longest, ``K`` terms, ``R`` resamples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Resamples that are computed together.
_BLOCK = 100


def _none() -> Floats:
    return np.zeros((0, 0))


@dataclass(frozen=True)
class Terms:
    """An estimate as a sum of ratios of means over episodes.

    Attributes:
        numerators: ``a``, float64 ``[E, K]``.
        denominators: ``b``, float64 ``[E, K]``; ones where nothing is normalised.
        steps: Step of each term, int64 ``[K]``. Its factor is the product over the
            steps before of ``mean_e(going_on) / mean_e(reached)``. Empty: all 1.
        going_on: Weights of episodes that go on after a step, float64 ``[E, T]``.
        reached: Weights of episodes that reach a step, float64 ``[E, T]``.
    """

    numerators: Floats
    denominators: Floats
    steps: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    going_on: Floats = field(default_factory=_none)
    reached: Floats = field(default_factory=_none)

    @property
    def value(self) -> float:
        """The estimate; NaN if a denominator is zero in every episode."""
        return float(_evaluate(self, np.ones((1, len(self.numerators))))[0][0])

    @property
    def standard_error(self) -> float:
        """By the delta method over episodes; exact for a plain mean (n - 1)."""
        return float(_evaluate(self, np.ones((1, len(self.numerators))))[1][0])

    def minus(self, other: Terms) -> Terms:
        """The difference of two estimates from the same episodes.

        Args:
            other: What is subtracted; of factors 1, as :func:`mean_terms`.

        Raises:
            ValueError: If ``other`` has factors.
        """
        if len(other.steps):
            raise ValueError("the terms that are subtracted have factors")
        steps = self.steps
        if len(steps):  # step 0 has factor 1
            steps = np.pad(steps, (0, other.numerators.shape[1]))
        return Terms(
            np.concatenate([self.numerators, -other.numerators], axis=1),
            np.concatenate([self.denominators, other.denominators], axis=1),
            steps,
            self.going_on,
            self.reached,
        )


def mean_terms(values: Floats) -> Terms:
    """A plain mean over episodes: the log's own return, or the direct method.

    Args:
        values: ``[E]``; for the direct method ``V(s_0)`` of a model.
    """
    return Terms(values[:, None], np.ones((len(values), 1)))


def studentised_interval(
    terms: Terms, *, coverage: float = 0.95, reps: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap-t interval over whole episodes.

    ``[x - s q_{1 - c/2}, x - s q_{c/2}]`` with ``q`` the quantiles of
    ``(x* - x) / s*`` over resamples. It follows skewed weights, which an interval of
    the normal distribution does not.

    Args:
        terms: The estimate.
        coverage: Wanted probability of the truth inside the interval.
        reps: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end; twice the estimate where the episodes do not vary, and NaN
        where the estimate is NaN.
    """
    value, error = terms.value, terms.standard_error
    if not error > 0.0:  # NaN too
        return value, value
    rng = np.random.default_rng(seed)
    found = []
    for counts in resamples(len(terms.numerators), reps, rng):
        resampled, errors = _evaluate(terms, counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((resampled - value) / errors)
    scores = np.concatenate(found)
    tail = 0.5 * (1.0 - coverage)
    low, high = np.quantile(scores[np.isfinite(scores)], [tail, 1.0 - tail])
    return float(value - error * high), float(value - error * low)


def refit_interval(
    value: float,
    refits: Floats,
    *,
    left_over: Floats | None = None,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Interval around an estimate from fits to resampled episodes.

    ``value +- t s`` with ``s`` the standard deviation of the refits (n - 1) and ``t``
    the quantile of Student's distribution with ``n - 1`` degrees of freedom. Hao et al.
    (2021) take percentiles, which need hundreds of fits.

    The refits do not show errors that they have in common, as those of one kind of
    network. A part of these shows on episodes that a fit has not seen: what its values
    leave over of an episode has mean 0 if they are right. So with ``left_over`` the
    half width is ``sqrt((t s)^2 + z^2 (m^2 + v / E))``, with ``m`` and ``v`` the mean
    and the variance of ``left_over`` and ``z`` the quantile of the normal distribution.
    (Not in Hao et al.; the log's own episodes stand for those of the policy.)

    Args:
        value: The estimate.
        refits: Of each fit, ``[n]`` with ``n`` at least 2.
        left_over: Of each episode, ``[E]`` with ``E`` at least 2.
        coverage: Wanted probability of the truth inside the interval.

    Returns:
        Lower and upper end.
    """
    from scipy.stats import norm, t

    tail = 0.5 + 0.5 * coverage
    square = t.ppf(tail, len(refits) - 1) ** 2 * refits.var(ddof=1)
    if left_over is not None:
        error = left_over.mean() ** 2 + left_over.var(ddof=1) / len(left_over)
        square += norm.ppf(tail) ** 2 * error
    half = float(np.sqrt(square))
    return value - half, value + half


def ratios_of_means(above: Floats, below: Floats) -> Floats:
    """``above / below``; NaN or infinite, without a warning, where ``below`` is 0.

    Args:
        above: Any shape.
        below: The same shape.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)


def resamples(number: int, reps: int, rng: np.random.Generator) -> list[Floats]:
    """How often each episode is drawn in each resample.

    Args:
        number: Episodes ``E``.
        reps: Resamples ``R``.
        rng: Draws them.

    Returns:
        Blocks ``[., E]``, ``R`` rows together.
    """
    counts = rng.multinomial(number, np.full(number, 1.0 / number), size=reps)
    return np.array_split(counts.astype(np.float64), max(reps // _BLOCK, 1))


def _evaluate(terms: Terms, counts: Floats) -> tuple[Floats, Floats]:
    """Estimates and delta-method errors with episodes counted several times, ``[R]``.

    The influence of an episode is the derivative of the estimate with respect to its
    share of all episodes. Of a term it is ``f_k (a_ek - theta_k b_ek) / mean_e(b_ek)``,
    and of the ratio of a step the sum of all terms behind it times ``going_on_et /
    mean - reached_et / mean``.
    """
    number = counts.sum(axis=-1, keepdims=True)
    below = counts @ terms.denominators / number  # [R, K]
    theta = ratios_of_means(counts @ terms.numerators / number, below)
    factors = np.ones_like(below)
    if len(terms.steps):
        on, at = counts @ terms.going_on / number, counts @ terms.reached / number
        passed = _or_zero(on, at).cumprod(-1)  # [R, T]
        whole = np.concatenate([np.ones_like(number), passed], axis=1)
        factors = whole[:, terms.steps]
    needed = factors > 0.0  # no episode reaches the others
    theta = np.where(needed, theta, 0.0)
    scale = _or_zero(factors, below)
    influence = terms.numerators @ scale.T - terms.denominators @ (scale * theta).T
    if len(terms.steps):
        behind = terms.steps[:, None] > np.arange(terms.reached.shape[1])  # [K, T]
        after = (factors * theta) @ behind
        influence += terms.going_on @ _or_zero(after, on).T
        influence -= terms.reached @ _or_zero(after, at).T
    spread = np.einsum("re,er->r", counts, influence**2)
    errors = np.sqrt(spread / (number[:, 0] - 1.0) / number[:, 0])
    return (factors * theta).sum(-1), np.asarray(errors)


def _or_zero(above: Floats, below: Floats) -> Floats:
    return np.where(below > 0.0, ratios_of_means(above, below), 0.0)
