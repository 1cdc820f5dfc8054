"""Advice on keys that make a run faster, from the time that each part took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A part with a smaller share of the time is not named as the cause.
_CAUSE = 1 / 3
# A shorter update gains almost nothing from more learners; see docs/scaling.md.
_SHARED_UPDATE_S = 0.05
# From this number of environments on, a pass of the network costs little for each.
_MANY_ENVS = 16


def advice(
    shares: Mapping[str, float],
    runners: Mapping[str, float],
    update_s: float,
    config: Any,
) -> str:
    """Names the part that took most of the time, and the keys that reduce it.

    Args:
        shares: Share of each part of the trials' own processes.
        runners: Share of each part of the remote runners' time; empty without runners.
        update_s: Mean time of an update in seconds; 0 without updates.
        config: The validated ``AlgorithmConfig``.

    Returns:
        One or two sentences.
    """
    started = 1.0 - shares.get("starting", 0.0)
    after = {k: v / (started or 1.0) for k, v in shares.items() if k != "starting"}
    cause = max(after, key=lambda label: after[label])
    if after[cause] < _CAUSE:
        return "No part took more than a third of the time, so no key stands out."
    took = f" took {after[cause]:.0%} of the time after the start"
    if cause == "waiting for runners":
        return f"Waiting for the runners{took}. {_of_runners(runners, config)}"
    if cause == "environment":
        return f"The environment{took}. {_more_runners(config)}"
    if cause == "acting":
        return f"Choosing actions{took}. {_acting(config)}"
    if cause == "update":
        each = f"{1000 * update_s:.0f} ms each"
        return f"Updates{took} ({each}). {_updates(runners, update_s, config)}"
    if cause == "evaluation" and not config.evaluation_interval:
        # A run without an environment has reports on the dataset and estimates instead.
        interval = getattr(config, "off_policy_interval", 0)
        return (
            f"Reports on the dataset and off-policy estimates{took}. Raise"
            f" off_policy_interval (now {interval}) or updates_per_iteration, or lower"
            " dataset_holdout."
        )
    what, do = _OTHERS[cause]
    return f"{what}{took}. {do.format(**_values(config))}"


# Description of each part, and what to change.
_OTHERS = {
    "replay and batches": (
        "Storing episodes and making batches",
        "Lower batch_size_episodes (now {batch_size_episodes}), leave compact_replay"
        " false, or make fewer updates.",
    ),
    "evaluation": (
        "Evaluations",
        "Raise evaluation_interval (now {evaluation_interval}), or lower"
        " evaluation_duration (now {evaluation_duration}).",
    ),
    "checkpoints": (
        "Saving checkpoints",
        "Raise checkpoint_frequency, or lower buffer_size_episodes, since a checkpoint"
        " holds the replay.",
    ),
    "rest": (
        "Work between rounds and updates (results, loggers, callbacks)",
        "Raise min_sample_timesteps_per_iteration, so that results are rarer.",
    ),
}


def _values(config: Any) -> dict[str, Any]:
    keys = ("batch_size_episodes", "evaluation_interval", "evaluation_duration")
    return {key: getattr(config, key) for key in keys}


def _more_runners(config: Any) -> str:
    text = (
        f"Use more processes: raise num_env_runners (now {config.num_env_runners}), up"
        " to the number of free cores."
    )
    if config.overlap_sampling:
        return text
    return f"{text} overlap_sampling: true lets them play while updates are made."


def _acting(config: Any) -> str:
    if config.num_envs_per_env_runner >= _MANY_ENVS:
        return _more_runners(config)
    return (
        "One pass of the network serves all environments of a process: raise"
        f" num_envs_per_env_runner (now {config.num_envs_per_env_runner})."
    )


def _of_runners(runners: Mapping[str, float], config: Any) -> str:
    environment, acting = runners.get("environment", 0.0), runners.get("acting", 0.0)
    if environment + acting < 0.5:
        return (
            "They were idle for most of it, since rounds are short. Raise"
            f" num_envs_per_env_runner (now {config.num_envs_per_env_runner}), or lower"
            f" num_env_runners (now {config.num_env_runners}); 0 plays in the trial's"
            " own process."
        )
    if environment >= acting:
        return f"They mostly ran the environment. {_more_runners(config)}"
    return f"They mostly chose actions. {_acting(config)}"


def _updates(runners: Mapping[str, float], update_s: float, config: Any) -> str:
    ways = []
    if update_s >= _SHARED_UPDATE_S:
        learners = max(config.num_learners, 1)
        ways.append(f"raise num_learners (now {learners}) if cores are free")
    ways.append(_fewer_updates(config))
    if getattr(config, "recurrent", False):
        ways.append("set recurrent: false if the team needs no memory")
    text = f"To save time: {'; '.join(ways)}."
    idle = runners.get("idle", 0.0)
    if idle > 0.5:
        text += (
            f" The runners were idle for {idle:.0%} of their time: fewer"
            f" num_env_runners (now {config.num_env_runners}) are enough."
        )
    return text


def _fewer_updates(config: Any) -> str:
    size = f"batch_size_episodes (now {config.batch_size_episodes})"
    if hasattr(config, "epochs_per_update"):
        return f"lower epochs_per_update (now {config.epochs_per_update})"
    if getattr(config, "dataset", None) is not None:
        return f"lower {size}, or sequence_length"
    if config.update_interval_env_steps is not None:
        key = (
            f"raise update_interval_env_steps (now {config.update_interval_env_steps})"
        )
    else:
        key = f"lower updates_per_episode (now {config.updates_per_episode:g})"
    return f"{key}, perhaps with a larger {size}"
