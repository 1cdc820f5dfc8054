"""Estimates as sums of ratios of means over episodes, and their intervals.

An estimate is ``sum_k f_k mean_e(a_ek) / mean_e(b_ek)`` over episodes ``e``. The factor
``f_k`` is the share of episodes that reach the step of the term. It is itself a product
of such ratios. So all estimators use one bootstrap and one formula for errors.

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

# Number of resamples that are computed together.
_BLOCK = 100


def _none() -> Floats:
    return np.zeros((0, 0))


@dataclass(frozen=True)
class Terms:
    """An estimate as a sum of ratios of means over episodes.

    Attributes:
        numerators: ``a``, float64 ``[E, K]``.
        denominators: ``b``, float64 ``[E, K]``; 1 in terms that are not normalised.
        steps: Step of each term, int64 ``[K]``. The factor of a term is the product of
            ``mean_e(going_on) / mean_e(reached)`` over earlier steps. Empty: all
            factors are 1.
        going_on: Weights of episodes that continue after a step, float64 ``[E, T]``.
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
        """Standard error by the delta method; exact for a plain mean (n - 1)."""
        return float(_evaluate(self, np.ones((1, len(self.numerators))))[1][0])

    def minus(self, other: Terms) -> Terms:
        """Subtracts another estimate from the same episodes.

        Args:
            other: Estimate to subtract, without factors, such as
                :func:`mean_terms`.

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
    """Builds a plain mean over episodes: the log's own return, or the direct method.

    Args:
        values: Values of the episodes, ``[E]``; for the direct method ``V(s_0)`` of a
            model.
    """
    return Terms(values[:, None], np.ones((len(values), 1)))


def studentised_interval(
    terms: Terms, *, coverage: float = 0.95, reps: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Computes a bootstrap-t interval over whole episodes.

    ``[x - s q_{1 - c/2}, x - s q_{c/2}]`` with ``q`` the quantiles of
    ``(x* - x) / s*`` over resamples. Unlike an interval of the normal distribution, it
    is asymmetric if the weights are skewed.

    Args:
        terms: The estimate.
        coverage: Wanted probability of the truth inside the interval.
        reps: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end. Both equal the estimate if the episodes do not vary, or if
        the estimate is NaN.
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
    """Computes an interval around an estimate from fits to resampled episodes.

    ``value +- t s`` with ``s`` the standard deviation of the refits (n - 1) and ``t``
    the quantile of Student's distribution with ``n - 1`` degrees of freedom. Hao et al.
    (2021) take percentiles, which need hundreds of fits.

    The refits do not show errors that all of them make, such as those of one kind of
    network. Held-out episodes show a part of these errors: the residual of an episode
    has mean 0 if the values are right. So with ``left_over`` the half width is
    ``sqrt((t s)^2 + z^2 (m^2 + v / E))``, with ``m`` and ``v`` the mean and the
    variance of ``left_over`` and ``z`` the quantile of the normal distribution. (This
    is not in Hao et al. It uses the log's episodes in place of the policy's.)

    Args:
        value: The estimate.
        refits: Estimate of each fit, ``[n]`` with ``n`` at least 2.
        left_over: Residual of each episode, ``[E]`` with ``E`` at least 2.
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
    """Divides; NaN or infinite, without a warning, where ``below`` is 0.

    Args:
        above: Numerators, any shape.
        below: Denominators, of the same shape.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)


def resamples(number: int, reps: int, rng: np.random.Generator) -> list[Floats]:
    """Draws how often each episode occurs in each resample.

    Args:
        number: ``E``, number of episodes.
        reps: ``R``, number of resamples.
        rng: Random generator.

    Returns:
        Counts in blocks ``[., E]``, which have ``R`` rows together.
    """
    counts = rng.multinomial(number, np.full(number, 1.0 / number), size=reps)
    return np.array_split(counts.astype(np.float64), max(reps // _BLOCK, 1))


def _evaluate(terms: Terms, counts: Floats) -> tuple[Floats, Floats]:
    """Computes estimates and delta-method errors of resamples, ``[R]`` each.

    The influence of an episode is the derivative of the estimate with respect to the
    episode's share. A term adds ``f_k (a_ek - theta_k b_ek) / mean_e(b_ek)``. The ratio
    of a step adds the sum of all later terms times ``going_on_et / mean - reached_et /
    mean``.
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
    needed = factors > 0.0  # no episode reaches the other terms
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
