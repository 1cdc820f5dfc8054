"""Off-policy estimates of a policy's return from episodes of another policy.

All estimators of a mean are :class:`~rllib_risk.ops.ratio_terms.Terms`. A policy's
probability of a joint action is the product over its agents. So is the ratio of two
policies, and its variance grows exponentially with agents and steps.

Sources: Precup, Sutton and Singh (2000), per-decision importance sampling; Jiang and Li
(2016), "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning"; Thomas
and Brunskill (2016), "Data-Efficient Off-Policy Policy Evaluation for Reinforcement
Learning", the weighted forms; Kaplan and Meier (1958), "Nonparametric Estimation from
Incomplete Observations", episodes of unequal lengths; Huang et al. (2021), "Off-Policy
Risk Assessment in Contextual Bandits", and Chandak et al. (2021), "Universal Off-Policy
Evaluation", the distribution of returns by weighted episodes.

Letters: ``E`` episodes, ``T`` steps of the longest, ``N`` agents, ``R`` resamples.
"""

from __future__ import annotations

import math

import numpy as np

from rllib_risk.ops.ratio_terms import (
    Flags,
    Floats,
    Terms,
    ratios_of_means,
    resamples,
)

# Largest cumulative ratio, so that products over many steps stay finite.
LARGEST_RATIO = 1e100


def cumulative_ratios(
    target: Floats, behaviour: Floats, mask: Flags, clip: float = LARGEST_RATIO
) -> Floats:
    """Computes ``rho_t``, the product of ``pi / b`` over agents and steps up to ``t``.

    After its end an episode keeps its last ratio, as if it continued with steps in
    which both policies agree.

    Args:
        target: Probability under the evaluated policy of each agent's logged action,
            ``[E, T, N]``.
        behaviour: The same under the behaviour policy, above 0 where ``mask``,
            ``[E, T, N]``.
        mask: Real steps, ``[E, T]``.
        clip: Largest cumulative ratio; larger ratios are set to it.

    Returns:
        ``[E, T]``.

    Raises:
        ValueError: If the behaviour policy has probability 0 for a logged action, or
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
    """Computes Kish's effective sample size, ``(sum w)^2 / sum w^2``.

    It is ``E`` for equal weights, and 1 if only one weight is positive.

    Args:
        weights: Weights of the episodes, not negative, ``[E]``.

    Returns:
        Between 1 and ``E``; 0 if all weights are 0.
    """
    largest = weights.max()
    if largest == 0.0:
        return 0.0
    scaled = weights / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def episode_weights(ratios: Floats, mask: Flags) -> Floats:
    """Computes the share of each episode in the weighted log.

    The episodes that reach a step share the remaining weight in proportion to their
    cumulative ratios. An episode that ends keeps the share of its last step; later
    ratios of other episodes do not change it. This is the weighted product-limit
    estimator of Kaplan and Meier (1958). So the shares of all episodes sum to 1. If
    ended episodes kept their ratios instead, early and late ends would be divided by
    different totals. Their shares would not sum to 1, a large bias if some ratios are
    large.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        mask: Real steps, ``[E, T]``.

    Returns:
        ``[E]``; they sum to 1. Zeros if weight remains at a step that only episodes of
        ratio 0 reach.
    """
    weights, left = np.zeros(len(ratios)), 1.0
    on = _going_on(mask)
    for t in range(mask.shape[1]):
        alive = _scaled(ratios[:, t] * mask[:, t])
        total = alive.sum()
        if total == 0.0:
            return weights * (left == 0.0)
        share = left * alive / total
        weights += share * ~on[:, t]
        left *= float((alive * on[:, t]).sum() / total)
    return weights


def importance_terms(
    ratios: Floats,
    rewards: Floats,
    mask: Flags,
    gamma: float,
    *,
    weighted: bool = True,
) -> Terms:
    """Per-decision importance sampling: ``sum_t gamma^t E[rho_t r_t]``.

    In the weighted form, a step adds the mean over the episodes that reach it, weighted
    by ``rho_t``, times the share that reaches it; see :func:`episode_weights`. If all
    episodes have one length, this is the usual form: ``rho_t`` divided by its mean.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        rewards: Rewards, 0 after the end, ``[E, T]``.
        mask: Real steps, ``[E, T]``.
        gamma: Discount in [0, 1].
        weighted: Whether weights are normalised at every step. The estimate is then
            biased, but consistent and far less variable. If not, it is unbiased.

    Returns:
        One term per step.
    """
    discounts = _discounts(rewards, gamma)
    if not weighted:
        return Terms(ratios * rewards * discounts, np.ones_like(ratios))
    alive = _scaled(ratios * mask)
    steps = np.arange(mask.shape[1])
    on = alive * _going_on(mask)
    return Terms(alive * rewards * discounts, alive, steps, on, alive)


def doubly_robust_terms(
    ratios: Floats,
    rewards: Floats,
    taken_values: Floats,
    values: Floats,
    mask: Flags,
    gamma: float,
    *,
    weighted: bool = True,
) -> Terms:
    """Doubly robust: ``sum_t gamma^t E[rho_t (r_t - Q(h_t, a_t)) + rho_{t-1} V(h_t)]``.

    Jiang and Li (2016), Eq. 10, unrolled. The weighted form is that of Thomas and
    Brunskill (2016), Section 5, with the weights of :func:`episode_weights`. The
    unweighted form is unbiased if the ratios or the values are right, and the values
    do not come from the same episodes.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        rewards: Rewards, 0 after the end, ``[E, T]``.
        taken_values: ``Q`` of the logged actions, 0 after the end, ``[E, T]``.
        values: ``V`` of the evaluated policy, 0 after the end, ``[E, T]``.
        mask: Real steps, ``[E, T]``.
        gamma: Discount in [0, 1].
        weighted: See :func:`importance_terms`.

    Returns:
        Two terms per step.
    """
    left_over = rewards - taken_values
    corrections = importance_terms(ratios, left_over, mask, gamma, weighted=weighted)
    before = np.concatenate([np.ones_like(ratios[:, :1]), ratios[:, :-1]], axis=1)
    reached = _scaled(before * mask) if weighted else before
    below = reached if weighted else np.ones_like(reached)
    return Terms(
        np.concatenate(
            [corrections.numerators, reached * values * _discounts(rewards, gamma)],
            axis=1,
        ),
        np.concatenate([corrections.denominators, below], axis=1),
        np.tile(corrections.steps, 2),
        corrections.going_on,
        corrections.reached,
    )


def below_terms(
    ratios: Floats, returns: Floats, mask: Flags, threshold: float
) -> Terms:
    """Probability that the return is below a threshold, over weighted episodes.

    Args:
        ratios: ``rho_t``, ``[E, T]``.
        returns: Returns of the episodes, ``[E]``.
        mask: Real steps, ``[E, T]``.
        threshold: Threshold, in units of return.
    """
    ends = mask & ~_going_on(mask)
    hits = (ends & (returns < threshold)[:, None]).astype(np.float64)
    return importance_terms(ratios, hits, mask, 1.0)


def weighted_cvar(returns: Floats, weights: Floats, level: float) -> float:
    """Mean of the lowest share ``level`` of weighted returns.

    A return that lies only partly within the share counts with that part.

    Args:
        returns: Returns of the episodes, ``[E]``.
        weights: Weights of the episodes, not negative, ``[E]``.
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
        returns: Returns of the episodes, ``[E]``.
        weights: Weights of the episodes, not negative, ``[E]``.
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
        for counts in resamples(len(returns), reps, rng)
    ]
    tail = 0.5 * (1.0 - coverage)
    low, high = np.nanquantile(np.concatenate(found), [tail, 1.0 - tail])
    return float(low), float(high)


def _discounts(rewards: Floats, gamma: float) -> Floats:
    return np.asarray(gamma ** np.arange(rewards.shape[1], dtype=np.float64))


def _going_on(mask: Flags) -> Flags:
    """Steps after which the episode continues, ``[E, T]``."""
    return np.concatenate([mask[:, 1:], np.zeros_like(mask[:, :1])], axis=1)


def _scaled(ratios: Floats) -> Floats:
    """Divides ratios ``[E, ...]`` by each column's largest; only proportions count."""
    largest = ratios.max(axis=0, keepdims=True)
    return np.asarray(ratios / np.where(largest > 0.0, largest, 1.0))


def _cvars(ordered: Floats, weights: Floats, level: float) -> Floats:
    """Computes CVaRs of ascending returns ``[E]``, one per row of weights [R, E]."""
    if not 0.0 < level <= 1.0:
        raise ValueError(f"level must be in (0, 1], not {level}")
    total = weights.sum(-1, keepdims=True)
    share = level * total
    kept = np.clip(share - (weights.cumsum(-1) - weights), 0.0, weights)
    return ratios_of_means(kept @ ordered, kept.sum(-1))
