"""Off-policy estimates of a policy's return from episodes that another one played.

All estimators of a mean are sums of ratios, ``sum_k mean_e(a_ek) / mean_e(b_ek)`` over
episodes ``e``: :class:`Terms` holds ``a`` and ``b``. So one bootstrap serves all of
them. A policy's probability of a joint action is the product over its agents, and so is
the ratio of two policies: its variance grows exponentially with agents and steps.

Sources: Precup, Sutton and Singh (2000), per-decision importance sampling; Jiang and Li
(2016), "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning"; Thomas
and Brunskill (2016), "Data-Efficient Off-Policy Policy Evaluation for Reinforcement
Learning", the weighted forms; Huang et al. (2021), "Off-Policy Risk Assessment in
Contextual Bandits", and Chandak et al. (2021), "Universal Off-Policy Evaluation", the
distribution of returns by weighted episodes; Efron and Tibshirani (1993), Chapter 12,
the studentised bootstrap.

Letters: ``E`` episodes, ``T`` steps of the longest, ``N`` agents, ``K`` terms, ``R``
resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Largest cumulative ratio, so that products over many steps stay finite.
LARGEST_RATIO = 1e100
# Resamples that are computed together.
_BLOCK = 100


@dataclass(frozen=True)
class Terms:
    """An estimate as a sum of ratios of means over episodes.

    Attributes:
        numerators: ``a``, float64 ``[E, K]``.
        denominators: ``b``, float64 ``[E, K]``; ones where nothing is normalised.
    """

    numerators: Floats
    denominators: Floats

    @property
    def value(self) -> float:
        """The estimate; NaN if a denominator is zero in every episode."""
        return float(_ratios(self.numerators.mean(0), self.denominators.mean(0)).sum())

    @property
    def standard_error(self) -> float:
        """By the delta method over episodes; exact for a plain mean (n - 1)."""
        return float(_standard_errors(self, np.ones((1, len(self.numerators))))[0])

    def minus(self, other: Terms) -> Terms:
        """The difference of two estimates from the same episodes.

        Args:
            other: What is subtracted.
        """
        return Terms(
            np.concatenate([self.numerators, -other.numerators], axis=1),
            np.concatenate([self.denominators, other.denominators], axis=1),
        )


def cumulative_ratios(
    target: Floats, behaviour: Floats, mask: Flags, clip: float = LARGEST_RATIO
) -> Floats:
    """``rho_t``: product over steps up to ``t`` and agents of ``pi / b``.

    After its end an episode keeps its last ratio, as if it went on in a state in which
    both policies agree.

    Args:
        target: Probability under the evaluated policy of each agent's logged action,
            ``[E, T, N]``.
        behaviour: The same under the policy that played, above 0 where ``mask``,
            ``[E, T, N]``.
        mask: Real steps, ``[E, T]``.
        clip: Largest cumulative ratio; larger ones count as this one.

    Returns:
        ``[E, T]``.

    Raises:
        ValueError: If the policy that played never takes an action that it took, or
            ``clip`` is not above 0.
    """
    if clip <= 0.0:
        raise ValueError(f"clip must be above 0, not {clip}")
    if (behaviour[mask] <= 0.0).any():
        raise ValueError("the behaviour's probability of a logged action is 0")
    with np.errstate(divide="ignore"):
        ratio = np.log(np.where(mask[..., None], target, 1.0))
    ratio -= np.log(np.where(mask[..., None], behaviour, 1.0))
    logs = ratio.sum(-1).cumsum(-1)
    return np.asarray(np.exp(np.minimum(logs, math.log(clip))))


def effective_sample_size(weights: Floats) -> float:
    """Kish's ``(sum w)^2 / sum w^2``: ``E`` for equal weights, 1 for a single one.

    Args:
        weights: Not negative, ``[E]``.

    Returns:
        Between 1 and ``E``; 0 if all weights are 0.
    """
    largest = weights.max()
    if largest == 0.0:
        return 0.0
    scaled = weights / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def mean_terms(values: Floats) -> Terms:
    """A plain mean over episodes: the log's own return, or the direct method.

    Args:
        values: ``[E]``; for the direct method ``V(s_0)`` of a model.
    """
    return Terms(values[:, None], np.ones((len(values), 1)))


def importance_terms(
    ratios: Floats, rewards: Floats, gamma: float, *, weighted: bool = True
) -> Terms:
    """Per-decision importance sampling: ``sum_t gamma^t E[rho_t r_t]``.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        rewards: 0 after the end, ``[E, T]``.
        gamma: Discount in [0, 1].
        weighted: Whether to divide by the mean of ``rho_t`` at every step: biased, but
            consistent and far less variable. Without it the estimate is unbiased.

    Returns:
        One term per step.
    """
    scaled, below = _weights(ratios, weighted)
    return Terms(scaled * rewards * _discounts(rewards, gamma), below)


def doubly_robust_terms(
    ratios: Floats,
    rewards: Floats,
    taken_values: Floats,
    values: Floats,
    gamma: float,
    *,
    weighted: bool = True,
) -> Terms:
    """``sum_t gamma^t E[rho_t (r_t - Q(h_t, a_t)) + rho_{t-1} V(h_t)]``.

    Jiang and Li (2016), Eq. 10, unrolled; weighted as in Thomas and Brunskill (2016),
    Section 5. Unbiased without weighting if either the ratios or the values are right,
    and the values do not come from the same episodes.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        rewards: 0 after the end, ``[E, T]``.
        taken_values: ``Q`` of the logged actions, 0 after the end, ``[E, T]``.
        values: ``V`` of the evaluated policy, 0 after the end, ``[E, T]``.
        gamma: Discount in [0, 1].
        weighted: See :func:`importance_terms`.

    Returns:
        Two terms per step.
    """
    before = np.concatenate([np.ones_like(ratios[:, :1]), ratios[:, :-1]], axis=1)
    discounts = _discounts(rewards, gamma)
    scaled, below = _weights(ratios, weighted)
    scaled_before, below_before = _weights(before, weighted)
    corrections = scaled * (rewards - taken_values) * discounts
    return Terms(
        np.concatenate([corrections, scaled_before * values * discounts], axis=1),
        np.concatenate([below, below_before], axis=1),
    )


def below_terms(returns: Floats, weights: Floats, threshold: float) -> Terms:
    """Probability that the return is below a threshold, by weighted episodes.

    Args:
        returns: ``[E]``.
        weights: Cumulative ratios of whole episodes, ``[E]``.
        threshold: In units of return.
    """
    scaled, below = _weights(weights[:, None], True)
    return Terms(scaled * (returns < threshold)[:, None], below)


def weighted_cvar(returns: Floats, weights: Floats, level: float) -> float:
    """Mean of the lowest share ``level`` of weighted returns.

    A return that lies across the border of the share counts in part.

    Args:
        returns: ``[E]``.
        weights: Not negative, ``[E]``.
        level: Share of the weight, in (0, 1]; 1 gives the weighted mean.

    Returns:
        The CVaR; NaN if all weights are 0.

    Raises:
        ValueError: If ``level`` is outside (0, 1].
    """
    order = np.argsort(returns)
    return float(_cvars(returns[order], weights[order][None], level)[0])


def weighted_cvar_interval(
    returns: Floats,
    weights: Floats,
    level: float,
    *,
    coverage: float = 0.95,
    reps: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of :func:`weighted_cvar` over episodes.

    Args:
        returns: ``[E]``.
        weights: Not negative, ``[E]``.
        level: See :func:`weighted_cvar`.
        coverage: Share of the bootstrap distribution inside the interval.
        reps: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end.
    """
    order = np.argsort(returns)
    ordered, weighed = returns[order], weights[order]
    rng = np.random.default_rng(seed)
    found = [
        _cvars(ordered, counts * weighed, level)
        for counts in _resamples(len(returns), reps, rng)
    ]
    tail = 0.5 * (1.0 - coverage)
    low, high = np.nanquantile(np.concatenate(found), [tail, 1.0 - tail])
    return float(low), float(high)


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
    for counts in _resamples(len(terms.numerators), reps, rng):
        above, below = counts @ terms.numerators, counts @ terms.denominators
        resampled = _ratios(above, below).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((resampled - value) / _standard_errors(terms, counts))
    scores = np.concatenate(found)
    tail = 0.5 * (1.0 - coverage)
    low, high = np.quantile(scores[np.isfinite(scores)], [tail, 1.0 - tail])
    return float(value - error * high), float(value - error * low)


def refit_interval(
    value: float, refits: Floats, *, coverage: float = 0.95
) -> tuple[float, float]:
    """Interval around an estimate from fits to resampled episodes.

    ``value +- t s`` with ``s`` the standard deviation of the refits (n - 1) and ``t``
    the quantile of Student's distribution with ``n - 1`` degrees of freedom. Hao et al.
    (2021), "Bootstrapping Fitted Q-Evaluation for Off-Policy Inference", take
    percentiles, which need hundreds of fits.

    Args:
        value: The estimate.
        refits: Of each fit, ``[n]`` with ``n`` at least 2.
        coverage: Wanted probability of the truth inside the interval.

    Returns:
        Lower and upper end.
    """
    from scipy.stats import t

    quantile = t.ppf(0.5 + 0.5 * coverage, len(refits) - 1)
    half = float(quantile * refits.std(ddof=1))
    return value - half, value + half


def _discounts(rewards: Floats, gamma: float) -> Floats:
    return np.asarray(gamma ** np.arange(rewards.shape[1], dtype=np.float64))


def _weights(ratios: Floats, weighted: bool) -> tuple[Floats, Floats]:
    """Ratios ``[E, K]`` and what their means are divided by."""
    if not weighted:
        return ratios, np.ones_like(ratios)
    # Only their proportions matter; so they stay finite.
    largest = ratios.max(axis=0, keepdims=True)
    scaled = ratios / np.where(largest > 0.0, largest, 1.0)
    return scaled, scaled


def _ratios(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)


def _standard_errors(terms: Terms, counts: Floats) -> Floats:
    """Delta-method errors with episodes counted several times, ``[R]``.

    The influence of an episode is ``sum_k (a_ek - theta_k b_ek) / mean_e(b_ek)``.
    """
    number = counts.sum(axis=-1)
    means = counts @ terms.denominators / number[:, None]  # [R, K]
    theta = _ratios(counts @ terms.numerators / number[:, None], means)
    inverse = _ratios(np.ones_like(means), means)
    influence = terms.numerators @ inverse.T - terms.denominators @ (inverse * theta).T
    spread = np.einsum("re,er->r", counts, influence**2)
    return np.asarray(np.sqrt(spread / (number - 1.0) / number))


def _resamples(number: int, reps: int, rng: np.random.Generator) -> list[Floats]:
    """How often each episode was drawn, in blocks ``[R, E]``."""
    counts = rng.multinomial(number, np.full(number, 1.0 / number), size=reps)
    return np.array_split(counts.astype(np.float64), max(reps // _BLOCK, 1))


def _cvars(ordered: Floats, weights: Floats, level: float) -> Floats:
    """CVaR of ascending returns ``[E]`` for several sets of weights ``[R, E]``."""
    if not 0.0 < level <= 1.0:
        raise ValueError(f"level must be in (0, 1], not {level}")
    total = weights.sum(-1, keepdims=True)
    share = level * total
    kept = np.clip(share - (weights.cumsum(-1) - weights), 0.0, weights)
    return _ratios(kept @ ordered, kept.sum(-1))
