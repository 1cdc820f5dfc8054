"""Estimates of policies from a log, each with an interval, and what follows from them.

``wis``: weighted importance sampling per decision. ``dr``: weighted doubly robust.
``fqe``: fitted Q evaluation, with intervals from its refits. ``dm``: the direct method,
the same values with an interval over first states alone, which leaves out the error of
the fit; what doubly robust corrects.

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
# Methods that rest on ratios of probabilities.
_BY_RATIOS = ("wis", "dr")
CVAR_LEVEL = 0.1
# An action counts as one that the data support from this probability on.
SUPPORTED = 0.01
# Below this share of supported steps no network estimates a return, and no policy is
# called better or worse.
MIN_SUPPORT = 0.5
MIN_ESS = 30.0
# What sums in another order may differ by.
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
    """What one method says of one policy.

    Attributes:
        method: Its name.
        mean: Mean return; None if it is refused.
        difference: Mean return less that of the log, from the same episodes.
        cvar: Mean of the lowest tenth of returns; None where the method has none.
        below: Probability of a return below the threshold; None in the same way.
        refused: Why there is no estimate; None where there is one.
    """

    method: str
    mean: Interval | None = None
    difference: Interval | None = None
    cvar: Interval | None = None
    below: Interval | None = None
    refused: str | None = None


@dataclass(frozen=True)
class PolicyResult:
    """What a log says of a policy.

    Attributes:
        label: Its name.
        source: Folder of its checkpoint.
        ess: Effective sample size of whole episodes, in episodes.
        support: Share of logged steps in which the data support what it would do.
        methods: What each method says.
        verdict: ``better``, ``worse``, or ``unknown``: than the log.
        sentence: That in words.
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
    """How policies are evaluated.

    Attributes:
        methods: Of :data:`METHODS`.
        gamma: Discount of the return.
        threshold: Of the probability of falling below, in units of return; None: where
            the log's lowest tenth of returns ends.
        min_ess: Effective episodes below which ratios give no estimate.
        clip: Largest cumulative ratio.
        seed: Of clones, fits and resamples.
        fqe: How FQE learns; None: the defaults.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    gamma: float = 1.0
    threshold: float | None = None
    min_ess: float = MIN_ESS
    clip: float = LARGEST_RATIO
    seed: int = 0
    fqe: FqeSettings | None = None


def threshold_of(log: Log, choices: Choices) -> float:
    """The threshold that was chosen, or where the log's lowest tenth ends.

    Args:
        log: The log.
        choices: How policies are evaluated.
    """
    if choices.threshold is not None:
        return choices.threshold
    return float(np.quantile(log.returns(choices.gamma), CVAR_LEVEL))


def log_result(log: Log, choices: Choices) -> MethodResult:
    """The log's own return, as a method whose weights are all one.

    Args:
        log: The log.
        choices: How policies are evaluated.
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
    """Evaluates a policy by every method that is asked for.

    Args:
        log: The log.
        behaviour: The policy that played it.
        replayed: What the policy would have done in it.
        choices: How to evaluate.
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
    """Why a network gives no estimate; None if it gives one."""
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
    """Cumulative ratios of a policy, float64 ``[E, T]``; see :func:`cumulative_ratios`.

    Args:
        log: The log.
        behaviour: The policy that played it.
        replayed: What the policy would have done in it.
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
    """Share of logged steps in which the data support the policy's joint action.

    Each agent's action must have probability :data:`SUPPORTED` or more in the data.

    Args:
        behaviour: The policy that played.
        replayed: What the policy would have done.
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
    """CVaR and the probability of falling below, by weighted episodes."""
    threshold = threshold_of(log, choices)
    hits = below_terms(ratios, returns, log.mask, threshold)
    below = _interval(hits, choices.seed)
    weights = episode_weights(ratios, log.mask)
    cvar = weighted_cvar(returns, weights, CVAR_LEVEL)
    ends = weighted_cvar_interval(returns, weights, CVAR_LEVEL, seed=choices.seed)
    within = Interval(below.value, max(below.low, 0.0), min(below.high, 1.0))
    return Interval(cvar, *ends), within


def _verdict(found: Sequence[MethodResult], support: float, confirmed: bool) -> str:
    """Better or worse only if every method that counts says so.

    The interval of ``dm`` leaves out the error of the fit, so it decides nothing. The
    interval of ``fqe`` leaves out what its network has in common on all resamples: on
    `uav` it called policies better that were far worse. So the effective sample size
    must be large enough (``confirmed``) for the methods that need no network.
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
