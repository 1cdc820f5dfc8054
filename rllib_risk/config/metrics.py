"""Names of metrics for stop criteria, checkpoint scores and comparisons of trials."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from rllib_risk.config.schema import ConfigError

# Results that Tune adds.
TUNE_METRICS: tuple[str, ...] = (
    "training_iteration",
    "time_total_s",
    "time_this_iter_s",
    "time_since_restore",
    "iterations_since_restore",
    "timestamp",
    "done",
)
RLLIB_METRICS: tuple[str, ...] = (
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "num_env_steps_trained",
    "num_agent_steps_sampled_lifetime",
    "num_agent_steps_sampled",
    "num_agent_steps_trained",
    "num_episodes_lifetime",
    "env_runners/episode_return_mean",
    "env_runners/episode_return_max",
    "env_runners/episode_return_min",
    "env_runners/episode_len_mean",
    "env_runners/num_episodes",
    "env_runners/num_episodes_lifetime",
    "evaluation/env_runners/episode_return_mean",
    "evaluation/env_runners/episode_return_min",
    "evaluation/env_runners/episode_return_max",
    "evaluation/env_runners/episode_len_mean",
)
# Results of the algorithms of this package.
TEAM_METRICS: tuple[str, ...] = (
    "num_env_steps_sampled_lifetime",
    "num_episodes_lifetime",
    "num_updates_lifetime",
    "dataset_passes",
    "epsilon",
    "env_steps_per_s",
    "env_runners/episode_return_mean",
    "evaluation/episodes",
    "evaluation/return_mean",
    "evaluation/return_median",
    "evaluation/return_min",
    "evaluation/return_max",
    "evaluation/return_q25",
    "evaluation/return_q75",
    "evaluation/return_cvar_10",
    "evaluation/return_std",
    "evaluation/success_rate",
    "evaluation/episode_len_mean",
    "evaluation/risk_level_mean",
    "evaluation/alpha",
    "evaluation/threshold",
    "evaluation/return_cvar_alpha",
    "evaluation/num_env_crashes",
    "evaluation/env_runners/episode_return_mean",
)
# Results on episodes of a dataset, for training episodes and for held-out ones.
_ON_DATA = (
    "loss",
    "td_error_abs",
    "conservative_penalty",
    "ood_gap",
    "data_agreement",
    "start_value_mean",
    "start_value_cvar_10",
)
TEAM_METRICS += tuple(f"{group}/{x}" for group in ("data", "holdout") for x in _ON_DATA)
# Off-policy estimates from held-out episodes.
ESTIMATE_METRIC = "off_policy/return_mean"
TEAM_METRICS += (
    ESTIMATE_METRIC,
    "off_policy/return_mean_low",
    "off_policy/return_mean_high",
    "off_policy/return_cvar_10",
    "off_policy/log_return_mean",
    "off_policy/td_error",
    "off_policy/estimates_since_best",
)
# Groups of results that only runs from a dataset report.
_OF_DATASET = ("data", "holdout", "off_policy")
# Results that only objective static reports.
_STATIC = ("alpha", "threshold", "return_cvar_alpha")
# Names of older releases, which no result has today. With one of them as stop
# criterion, Tune would warn once and then train forever.
_RENAMED: dict[str, str] = {
    "episode_reward_mean": "env_runners/episode_return_mean",
    "episode_reward_min": "env_runners/episode_return_min",
    "episode_reward_max": "env_runners/episode_return_max",
    "episode_len_mean": "env_runners/episode_len_mean",
    "sampler_results/episode_reward_mean": "env_runners/episode_return_mean",
    "evaluation/episode_reward_mean": "evaluation/env_runners/episode_return_mean",
    "evaluation/sampler_results/episode_reward_mean": (
        "evaluation/env_runners/episode_return_mean"
    ),
    "timesteps_total": "num_env_steps_sampled_lifetime",
    "agent_timesteps_total": "num_agent_steps_sampled_lifetime",
    "episodes_total": "num_episodes_lifetime",
}
_TRAINING_RETURN = "env_runners/episode_return_mean"
# Counters that stay at 0 if a run samples nothing.
_SAMPLED = (
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "num_agent_steps_sampled_lifetime",
    "num_agent_steps_sampled",
    "num_episodes_lifetime",
)
# A name this similar to a known one counts as a typo. Other unknown names in a folder
# such as `learner/` or `evaluation/` are accepted: env and algorithm may report them.
_TYPO_RATIO = 0.94


def check_metric(name: str, known: Sequence[str]) -> None:
    """Refuses a metric that no result can contain.

    Args:
        name: Name of the metric, such as ``evaluation/return_mean``.
        known: Metrics that the algorithm reports.

    Raises:
        ConfigError: If the name is from an older release or looks like a typo.
    """
    names = [*known, *TUNE_METRICS]
    if name in names:
        return
    if name in _RENAMED and _RENAMED[name] in names:
        raise ConfigError(f"'{name}' is now called '{_RENAMED[name]}'.")
    nested = "/" in name
    close = difflib.get_close_matches(
        name, names, n=1, cutoff=_TYPO_RATIO if nested else 0.6
    )
    if close:
        raise ConfigError(f"unknown metric '{name}'. Did you mean '{close[0]}'?")
    if not nested:
        raise ConfigError(
            f"unknown metric '{name}'. Known metrics include {', '.join(names[:6])}. A"
            " metric of the env or the learner has a folder, as in learner/td_loss."
        )


def excluded_by(config: Any, metric: str) -> str | None:
    """Returns why a run can never report a metric, or never increase it.

    Args:
        config: The validated ``AlgorithmConfig``.
        metric: Name of the metric, such as ``evaluation/return_mean``.

    Returns:
        The reason and what to do; None if the run may report the metric.
    """
    offline = getattr(config, "dataset", None) is not None
    if metric.startswith("evaluation/") and not config.evaluation_interval:
        if offline and config.env is None:
            return (
                "the run learns from a dataset and has no environment to evaluate in."
                " Give it an env, or use a metric of the data: data/td_error_abs, or"
                " holdout/td_error_abs with dataset_holdout."
            )
        other = "a metric of the learner" if offline else _TRAINING_RETURN
        return (
            "there are no evaluations. Set evaluation_interval to 1 or more, or use"
            f" {other}."
        )
    sampled = metric.startswith("env_runners/") or metric in _SAMPLED
    if offline and sampled:
        return (
            "a run that learns from a dataset samples nothing. Use"
            " num_updates_lifetime, dataset_passes or a metric of an evaluation."
        )
    folder, _, name = metric.partition("/")
    if folder == "evaluation" and name in _STATIC and not _has_threshold(config):
        return (
            "only objective: static reports it, and the objective is"
            f" {config.objective!r}."
            " Use evaluation/return_mean or evaluation/return_cvar_10."
        )
    if folder == "holdout" and offline and config.dataset_holdout == 0.0:
        return "no episode is held out. Set dataset_holdout."
    of_dataset = metric == "dataset_passes" or folder in _OF_DATASET
    if of_dataset and not offline:
        return "the run learns from no dataset. Use num_env_steps_sampled_lifetime."
    if folder == "off_policy" and config.off_policy_interval == 0:
        return "no off-policy estimate is made. Set off_policy_interval."
    return None


def _has_threshold(config: Any) -> bool:
    """Whether the run chooses a threshold, or may do so in its callbacks."""
    composition = getattr(config, "composition", None)
    return composition is None or composition.part("objective", config).sees_return
