"""Estimates of policies from a log, with intervals and verdicts.

``wis``: weighted importance sampling per decision. ``dr``: weighted doubly robust.
``fqe``: fitted Q evaluation, with intervals from its refits. ``dm``: the direct method,
with the values of ``fqe``. Its interval is over first states only and leaves out the
error of the fit. ``dr`` corrects these values.

Letters: ``M`` steps of all episodes, ``E`` episodes, ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rllib_risk.core.off_policy.fqe import FqeFit, FqeSettings, fit_fqe
from rllib_risk.core.off_policy.log import Log, Replayed
from rllib_risk.evaluation.off_policy.behaviour import Behaviour
from rllib_risk.ops.off_policy import (
    LARGEST_RATIO,
    below_terms,
    cumulative_ratios,
    doubly_robust_terms,
    effective_sample_size,
    episode_weights,
    importance_terms,
    weighted_cvar,
    weighted_cvar_interval,
)
from rllib_risk.ops.ratio_terms import (
    Floats,
    Terms,
    mean_terms,
    refit_interval,
    studentised_interval,
)

METHODS = ("fqe", "wis", "dr", "dm")
DEFAULT_METHODS = ("fqe", "wis", "dr")
# Methods that use ratios of probabilities.
_BY_RATIOS = ("wis", "dr")
CVAR_LEVEL = 0.1
# Minimum probability in the data at which an action counts as supported.
SUPPORTED = 0.01
# Minimum support. Below it, methods with a network are refused, and the verdict is
# unknown.
MIN_SUPPORT = 0.5
MIN_ESS = 30.0
# Maximum difference between sums in different orders.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodResult:
    """The estimates of one method for one policy.

    Attributes:
        method: Name of the method.
        mean: Mean return; None if the method is refused.
        difference: Mean return minus that of the log, from the same episodes.
        cvar: Mean of the lowest tenth of returns; None if the method has none.
        below: Probability of a return below the threshold; None if it has none.
        refused: Reason for a missing estimate; None if there is an estimate.
    """

    method: str
    mean: Interval | None = None
    difference: Interval | None = None
    cvar: Interval | None = None
    below: Interval | None = None
    refused: str | None = None


@dataclass(frozen=True)
class PolicyResult:
    """The evaluation of one policy on a log.

    Attributes:
        label: Name of the policy.
        source: Folder of its checkpoint.
        ess: Effective sample size of whole episodes, in episodes.
        support: Share of logged steps in which the data support its joint action.
        methods: Results of the methods.
        verdict: ``better`` or ``worse`` than the log, or ``unknown``.
        sentence: The verdict as text.
    """

    label: str
    source: str
    ess: float
    support: float
    methods: tuple[MethodResult, ...]
    verdict: str
    sentence: str


@dataclass(frozen=True)
class Choices:
    """Settings of an evaluation.

    Attributes:
        methods: Names from :data:`METHODS`.
        gamma: Discount of the return.
        threshold: Threshold of ``P(return < threshold)``, in units of return. None: the
            10 % quantile of the log's returns.
        min_ess: Minimum effective sample size for methods with ratios, in episodes.
        clip: Largest cumulative ratio.
        seed: Seed of clones, fits and resamples.
        fqe: Settings of FQE; None: the defaults.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    gamma: float = 1.0
    threshold: float | None = None
    min_ess: float = MIN_ESS
    clip: float = LARGEST_RATIO
    seed: int = 0
    fqe: FqeSettings | None = None


def threshold_of(log: Log, choices: Choices) -> float:
    """Returns the threshold: the chosen one, or the log's 10 % quantile.

    Args:
        log: The log.
        choices: Settings of the evaluation.
    """
    if choices.threshold is not None:
        return choices.threshold
    return float(np.quantile(log.returns(choices.gamma), CVAR_LEVEL))


def log_result(log: Log, choices: Choices) -> MethodResult:
    """Computes the log's own return, with weight 1 for every episode.

    Args:
        log: The log.
        choices: Settings of the evaluation.
    """
    returns = log.returns(choices.gamma)
    cvar, below = _risk(returns, np.ones(log.mask.shape), log, choices)
    mean = _interval(mean_terms(returns), choices.seed)
    return MethodResult("log", mean=mean, cvar=cvar, below=below)


def evaluate_policy(
    log: Log,
    behaviour: Behaviour,
    replayed: Replayed,
    choices: Choices,
    *,
    label: str,
    source: str = "",
) -> PolicyResult:
    """Evaluates a policy with all chosen methods.

    Args:
        log: The log.
        behaviour: Estimate of the behaviour policy.
        replayed: The policy's decisions on the log.
        choices: Settings of the evaluation.
        label: Name of the policy.
        source: Folder of its checkpoint.
    """
    ratios = ratios_of(log, behaviour, replayed, choices.clip)
    ess = effective_sample_size(episode_weights(ratios, log.mask))
    support = support_of(behaviour, replayed)
    fit = None
    if set(choices.methods) - {"wis"} and support >= MIN_SUPPORT:
        settings = choices.fqe or FqeSettings(seed=choices.seed)
        fit = fit_fqe(log, replayed, gamma=choices.gamma, settings=settings)
    makers: dict[str, Callable[..., MethodResult]] = {
        "fqe": _by_fqe,
        "wis": _by_importance,
        "dr": _by_doubly_robust,
        "dm": _by_direct_method,
    }
    found: list[MethodResult] = []
    for method in choices.methods:
        refused = None
        if method in _BY_RATIOS and ess < choices.min_ess:
            refused = (
                f"effective sample size {ess:.1f} of {len(ratios)} episodes, and"
                f" {choices.min_ess:g} are needed"
            )
        elif method != "wis":
            refused = _refusal_of_values(support, fit)
        if refused is None:
            found.append(makers[method](log, ratios, fit, choices))
        else:
            found.append(MethodResult(method, refused=refused))
    confirmed = ess >= choices.min_ess
    verdict = _verdict(found, support, confirmed)
    sentence = _sentence(label, found, support, ess, len(ratios), verdict, confirmed)
    return PolicyResult(label, source, ess, support, tuple(found), verdict, sentence)


def _refusal_of_values(support: float, fit: FqeFit | None) -> str | None:
    """Returns why methods with a network are refused; None if they are not."""
    if fit is None:
        return (
            f"the data support its actions in {support:.0%} of the steps, and"
            f" {MIN_SUPPORT:.0%} are needed"
        )
    if not fit.settled:
        return (
            f"its networks did not settle on an estimate in {fit.updates} updates, as"
            " where the data do not hold what the policy does"
        )
    return None


def ratios_of(
    log: Log, behaviour: Behaviour, replayed: Replayed, clip: float = LARGEST_RATIO
) -> Floats:
    """Computes cumulative ratios, ``[E, T]``; see :func:`cumulative_ratios`.

    Args:
        log: The log.
        behaviour: Estimate of the behaviour policy.
        replayed: The policy's decisions on the log.
        clip: Largest cumulative ratio.
    """
    played = np.take_along_axis(behaviour.probabilities, log.actions[..., None], -1)
    return cumulative_ratios(
        log.padded(replayed.taken(log.actions)),
        log.padded(played[..., 0]),
        log.mask,
        clip,
    )


def support_of(behaviour: Behaviour, replayed: Replayed) -> float:
    """Computes the share of steps in which the data support the joint action.

    Each agent's action must have probability :data:`SUPPORTED` or more in the data.

    Args:
        behaviour: Estimate of the behaviour policy.
        replayed: The policy's decisions on the log.
    """
    supported = behaviour.probabilities >= SUPPORTED
    return float((replayed.probabilities * supported).sum(-1).prod(-1).mean())


def _by_importance(
    log: Log, ratios: Floats, fit: FqeFit | None, choices: Choices
) -> MethodResult:
    rewards = log.padded(log.rewards)
    terms = importance_terms(ratios, rewards, log.mask, choices.gamma)
    returns = log.returns(choices.gamma)
    cvar, below = _risk(returns, ratios, log, choices)
    return MethodResult(
        "wis",
        mean=_interval(terms, choices.seed),
        difference=_difference(terms, returns, choices.seed),
        cvar=cvar,
        below=below,
    )


def _by_doubly_robust(
    log: Log, ratios: Floats, fit: FqeFit, choices: Choices
) -> MethodResult:
    terms = doubly_robust_terms(
        ratios,
        log.padded(log.rewards),
        log.padded(fit.taken_values),
        log.padded(fit.values),
        log.mask,
        choices.gamma,
    )
    returns = log.returns(choices.gamma)
    return MethodResult(
        "dr",
        mean=_interval(terms, choices.seed),
        difference=_difference(terms, returns, choices.seed),
    )


def _by_direct_method(
    log: Log, ratios: Floats, fit: FqeFit, choices: Choices
) -> MethodResult:
    terms = mean_terms(fit.start_values.mean(0))
    returns = log.returns(choices.gamma)
    return MethodResult(
        "dm",
        mean=_interval(terms, choices.seed),
        difference=_difference(terms, returns, choices.seed),
    )


def _by_fqe(log: Log, ratios: Floats, fit: FqeFit, choices: Choices) -> MethodResult:
    returns, threshold = log.returns(choices.gamma), threshold_of(log, choices)
    weights, mean, means = fit.weights, fit.mean, fit.member_means
    logged, ahead = weights @ returns, mean - float(returns.mean())
    cvars = fit.member_cvars(CVAR_LEVEL)
    below = ((fit.start_quantiles < threshold).mean(-1) * weights).sum(-1)
    low, high = refit_interval(float(below.mean()), below)
    return MethodResult(
        "fqe",
        mean=Interval(mean, *fit.interval()),
        difference=Interval(ahead, *fit.interval(ahead, means - logged)),
        cvar=Interval(float(cvars.mean()), *refit_interval(float(cvars.mean()), cvars)),
        below=Interval(float(below.mean()), max(low, 0.0), min(high, 1.0)),
    )


def _interval(terms: Terms, seed: int) -> Interval:
    return Interval(terms.value, *studentised_interval(terms, seed=seed))


def _difference(terms: Terms, returns: Floats, seed: int) -> Interval:
    return _interval(terms.minus(mean_terms(returns)), seed)


def _risk(
    returns: Floats, ratios: Floats, log: Log, choices: Choices
) -> tuple[Interval, Interval]:
    """Estimates CVaR and the probability below the threshold, with weights."""
    threshold = threshold_of(log, choices)
    hits = below_terms(ratios, returns, log.mask, threshold)
    below = _interval(hits, choices.seed)
    weights = episode_weights(ratios, log.mask)
    cvar = weighted_cvar(returns, weights, CVAR_LEVEL)
    ends = weighted_cvar_interval(returns, weights, CVAR_LEVEL, seed=choices.seed)
    within = Interval(below.value, max(below.low, 0.0), min(below.high, 1.0))
    return Interval(cvar, *ends), within


def _verdict(found: Sequence[MethodResult], support: float, confirmed: bool) -> str:
    """Returns ``better`` or ``worse`` if all counted methods agree, else ``unknown``.

    ``dm`` does not count, because its interval leaves out the error of the fit. The
    interval of ``fqe`` leaves out errors that its network makes on all resamples: on
    `uav` it called policies better that were far worse. So the effective sample size
    must be large enough (``confirmed``) for the methods without a network.
    """
    counted = [m.difference for m in found if m.difference and m.method != "dm"]
    if support < MIN_SUPPORT or not confirmed or not counted:
        return "unknown"
    if all(d.low > _ROUNDING for d in counted):
        return "better"
    return "worse" if all(d.high < -_ROUNDING for d in counted) else "unknown"


def _sentence(
    label: str,
    found: Sequence[MethodResult],
    support: float,
    ess: float,
    episodes: int,
    verdict: str,
    confirmed: bool,
) -> str:
    data = (
        f"The data support its actions in {support:.0%} of the steps; effective sample"
        f" size {ess:.1f} of {episodes} episodes."
    )
    if verdict == "unknown":
        why = ""
        if support < MIN_SUPPORT:
            why = ": it often takes actions that the data do not hold"
        elif not confirmed:
            why = ": the effective sample size is too small to confirm an estimate"
        return (
            f"These data cannot tell whether {label} is better than the log{why}."
            f" {data}"
        )
    of = next(m for m in found if m.difference and m.method != "dm")
    assert of.difference is not None
    ends = sorted((abs(of.difference.low), abs(of.difference.high)))
    return (
        f"{label} is {verdict} than the log by {abs(of.difference.value):.4g}"
        f" [{ends[0]:.4g}, {ends[1]:.4g}] ({of.method}). {data}"
    )
