"""The configuration that all algorithms of this package share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

from rllib_risk.config.checks import unknown_key
from rllib_risk.config.rllib_keys import range_of, setter_of
from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.core import ray_internals, tune_internals
from rllib_risk.core.callbacks import check_callbacks, resolve_callbacks
from rllib_risk.core.composed_config import OWN_PARTS, ComposedConfig
from rllib_risk.core.config_values import check_schedule, same_value
from rllib_risk.core.envs import start_env, variants_of
from rllib_risk.core.learner_config import check_learners
from rllib_risk.core.rllib_settings import (
    FOREIGN,
    HONOURED,
    REFUSED,
    UNUSED_KEYS,
    attribute_of,
    key_of,
)
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.data.replay_memory import ReplayBound
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers import notices
from rllib_risk.env_wrappers.team_env import TeamEnv

_STACK = ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")

# Algorithm class of each configuration class. It is not an attribute of the class,
# because Ray follows all references of an algorithm's class, and a cycle of references
# would never end.
ALGORITHM_OF: dict[type, type] = {}


class TeamConfig(ComposedConfig):
    """Keys and checks of all algorithms: sampling, replay, optimizer, evaluation."""

    def __init__(self, algo_class: type | None = None) -> None:
        """Initializes a configuration with the algorithm's defaults.

        Args:
            algo_class: Algorithm class to build. Default: the class whose
                ``config_class`` is this class.
        """
        super().__init__(algo_class=algo_class or ALGORITHM_OF.get(type(self)))
        # Without a type, api_stack() logs a warning, and RLlib's sampler fails.
        self.exploration_config = {"type": "StochasticSampling"}
        self.api_stack(
            enable_rl_module_and_learner=False,
            enable_env_runner_and_connector_v2=False,
        )
        # Keys of RLlib, with the values of PyMARL's protocol.
        self.framework_str = "torch"
        self.gamma = 0.99
        self.lr = 5e-4
        self.grad_clip = 10.0
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 1
        self.create_local_env_runner = True
        self.min_sample_timesteps_per_iteration = 10_000
        self.evaluation_interval = 1
        self.evaluation_duration = 32
        self.evaluation_duration_unit = "episodes"
        self.evaluation_num_env_runners = 0
        self.restart_failed_env_runners = True
        # One round that is played and one that waits; see core/runners.py.
        self.max_requests_in_flight_per_env_runner = 2
        self.env_runner_cls = TeamRolloutWorker
        ray_internals.skip_preprocessors(self)
        for key, field in self.declared.items():
            setattr(self, key, field.default)
        # Overrides may contain keys of RLlib.
        for key, value in self.overrides.items():
            setattr(self, key, value)
        self.preset: str | None = None

    def __eq__(self, other: object) -> bool:
        """Whether another configuration has the same class and equal values."""
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = (
            {k: v for k, v in vars(config).items() if k != "_is_frozen"}
            for config in (self, other)
        )
        return same_value(mine, theirs)

    def __hash__(self) -> int:
        """Hashes by identity, because a configuration can change."""
        return object.__hash__(self)

    def get_state(self) -> dict[str, Any]:
        """See RLlib. Keeps keys of value -1, which RLlib leaves out."""
        keys = self.all_fields()
        return super().get_state() | {key: getattr(self, key) for key in keys}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """See RLlib. Removes the class name, which RLlib leaves as a setting."""
        config = super().from_state(state)
        vars(config).pop("class", None)
        return config

    def training(self, **kwargs: Any) -> Self:
        """Sets keys of this package and of RLlib's ``training()``.

        Args:
            **kwargs: Keys and values. A value may be a search space of Tune.

        Returns:
            This configuration.

        Raises:
            ConfigError: If a key does not exist, or a key of this package has a wrong
                value. :meth:`validate` checks RLlib's keys.
        """
        ours = self.fields() | self._declare_own(kwargs)
        known = {*ours, *inspect.signature(super().training).parameters}
        for key in kwargs.keys() - known:
            raise ConfigError(self._no_such_key(key, ours))
        self._apply_preset(kwargs)
        for key in kwargs.keys() & ours.keys():
            value = kwargs.pop(key)
            candidates = tune_internals.listed_values(value)
            if candidates is None:
                value = check_value(key, value, ours[key])
            for candidate in candidates or ():
                check_value(key, candidate, ours[key])
            setattr(self, key, value)
        return super().training(**kwargs)

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """See RLlib. A preset is applied before the other keys, in any order of keys.

        :meth:`validate` refuses keys that do not exist.
        """
        if isinstance(config_dict, AlgorithmConfig):
            config_dict = config_dict.to_dict()
        # Tune adds its own entries to a trial's dict, such as __trial_info__.
        values = {k: v for k, v in config_dict.items() if not k.startswith("__")}
        self._leave_out_others(values, config_dict.get(OWN_PARTS) or {})
        # RLlib writes the one default policy in a form that it cannot read.
        if set(values.get("policies") or ()) == {DEFAULT_POLICY_ID}:
            del values["policies"]
        for key in ("callbacks", "callbacks_class"):
            if key in values:
                values[key] = resolve_callbacks(values[key])
        self._apply_preset(values)
        self._declare_own(values)
        return super().update_from_dict(values)

    def validate(self) -> None:
        """Checks every key and every combination of keys.

        Raises:
            ConfigError: If a check fails. The message names the key and the fix.
        """
        self._check_keys()
        super().validate()
        own = self.own_fields(vars(self))
        for key, field in self.all_fields().items():
            if key in own and same_value(getattr(self, key), field.default):
                self._check_default(key, field)
            setattr(self, key, check_value(key, getattr(self, key), field))
        self._check_rllib_keys()
        self._check_combinations()

    def _check_keys(self) -> None:
        """Refuses keys that do not exist, and keys of RLlib that have no effect."""
        # RLlib changes some of these keys in the copy for evaluations.
        if self.in_evaluation:
            return
        # The API stack comes first, because RLlib changes other settings with it.
        for attribute in sorted(vars(self), key=lambda name: name not in _STACK):
            self._check_key(attribute, getattr(self, attribute))
        changes = self.evaluation_config or {}
        if isinstance(changes, AlgorithmConfig):
            changes = {}
        for key, value in changes.items():
            self._check_key(attribute_of(key), value, "evaluation_config.")

    def _check_key(self, attribute: str, value: Any, where: str = "") -> None:
        defaults = _defaults(type(self))  # type: ignore[arg-type] # it is hashable
        if attribute not in defaults:
            if attribute in self.own_fields(vars(self)):
                return
            message = self._no_such_key(key_of(attribute))
            raise ConfigError(f"{where.rstrip('.')}: {message}" if where else message)
        # A run without an environment takes its spaces from the dataset.
        if self.env is None and attribute in ("observation_space", "action_space"):
            return
        default = defaults[attribute]
        if where and attribute == "explore":
            default = False  # RLlib's users set it, and evaluations are greedy
        # Another env runner, such as RLlib's own, may use all settings.
        ours = issubclass(self.env_runner_cls, TeamRolloutWorker)
        if ours and attribute in REFUSED and not same_value(value, default):
            raise ConfigError(f"{where}{self._unused(key_of(attribute))}")

    def _no_such_key(self, key: str, ours: Collection[str] = ()) -> str:
        if key in FOREIGN:
            return self._unused(key)
        honoured = {key_of(name) for name in HONOURED}
        if ours and key in honoured:
            setter = setter_of(type(self), key, ray_internals.not_provided())
            how = f"call {setter}({key}=...)" if setter else f"set config.{key} = ..."
            return f"{key}: is not a key of training(); {how} instead."
        ours = ours or self.all_fields()
        own = [name for name in ours if name not in self.fields()]
        return unknown_key(key, [*ours, *honoured], self._owner(), own)

    def _unused(self, key: str) -> str:
        return f"{key}: has no effect in {self._owner()}; {UNUSED_KEYS[key]}."

    def _owner(self) -> str:
        return type(self).__name__.removesuffix("Config")

    def _validate_callbacks_settings(self) -> None:
        """See RLlib, which refuses functions as callbacks on this stack."""
        check_callbacks(self)

    def _check_rllib_keys(self) -> None:
        types: dict[str, Any] = {
            "gamma": float,
            "lr": (float, list),
            "grad_clip": float,
            "seed": int,
            "num_envs_per_env_runner": int,
            "num_env_runners": int,
            "num_learners": int,
            "evaluation_duration": int,
            "evaluation_num_env_runners": int,
            "min_sample_timesteps_per_iteration": int,
        }
        for key, kind in types.items():
            optional = key in ("grad_clip", "seed")
            field = Field(None, "", kind, optional=optional, **range_of(key))
            setattr(self, key, check_value(key, getattr(self, key), field))
        rate: Any = self.lr  # RLlib's type hint has no lists
        if isinstance(rate, list):
            check_schedule("lr", rate, Field(None, "", float, **range_of("lr")))
        if self.evaluation_config and not self.evaluation_interval:
            raise ConfigError(
                "evaluation_config: has no effect without evaluations; set"
                " evaluation_interval above 0."
            )

    def _check_combinations(self) -> None:
        self._check_sampling()
        self._check_variants()
        self._check_runner()
        self._check_parts()
        check_learners(self)

    def _check_sampling(self) -> None:
        if self.learning_starts_episodes < self._least_episodes():
            raise ConfigError(
                f"learning_starts_episodes ({self.learning_starts_episodes}) must be at"
                f" least batch_size_episodes ({self.batch_size_episodes})."
            )
        if self.buffer_size_episodes < self.learning_starts_episodes:
            raise ConfigError(
                f"buffer_size_episodes ({self.buffer_size_episodes}) must be at least"
                f" learning_starts_episodes ({self.learning_starts_episodes})."
            )
        if self.update_interval_env_steps is not None:
            self._check_updates_within_episodes()
        round_size = self.episodes_of_round
        if round_size > self.buffer_size_episodes:
            raise ConfigError(
                f"buffer_size_episodes ({self.buffer_size_episodes}) must hold a round"
                f" of {round_size} episodes (episodes_per_round, or else"
                " num_envs_per_env_runner, times runners): the rest would be thrown"
                " away unseen."
            )

    def _check_runner(self) -> None:
        part = self.composition.part("objective", self)
        if part.sees_return and not issubclass(self.env_runner_cls, TeamRolloutWorker):
            raise ConfigError(
                f"objective: {self.objective!r} shows agents the return so far, which"
                f" {self.env_runner_cls.__name__} does not; leave env_runner_cls out."
            )

    def _check_updates_within_episodes(self) -> None:
        key = "update_interval_env_steps"
        if self.num_env_runners > 0:
            raise ConfigError(
                f"{key}: the learner makes updates while it plays; set num_env_runners:"
                " 0, or updates_per_episode instead."
            )
        if self.updates_per_episode not in self._usual("updates_per_episode"):
            raise ConfigError(
                f"updates_per_episode: has no effect beside {key}; leave one of them"
                " out."
            )

    def _check_variants(self) -> None:
        for index, change in enumerate(self.env_variants):
            if not isinstance(change, Mapping):
                raise ConfigError(
                    f"env_variants: entry {index} must be a mapping of env_config keys,"
                    f" not {change!r}."
                )
        number, envs = len(self.env_variants), self.num_envs_per_env_runner
        if number and envs % number:
            raise ConfigError(
                f"env_variants: {number} variants share the environments evenly; set"
                f" num_envs_per_env_runner ({envs}) to a multiple of {number}."
            )

    def split_refusals(self) -> Iterator[str]:
        """Yields the reasons why learners cannot split a batch, as messages."""
        yield from ()

    def _least_episodes(self) -> int:
        """Returns the smallest number of episodes that allows an update."""
        return self.batch_size_episodes

    def preflight(self) -> ReplayBound | None:
        """Builds the environments once and checks that the networks fit them.

        Returns:
            Upper bound of the replay's memory; None if the run samples nothing.

        Raises:
            ConfigError: If the networks do not fit the environment.
            EnvConfigError: If an environment is unknown or no team environment.
            EnvFailedError: If an environment cannot be started.
        """
        with notices.captured():  # the trial itself logs them, once
            specs = [self._checked_spec(config) for config in variants_of(self)]
            if self.evaluation_config:
                for config in variants_of(self.get_evaluation_config_object()):
                    self._checked_spec(config)
        return self.replay_bound(specs)

    def _checked_spec(self, config: AlgorithmConfig) -> TeamSpec:
        env = start_env(config)
        try:
            self.check_env(env)
        finally:
            env.close()
        return env.spec_team

    def replay_bound(self, specs: Sequence[TeamSpec]) -> ReplayBound:
        """Returns an upper bound of the replay's memory.

        Args:
            specs: Team sizes of the environments whose episodes the replay holds.
        """
        return ReplayBound.of(
            specs,
            self.stored_episodes,
            self.max_episode_steps,
            self.compact_replay,
        )

    @property
    def stored_episodes(self) -> int:
        """Capacity of the replay in episodes."""
        return self.buffer_size_episodes

    @property
    def episodes_of_round(self) -> int:
        """Episodes that all runners play in one round."""
        per_runner = self.episodes_per_round or self.num_envs_per_env_runner
        return per_runner * max(self.num_env_runners, 1)

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the networks fit an environment.

        Args:
            env: The environment.

        Raises:
            ConfigError: If the networks do not fit.
        """


@cache
def _defaults(config_class: Callable[[], TeamConfig]) -> dict[str, Any]:
    """Returns the values of a new configuration. Callers must not change them."""
    return dict(vars(config_class()))
