"""Chooses one of RLlib's two API stacks for a run of RLlib's own algorithms.

RLlib runs its algorithms on the new API stack unless a configuration switches it off.
Files of older releases have keys that only the old stack reads. On the new stack RLlib
refuses some of them and ignores the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import Domain

STACK_KEYS = ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")

# Keys that only the old API stack reads, and their counterparts on the new stack.
_OLD_KEYS: dict[str, str] = {
    "model": "model_config",
    "exploration_config": "DQN's `epsilon`, or none",
    "hiddens": "model_config: {head_fcnet_hiddens: ...}",
    "noisy": "none",
    "q_model_config": "model_config",
    "policy_model_config": "model_config",
    "use_state_preprocessor": "none",
    "lr_schedule": "`lr` as points [[env_steps, value], ...]",
    "entropy_coeff_schedule": "`entropy_coeff` as points [[env_steps, value], ...]",
    "observation_filter": "a connector",
    "preprocessor_pref": "a connector",
    "clip_rewards": "a connector",
    "compress_observations": "none",
    "sample_collector": "a connector",
    "remote_worker_envs": "gym_env_vectorize_mode: async",
    "remote_env_batch_wait_ms": "gym_env_vectorize_mode: async",
    "optimizer": "a Learner class",
    "num_gpus": "num_learners and num_gpus_per_learner",
    "num_multi_gpu_tower_stacks": "none",
    "minibatch_buffer_size": "none",
    "replay_proportion": "none",
    "replay_buffer_num_slots": "none",
    "opt_type": "a Learner class",
    "decay": "a Learner class",
    "momentum": "a Learner class",
}
# Keys that only the new API stack reads.
_NEW_KEYS = (
    "model_config",
    "num_learners",
    "num_cpus_per_learner",
    "num_gpus_per_learner",
    "train_batch_size_per_learner",
    "gym_env_vectorize_mode",
    "grad_clip_by",
)
_REPLAY = "replay_buffer_config"
# Keys of the old stack's replays. The new stack's replays ignore them silently.
_OLD_REPLAY_KEYS: dict[str, str] = {
    "prioritized_replay": "type: PrioritizedEpisodeReplayBuffer",
    "prioritized_replay_alpha": "alpha",
    "prioritized_replay_beta": "beta",
    "prioritized_replay_eps": "none",
    "learning_starts": "num_steps_sampled_before_learning_starts, outside of it",
}


@dataclass(frozen=True)
class Stack:
    """An API stack.

    Attributes:
        new: Whether this is the new API stack.
        key: The key that requires the old stack; None: the choice is RLlib's default or
            the file's own switch.
    """

    new: bool
    key: str | None = None

    def reason(self) -> str:
        """Returns a line about the key that decided; empty if no key did."""
        if self.key is None:
            return ""
        return (
            f"runs on RLlib's old API stack, because only that one reads {self.key}."
            f" Its counterpart on the new stack: {_OLD_KEYS[self.key]}."
        )


def choose_stack(
    algorithm: str, values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Stack:
    """Chooses the API stack for one of RLlib's own algorithms.

    Args:
        algorithm: Name of the algorithm.
        values: The keys that the user gave, with or without search spaces.
        defaults: The algorithm's defaults.

    Returns:
        The stack that RLlib's own switches ask for. Without a switch: the old stack if
        a key needs it, otherwise RLlib's default.

    Raises:
        ConfigError: If the keys need both stacks, or a stack that the algorithm lacks.
    """
    given = [key for key in STACK_KEYS if key in values]
    old = [key for key in values if _needs_old(key, values[key], defaults)]
    if "Episode" in str((defaults.get(_REPLAY) or {}).get("type")):
        # The old stack cannot build an episode replay (Ray 2.48 to 2.60): one part of
        # RLlib expects a class, and another its name.
        _check_new_only(algorithm, values, old)
        return Stack(True)
    if given:
        return Stack(bool(values[given[0]]))
    if not defaults.get(STACK_KEYS[0]) or not old:
        return Stack(bool(defaults.get(STACK_KEYS[0])))
    new = [key for key in _NEW_KEYS if key in values]
    if new:
        raise ConfigError(
            f"{old[0]}: only RLlib's old API stack reads this key, and only its new one"
            f" reads {new[0]}. Leave one of them out."
        )
    return Stack(False, old[0])


def _needs_old(key: str, value: Any, defaults: Mapping[str, Any]) -> bool:
    if key not in _OLD_KEYS:
        return False
    # A search space holds values other than the default. Null, 0 and an empty mapping
    # switch a feature off, and the new stack can do without it.
    return isinstance(value, Domain) or bool(value and value != defaults.get(key))


def _check_new_only(algorithm: str, values: Mapping[str, Any], old: list[str]) -> None:
    """Refuses keys of the old stack for an algorithm that needs the new stack."""
    for key in STACK_KEYS:
        if values.get(key) is False:
            raise ConfigError(
                f"{key}: {algorithm} runs only on RLlib's new API stack. Leave this key"
                " out."
            )
    if old:
        raise ConfigError(
            f"{old[0]}: has no effect in {algorithm}, which runs only on RLlib's new"
            f" API stack. Its counterpart there: {_OLD_KEYS[old[0]]}."
        )
    replay = values.get(_REPLAY)
    if not isinstance(replay, Mapping):
        return
    kind = replay.get("type", "Episode")
    if isinstance(kind, str) and "Episode" not in kind:
        raise ConfigError(
            f"{_REPLAY}.type: {kind} is a replay of RLlib's old API stack. {algorithm}"
            " takes EpisodeReplayBuffer or PrioritizedEpisodeReplayBuffer."
        )
    for key in replay:
        if key in _OLD_REPLAY_KEYS:
            raise ConfigError(
                f"{_REPLAY}.{key}: has no effect on RLlib's new API stack. Its"
                f" counterpart there: {_OLD_REPLAY_KEYS[key]}."
            )
