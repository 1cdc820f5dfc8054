"""The configuration that all algorithms of this package share."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.core import ray_internals
from rllib_risk.core.envs import start_env, variants_of
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.env_wrappers.team_env import TeamEnv

TEAM_FIELDS: dict[str, Field] = {
    "hidden_size": Field(64, "Width of the agent network.", int, low=1),
    "recurrent": Field(True, "Memory over time; false for none.", bool),
    "rnn_cell": Field("gru", "What that memory is.", str, choices=("gru", "lstm")),
    "parameter_sharing": Field(True, "One network for all agents.", bool),
    "obs_last_action": Field(True, "Agents read their own last action.", bool),
    "agent_ids": Field(True, "Agents read their own id.", bool),
    "reward_scale": Field(
        1.0,
        "Factor on rewards inside the learner; logged returns are not scaled.",
        float,
        low=0.0,
        low_open=True,
    ),
    "optimizer": Field(
        "rmsprop", "Optimizer of the TD loss.", str, choices=("rmsprop", "adam")
    ),
    "optimizer_eps": Field(
        None,
        "Epsilon of the TD optimizer; null: 1e-5 for rmsprop, 1e-8 for adam.",
        float,
        low=0.0,
        low_open=True,
        optional=True,
    ),
    "rmsprop_smoothing": Field(0.99, "RMSprop's decay.", float, low=0.0, high=1.0),
    "batch_size_episodes": Field(
        32, "Episodes per update, or stretches of them.", int, low=1, unit="episodes"
    ),
    "buffer_size_episodes": Field(
        5000, "Replay capacity; the oldest go first.", int, low=1, unit="episodes"
    ),
    "compact_replay": Field(
        False,
        "Keep observations and states of the replay in 16 bits, and in one each those"
        " numbers that are only ever 0 or 1, and legal actions: less than half the"
        " memory, three significant digits.",
        bool,
    ),
    "learning_starts_episodes": Field(
        32, "Episodes stored before the first update.", int, low=1, unit="episodes"
    ),
    "updates_per_episode": Field(
        1.0,
        "Gradient steps per sampled episode.",
        float,
        low=0.0,
        low_open=True,
        unit="updates",
    ),
    "initial_epsilon": Field(1.0, "Epsilon at the start.", float, low=0.0, high=1.0),
    "final_epsilon": Field(0.05, "Epsilon at the end.", float, low=0.0, high=1.0),
    "epsilon_anneal_env_steps": Field(
        50_000,
        "Epsilon falls linearly over so many steps.",
        int,
        low=1,
        unit="env steps",
    ),
    "episodes_per_round": Field(
        None,
        "Episodes a runner plays before it reports; null: one per environment.",
        int,
        low=1,
        optional=True,
        unit="episodes",
    ),
    "env_variants": Field(
        [],
        "Changes to env_config that the environments take in turn (domain"
        " randomisation), a list of mappings.",
        list,
    ),
    "overlap_sampling": Field(
        False,
        "Remote runners sample while the learner learns, with weights that are up"
        " to two rounds old. Off, a run repeats exactly.",
        bool,
    ),
    "max_env_restarts": Field(
        3, "Failures in a row of one environment that stop the run.", int, low=1
    ),
    "max_episode_steps": Field(
        20_000,
        "Steps after which an episode that has not ended stops the run.",
        int,
        low=1,
        unit="env steps",
    ),
    "on_nonfinite": Field(
        "raise",
        "What NaN or infinity from an environment does: stop the run, or cost the"
        " episode.",
        str,
        choices=("raise", "skip_episode"),
    ),
}

# Keys of RLlib that look as if they did something here, and what to use instead.
UNUSED_RLLIB_KEYS: dict[str, str] = {
    "train_batch_size": "use batch_size_episodes",
    "train_batch_size_per_learner": "use batch_size_episodes",
    "minibatch_size": "use batch_size_episodes",
    "num_epochs": "use updates_per_episode",
    "rollout_fragment_length": "use episodes_per_round",
    "batch_mode": "episodes are always complete",
    "replay_buffer_config": "use buffer_size_episodes",
    "input": "use dataset, a folder that rllib record or rllib dataset import wrote",
    "input_": "use dataset, a folder that rllib record or rllib dataset import wrote",
    "output": "use rllib record, which writes a dataset",
    "store_buffer_in_checkpoints": "checkpoints always hold the replay",
    "exploration_config": "use exploration, initial_epsilon, final_epsilon and"
    " epsilon_anneal_env_steps",
    "explore": "evaluation is always greedy, training never",
    "model": "use hidden_size, recurrent and parameter_sharing",
    "num_learners": "learning runs in the trial's own process; use num_gpus",
    "framework": "it is always torch",
    "local_mode": "Ray 2.60 has none",
    "evaluation_parallel_to_training": "evaluation runs between iterations",
    "observation_filter": "normalise in the environment",
    "clip_rewards": "use reward_scale",
}


# Which algorithm each configuration class is for. Not an attribute of the class: Ray
# disassembles an algorithm's class with all classes that it refers to, and would never
# end if they referred to each other.
ALGORITHM_OF: dict[type, type] = {}


class TeamConfig(AlgorithmConfig):
    """What all algorithms share: sampling, replay, optimizer, evaluation, checks.

    Attributes:
        declared: The keys of this package that the algorithm has.
        overrides: Defaults that differ from those of :attr:`declared`, or of RLlib's
            keys.
        presets: Named sets of values; ``preset`` in a configuration picks one, and
            keys beside it win over it.
    """

    declared: ClassVar[dict[str, Field]] = TEAM_FIELDS
    overrides: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, algo_class: type | None = None) -> None:
        """Initializes a configuration with the algorithm's defaults.

        Args:
            algo_class: The Algorithm class it builds; if not given, the one that names
                this class as its ``config_class``.
        """
        super().__init__(algo_class=algo_class or ALGORITHM_OF.get(type(self)))
        # Without one, RLlib warns at every look at the stack and its sampler fails.
        self.exploration_config = {"type": "StochasticSampling"}
        self.api_stack(
            enable_rl_module_and_learner=False,
            enable_env_runner_and_connector_v2=False,
        )
        # RLlib keys, at the values of PyMARL's protocol.
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
        # One round being played and one waiting; see core/runners.py.
        self.max_requests_in_flight_per_env_runner = 2
        self.env_runner_cls = TeamRolloutWorker
        ray_internals.skip_preprocessors(self)
        for key, field in self.declared.items():
            setattr(self, key, field.default)
        # Keys of RLlib's may be among them.
        for key, value in self.overrides.items():
            setattr(self, key, value)
        self.preset: str | None = None

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """The keys this package adds, with this algorithm's defaults."""
        fields = {
            key: dataclasses.replace(
                field, default=cls.overrides.get(key, field.default)
            )
            for key, field in cls.declared.items()
        }
        if cls.presets:
            names = tuple(cls.presets)
            doc = f"A named set of values: {', '.join(names)}."
            fields["preset"] = Field(None, doc, str, choices=names, optional=True)
        return fields

    def training(self, **kwargs: Any) -> Self:
        """Sets keys of this package and of RLlib's ``training()`` alike.

        Args:
            **kwargs: Keys and values.

        Returns:
            This configuration.

        Raises:
            ConfigError: If a value of ours is wrong, or RLlib's key has no effect here.
        """
        ours = self.fields()
        self._apply_preset(kwargs)
        for key in list(kwargs):
            if key in UNUSED_RLLIB_KEYS:
                raise ConfigError(_unused(key, type(self).__name__))
            if key in ours:
                value = kwargs.pop(key)
                setattr(self, key, check_value(key, value, ours[key]))
        return super().training(**kwargs)

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """See RLlib; a preset comes before the other keys, whatever their order."""
        self._apply_preset(config_dict)
        return super().update_from_dict(dict(config_dict))

    def _apply_preset(self, given: Mapping[str, Any]) -> None:
        name = given.get("preset")
        # A config that was already resolved (Tune hands one on) must not be reset.
        if name is None or name == self.preset:
            return
        field = self.fields().get("preset")
        if field is None:
            raise ConfigError(f"preset: {type(self).__name__} has no presets.")
        check_value("preset", name, field)
        for key, value in self.presets[name].items():
            setattr(self, key, value)

    def validate(self) -> None:
        """Checks every key and every combination of keys.

        Raises:
            ConfigError: If one is wrong; the message names the key and the fix.
        """
        super().validate()
        for key, field in self.fields().items():
            setattr(self, key, check_value(key, getattr(self, key), field))
        self._check_rllib_keys()
        self._check_combinations()

    def _check_rllib_keys(self) -> None:
        checks = {
            "gamma": Field(0.99, "", float, low=0.0, high=1.0),
            "lr": Field(5e-4, "", (float, list), low=0.0, low_open=True),
            "grad_clip": Field(10.0, "", float, low=0.0, low_open=True, optional=True),
            "seed": Field(None, "", int, low=0, optional=True),
            "num_envs_per_env_runner": Field(1, "", int, low=1),
            "num_env_runners": Field(0, "", int, low=0),
            "evaluation_duration": Field(32, "", int, low=1, unit="episodes"),
            "evaluation_num_env_runners": Field(0, "", int, low=0),
            "min_sample_timesteps_per_iteration": Field(10_000, "", int, low=0),
        }
        for key, field in checks.items():
            setattr(self, key, check_value(key, getattr(self, key), field))
        rate: Any = self.lr  # RLlib's hint knows of numbers only
        if isinstance(rate, list):
            check_schedule("lr", rate, high=math.inf)
        if self.evaluation_duration_unit != "episodes":
            raise ConfigError("evaluation_duration_unit: must be 'episodes'.")
        if self.evaluation_config and not self.evaluation_interval:
            raise ConfigError(
                "evaluation_config: has no effect without evaluations; set"
                " evaluation_interval above 0."
            )
        if self.evaluation_parallel_to_training:
            raise ConfigError(_unused("evaluation_parallel_to_training", "this"))
        if self.enable_rl_module_and_learner or self.enable_env_runner_and_connector_v2:
            raise ConfigError(
                "api_stack: these algorithms run on RLlib's TorchPolicyV2 stack; leave"
                " enable_rl_module_and_learner and enable_env_runner_and_connector_v2"
                " false."
            )
        if self.is_multi_agent:
            raise ConfigError(
                "policies: a team is one RLlib agent here; agents share parameters or"
                " not by parameter_sharing."
            )

    def _check_combinations(self) -> None:
        self._check_sampling()
        self._check_variants()

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
        per_runner = self.episodes_per_round or self.num_envs_per_env_runner
        round_size = per_runner * max(self.num_env_runners, 1)
        if round_size > self.buffer_size_episodes:
            raise ConfigError(
                f"buffer_size_episodes ({self.buffer_size_episodes}) must hold a round"
                f" of {round_size} episodes (episodes_per_round, or else"
                " num_envs_per_env_runner, times runners): the rest would be thrown"
                " away unseen."
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

    def _least_episodes(self) -> int:
        """How many episodes there must be for one update."""
        return self.batch_size_episodes

    def preflight(self) -> None:
        """Makes the environments once and checks that the networks fit them.

        Raises:
            ConfigError: If the networks do not fit the environment.
            EnvConfigError: If the environment is unknown or no team environment.
            EnvFailedError: If it cannot be started.
        """
        configs = [self]
        if self.evaluation_config:
            configs.append(self.get_evaluation_config_object())
        for config in itertools.chain.from_iterable(map(variants_of, configs)):
            env = start_env(config)
            try:
                self.check_env(env)
            finally:
                env.close()

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the networks fit an environment.

        Args:
            env: The environment.

        Raises:
            ConfigError: If they do not.
        """


def _unused(key: str, algorithm: str) -> str:
    return f"{key}: has no effect in {algorithm}; {UNUSED_RLLIB_KEYS[key]}."


def check_schedule(
    key: str, points: list, *, zero: bool = False, high: float = 1.0
) -> None:
    """Checks a schedule of a number that lies between 0 and a limit.

    Args:
        key: Name of the key, for the message.
        points: ``[[env_steps, value], ...]``.
        zero: Whether 0 is accepted as a value.
        high: The greatest value that is accepted.

    Raises:
        ConfigError: If steps do not ascend or a value is out of range.
    """
    try:
        steps = [float(step) for step, _ in points]
        values = [float(value) for _, value in points]
    except (TypeError, ValueError):
        steps, values = [], []
    ordered = all(a < b for a, b in itertools.pairwise(steps))
    within = all(0.0 <= v <= high and (zero or v > 0.0) for v in values)
    if not steps or not ordered or not within:
        bounds = f"{'[' if zero else '('}0, {high:g}{']' if high < math.inf else ')'}"
        raise ConfigError(
            f"{key}: must be a number in {bounds} or points [[env_steps, value], ...]"
            f" in ascending order with values in {bounds}, not {points!r}."
        )
