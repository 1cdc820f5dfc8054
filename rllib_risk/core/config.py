"""The configuration that all algorithms of this package share."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.core.envs import start_env
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.models.team import TeamNetworkConfig

NETWORK_FIELDS: dict[str, Field] = {
    "hidden_size": Field(64, "Width of the agent network.", int, low=1),
    "recurrent": Field(True, "GRU over time; false for no memory.", bool),
    "parameter_sharing": Field(True, "One network for all agents.", bool),
    "num_atoms": Field(
        1, "Return atoms M per action; 1 is a plain action value.", int, low=1
    ),
    "risk_mode": Field(
        "mean",
        "Risk measure: the mean, CVaR at the static level alpha, or CVaR at a level"
        " predicted per agent and step.",
        str,
        choices=("mean", "static", "dynamic"),
    ),
    "alpha": Field(
        1.0,
        "Static risk level; 1 is risk-neutral.",
        float,
        low=0.0,
        low_open=True,
        high=1.0,
    ),
    "risk_levels": Field(10, "Levels K to predict from: 1/K, 2/K, ..., 1.", int, low=1),
    "cvar_norm": Field(
        "count",
        "Divisor of the kept atoms: their number, or the paper's printed form, or the"
        " released code's.",
        str,
        choices=("count", "eq2_raw", "code_offby1"),
    ),
    "cvar_mode": Field(
        "ceil",
        "Whole atoms only, or the last one in part.",
        str,
        choices=("ceil", "exact"),
    ),
    "risk_grad": Field(
        "straight_through",
        "How the level predictor learns; frozen is what the released code does.",
        str,
        choices=("straight_through", "frozen"),
    ),
    "risk_embed_dim": Field(
        None,
        "Size of the predictor's embedding; null: agents.",
        int,
        low=1,
        optional=True,
    ),
    "risk_logit_scale": Field(
        None,
        "Factor on the predictor's logits; null: 1/sqrt(hidden_size).",
        float,
        low=0.0,
        low_open=True,
        optional=True,
    ),
    "risk_tie_femb": Field(
        False, "One embedding for both sides of the predictor.", bool
    ),
    "risk_history_lag": Field(
        1,
        "Steps by which the predictor's history lags.",
        int,
        low=0,
        high=1,
        unit="steps",
    ),
    "risk_history_trains": Field(True, "Whether the history encoder learns.", bool),
    "mixer": Field(
        "none",
        "From the agents' utilities to the team's value.",
        str,
        choices=("none", "vdn", "qmix"),
    ),
    "mixing_embed_dim": Field(32, "Width of the monotonic mixer.", int, low=1),
    "hypernet_embed_dim": Field(
        64, "Width of the monotonic mixer's hypernetworks.", int, low=1
    ),
}

LEARNING_FIELDS: dict[str, Field] = {
    "double_q": Field(True, "Online network picks the next action.", bool),
    "td_lambda": Field(
        0.0,
        "TD(lambda) of the targets; a number, or points [[env_steps, value], ...].",
        (float, list),
        low=0.0,
        high=1.0,
    ),
    "td_lambda_cut": Field(
        "none",
        "Where a lambda-return stops: nowhere (Peng), or at the first action that is"
        " not greedy (Watkins).",
        str,
        choices=("none", "watkins"),
    ),
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
    "risk_lr": Field(
        None,
        "Learning rate of the risk level predictor; null: lr.",
        float,
        low=0.0,
        low_open=True,
        optional=True,
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
        32, "Episodes per update.", int, low=1, unit="episodes"
    ),
    "buffer_size_episodes": Field(
        5000, "Replay capacity; the oldest go first.", int, low=1, unit="episodes"
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
    "target_update_interval_episodes": Field(
        200, "Episodes between hard target copies.", int, low=1, unit="episodes"
    ),
    "target_update_tau": Field(
        None,
        "Polyak rate per update; null: hard copies.",
        float,
        low=0.0,
        low_open=True,
        high=1.0,
        optional=True,
    ),
    "qr_gate": Field(
        "never",
        "When the quantile-regression loss may start: once the evaluation success rate"
        " is above a threshold, after a number of env steps, or never.",
        str,
        choices=("winrate", "step", "never"),
    ),
    "qr_gate_threshold": Field(
        0.35, "Success rate that must be exceeded.", float, low=0.0, high=1.0
    ),
    "qr_start_step": Field(
        100_000, "Env steps that must be exceeded.", int, low=0, unit="env steps"
    ),
    "qr_interval": Field(1000, "Least distance between QR steps.", int, low=1),
    "qr_interval_unit": Field(
        "env_steps",
        "Unit of qr_interval.",
        str,
        choices=("env_steps", "train_steps"),
    ),
    "qr_lr": Field(
        5e-5, "Learning rate of the QR loss (Adam).", float, low=0.0, low_open=True
    ),
    "qr_eps": Field(
        3.125e-4, "Epsilon of the QR loss's Adam.", float, low=0.0, low_open=True
    ),
    "qr_loss": Field(
        "qrdqn",
        "QR-DQN's loss, or the released code's, under which atoms collapse.",
        str,
        choices=("qrdqn", "official"),
    ),
    "qr_fractions": Field(
        "midpoint",
        "Quantile fractions (2m-1)/(2M), or m/M.",
        str,
        choices=("midpoint", "right_edge"),
    ),
    "qr_kappa": Field(1.0, "Huber threshold.", float, low=0.0, low_open=True),
    "qr_target": Field(
        "cvar_dummy",
        "Dummy reward of the QR target: the paper's CVaR, or the reward that CVaR"
        " implies, for which both losses agree.",
        str,
        choices=("cvar_dummy", "implied_reward"),
    ),
    "qr_replaces_td": Field(
        False, "Whether a QR step takes the place of the TD step.", bool
    ),
}

SAMPLING_FIELDS: dict[str, Field] = {
    "exploration": Field(
        "epsilon_greedy",
        "epsilon_z_greedy repeats a random action for a random number of steps.",
        str,
        choices=("epsilon_greedy", "epsilon_z_greedy"),
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
    "epsilon_z_exponent": Field(
        2.0,
        "Exponent of the zeta distribution of repeats in epsilon_z_greedy.",
        float,
        low=1.0,
        low_open=True,
    ),
    "epsilon_ladder": Field(
        0.0,
        "Spread of epsilon over environments as in Ape-X: the first has epsilon, the"
        " last epsilon ** (1 + ladder); 0: all the same.",
        float,
        low=0.0,
    ),
    "episodes_per_round": Field(
        None,
        "Episodes a runner plays before it reports; null: one per environment.",
        int,
        low=1,
        optional=True,
        unit="episodes",
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

FIELDS: dict[str, Field] = NETWORK_FIELDS | LEARNING_FIELDS | SAMPLING_FIELDS

# Keys of RLlib that look as if they did something here, and what to use instead.
UNUSED_RLLIB_KEYS: dict[str, str] = {
    "train_batch_size": "use batch_size_episodes",
    "train_batch_size_per_learner": "use batch_size_episodes",
    "minibatch_size": "use batch_size_episodes",
    "num_epochs": "use updates_per_episode",
    "rollout_fragment_length": "use episodes_per_round",
    "batch_mode": "episodes are always complete",
    "replay_buffer_config": "use buffer_size_episodes",
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
    """A composition of utilities, risk measure, mixer, target and losses.

    Named algorithms are subclasses that set :attr:`overrides`; nothing else differs, so
    any key of :data:`FIELDS` may be given to any of them.

    Attributes:
        overrides: Defaults that differ from those of :data:`FIELDS`.
        presets: Named sets of values; ``preset`` in a configuration picks one, and
            keys beside it win over it.
    """

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
        # Observations reach the policy as they are.
        self._disable_preprocessor_api = True
        for key, field in self.fields().items():
            setattr(self, key, field.default)
        self.preset: str | None = None

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """The keys this package adds, with this algorithm's defaults."""
        fields = {
            key: dataclasses.replace(
                field, default=cls.overrides.get(key, field.default)
            )
            for key, field in FIELDS.items()
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

    def network_config(self) -> TeamNetworkConfig:
        """The part of the configuration that shapes the network."""
        names = (f.name for f in dataclasses.fields(TeamNetworkConfig))
        return TeamNetworkConfig(**{name: getattr(self, name) for name in names})

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
            "lr": Field(5e-4, "", float, low=0.0, low_open=True),
            "grad_clip": Field(10.0, "", float, low=0.0, low_open=True, optional=True),
            "seed": Field(None, "", int, low=0, optional=True),
            "num_envs_per_env_runner": Field(1, "", int, low=1),
            "num_env_runners": Field(0, "", int, low=0),
            "evaluation_duration": Field(32, "", int, low=1, unit="episodes"),
            "evaluation_num_env_runners": Field(0, "", int, low=0),
            "min_sample_timesteps_per_iteration": Field(10_000, "", int, low=1),
        }
        for key, field in checks.items():
            setattr(self, key, check_value(key, getattr(self, key), field))
        if self.evaluation_duration_unit != "episodes":
            raise ConfigError("evaluation_duration_unit: must be 'episodes'.")
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
        if self.learning_starts_episodes < self.batch_size_episodes:
            raise ConfigError(
                f"learning_starts_episodes ({self.learning_starts_episodes}) must be at"
                f" least batch_size_episodes ({self.batch_size_episodes})."
            )
        if self.buffer_size_episodes < self.learning_starts_episodes:
            raise ConfigError(
                f"buffer_size_episodes ({self.buffer_size_episodes}) must be at least"
                f" learning_starts_episodes ({self.learning_starts_episodes})."
            )
        if self.cvar_mode == "exact" and self.cvar_norm != "count":
            raise ConfigError("cvar_mode: 'exact' goes with cvar_norm 'count' only.")
        if self.qr_gate != "never" and self.num_atoms == 1:
            raise ConfigError(
                "qr_gate: quantile regression needs num_atoms above 1; set"
                " qr_gate: never."
            )
        if self.qr_gate == "winrate" and not self.evaluation_interval:
            raise ConfigError("qr_gate: 'winrate' needs evaluation_interval above 0.")
        if isinstance(self.td_lambda, list):
            _check_schedule("td_lambda", self.td_lambda)

    def preflight(self) -> None:
        """Makes the environment once and checks that the network fits it.

        Raises:
            ConfigError: If a mixer needs a state that the environment does not have.
            EnvConfigError: If the environment is unknown or no team environment.
            EnvFailedError: If it cannot be started.
        """
        env = start_env(self)
        try:
            self.check_env(env)
        finally:
            env.close()

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the network fits an environment.

        Args:
            env: The environment.

        Raises:
            ConfigError: If a mixer needs a state that the environment does not have.
        """
        if self.mixer == "qmix" and env.spec_team.state_size == 0:
            raise ConfigError(
                f"mixer: 'qmix' needs a global state, and env {self.env!r} has none."
                " Give the environment a state() method, or set env_config: {state:"
                " concat_obs} to use the agents' observations side by side, or choose"
                " mixer: vdn."
            )


def _unused(key: str, algorithm: str) -> str:
    return f"{key}: has no effect in {algorithm}; {UNUSED_RLLIB_KEYS[key]}."


def _check_schedule(key: str, points: list) -> None:
    try:
        steps = [float(step) for step, _ in points]
        values = [float(value) for _, value in points]
    except (TypeError, ValueError):
        steps, values = [], []
    ordered = all(a < b for a, b in itertools.pairwise(steps))
    if not steps or not ordered or not all(0.0 <= v <= 1.0 for v in values):
        raise ConfigError(
            f"{key}: must be a number in [0, 1] or points [[env_steps, value], ...] in"
            f" ascending order with values in [0, 1], not {points!r}."
        )
