"""The configuration of value-based algorithms: a composition of parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from rllib_risk.config.schema import MOST_RATE, MOST_WIDTH, ConfigError, Field
from rllib_risk.core import ray_internals
from rllib_risk.core.config import (
    TEAM_FIELDS,
    TeamConfig,
    check_schedule,
    same_value,
)
from rllib_risk.core.model import team_sizes
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.replay_memory import ReplayBound, machine_memory, spelled
from rllib_risk.data.rows import DatasetError
from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.env_wrappers.team_env import TeamEnv, team_spaces
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import DualTarget
from rllib_risk.parts.team import TeamNetwork, TeamNetworkConfig

# Measures that read a risk level beside the atoms.
_LEVEL_MEASURES = ("cvar", "var")
# A part that works without a state, by the key of one that needs it.
_STATELESS = {"mixer": "vdn", "joint_critic": "none", "target": "contamination"}
# What a network's size depends on most.
_WIDTHS = (
    "hidden_size",
    "num_atoms",
    "mixing_embed_dim",
    "hypernet_embed_dim",
    "risk_embed_dim",
)
# Measures that read risk_parameter.
_PARAMETER_MEASURES = ("wang", "cpw", "power", "mean_variance")

COMPOSITION_FIELDS: dict[str, Field] = {
    "num_atoms": Field(
        1,
        "Return atoms M per action; 1 is a plain action value.",
        int,
        low=1,
        high=MOST_WIDTH,
        fixed=True,
    ),
    "quantiles": Field(
        "fixed",
        "What the atoms are: outputs of their own at fixed fractions (QR-DQN), or one"
        " function of the fraction, sampled anew in every update (IQN).",
        str,
        choices=("fixed", "sampled"),
        fixed=True,
    ),
    "risk_measure": Field(
        "mean",
        "From an action's atoms to its utility: mean, cvar, var, wang, cpw, power,"
        " mean_variance, or your own as pkg.module:Class.",
        str,
        choices=("mean", *_LEVEL_MEASURES, *_PARAMETER_MEASURES),
        import_path=True,
        fixed=True,
    ),
    "risk_parameter": Field(
        None,
        "Parameter of wang, cpw, power and mean_variance; null: -0.75, 0.71, -2, 0.1.",
        float,
        optional=True,
    ),
    "risk_kwargs": Field({}, "Arguments of your own risk measure.", dict, fixed=True),
    "risk_mode": Field(
        "static",
        "Level of cvar and var: alpha, or predicted per agent and step.",
        str,
        choices=("static", "dynamic"),
        fixed=True,
    ),
    "alpha": Field(
        1.0,
        "Static level of cvar and var, a number or points [[env_steps, value], ...];"
        " 1 keeps all atoms.",
        (float, list),
        low=0.0,
        low_open=True,
        high=1.0,
    ),
    "risk_levels": Field(
        10,
        "Levels K to predict from: 1/K, 2/K, ..., 1.",
        int,
        low=1,
        high=MOST_WIDTH,
        fixed=True,
    ),
    "cvar_norm": Field(
        "count",
        "Divisor of the kept atoms: their number, or the paper's printed form, or the"
        " released code's.",
        str,
        choices=("count", "eq2_raw", "code_offby1"),
    ),
    "cvar_mode": Field(
        "ceil",
        "Number of kept atoms: ceil(alpha M), the same as the released code's float32"
        " arithmetic counts it (31 of 100 at 0.3), or exact: the last one in part.",
        str,
        choices=("ceil", "ceil_float32", "exact"),
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
        high=MOST_WIDTH,
        optional=True,
        fixed=True,
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
        False, "One embedding for both sides of the predictor.", bool, fixed=True
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
        "From the agents' utilities to the team's value: none, vdn, qmix, qplex, or"
        " your own as pkg.module:Class.",
        str,
        choices=("none", "vdn", "qmix", "qplex"),
        import_path=True,
        fixed=True,
    ),
    "mixer_kwargs": Field({}, "Arguments of your own mixer.", dict, fixed=True),
    "mixing_embed_dim": Field(
        32, "Width of the monotonic mixer.", int, low=1, high=MOST_WIDTH, fixed=True
    ),
    "hypernet_embed_dim": Field(
        64,
        "Width of the hypernetworks of qmix and qplex.",
        int,
        low=1,
        high=MOST_WIDTH,
        fixed=True,
    ),
    "qplex_heads": Field(
        4,
        "Heads of qplex's importance weights.",
        int,
        low=1,
        high=MOST_WIDTH,
        fixed=True,
    ),
    "qplex_lambda_layers": Field(
        1,
        "Layers of the networks behind those weights.",
        int,
        low=1,
        high=3,
        fixed=True,
    ),
    "joint_critic": Field(
        "none",
        "An unrestricted value of the joint action, from which targets come: QTRAN's"
        " (of the agents' features) or WQMIX's (with agents of its own).",
        str,
        choices=("none", "qtran", "wqmix"),
        fixed=True,
    ),
}

# Keys of the learning parts are theirs; this one follows a predicted risk level.
LEARNING_FIELDS: dict[str, Field] = {
    "risk_lr": Field(
        None,
        "Learning rate of the risk level predictor; null: lr.",
        float,
        low=0.0,
        low_open=True,
        high=MOST_RATE,
        optional=True,
    ),
}

DATASET_FIELDS: dict[str, Field] = {
    "dataset": Field(
        None,
        "Folder of a dataset (rllib record, rllib dataset) to learn from; {seed} in it"
        " stands for the run's seed. Nothing is sampled then, env serves evaluations"
        " only, and schedules count the env steps that were learned from.",
        str,
        optional=True,
        folder=True,
        fixed=True,
    ),
    "dataset_memory_mb": Field(
        1024,
        "Memory for its episodes. A dataset that does not fit is streamed through a"
        " window of this size.",
        int,
        low=1,
        unit="MiB",
    ),
    "updates_per_iteration": Field(
        1000, "Updates from a dataset between two results.", int, low=1, unit="updates"
    ),
}

VALUE_FIELDS: dict[str, Field] = (
    TEAM_FIELDS
    | COMPOSITION_FIELDS
    | LEARNING_FIELDS
    | VALUE_PARTS.fields()
    | DATASET_FIELDS
)


class ValueConfig(TeamConfig):
    """A composition of utilities, risk measure, mixer, critic, target and losses.

    Named algorithms are subclasses that set :attr:`overrides` and some :attr:`presets`.
    Any of them takes any key of :data:`VALUE_FIELDS`. GroupDR alone declares more keys
    and adds checks.
    """

    declared: ClassVar[dict[str, Field]] = VALUE_FIELDS

    @classmethod
    def own_fields(cls, values: Mapping[str, Any]) -> dict[str, Field]:
        """See TeamConfig."""
        named = {key: _texts(values.get(key)) for key in VALUE_PARTS.slots}
        try:
            return VALUE_PARTS.own_fields(named)
        except ValueError as error:
            raise ConfigError(f"{error}") from error

    def _usual(self, key: str) -> tuple[Any, Any]:
        """The values that a key may have where no part reads it.

        The first is what algorithm and preset give it, the second its declared default.
        """
        preset = self.presets[self.preset] if self.preset is not None else {}
        default = self.declared[key].default
        return preset.get(key, self.overrides.get(key, default)), default

    def forget_unused(self) -> None:
        """Resets keys that belong to parts that are not in use.

        Versions before 0.2 accepted them, and recorded all keys in checkpoints.
        """
        for key in VALUE_PARTS.unused(self):
            setattr(self, key, self._usual(key)[0])

    def _check_parts(self) -> None:
        """Refuses keys of parts that are not in use, and what the parts refuse."""
        for key, owner in VALUE_PARTS.unused(self).items():
            value = getattr(self, key)
            if not any(same_value(value, usual) for usual in self._usual(key)):
                raise ConfigError(
                    f"{key}: belongs to {owner}. Leave it out, or choose that part."
                )
        for message in VALUE_PARTS.refusals(self):
            raise ConfigError(message)

    def network_config(self) -> TeamNetworkConfig:
        """The part of the configuration that shapes the network."""
        names = (f.name for f in dataclasses.fields(TeamNetworkConfig))
        return TeamNetworkConfig(**{name: getattr(self, name) for name in names})

    def validate(self) -> None:
        """See TeamConfig; without an environment the dataset says what there is."""
        if self.dataset is not None and self.env is None:
            sizes = self.open_dataset().card.sizes
            self.observation_space, self.action_space = team_spaces(
                sizes.num_agents, sizes.num_actions, sizes.obs_size, sizes.state_size
            )
            # There is nowhere to play.
            self.evaluation_interval = 0
        if self.dataset is not None:
            # What an iteration is, updates_per_iteration says.
            self.min_sample_timesteps_per_iteration = 0
        super().validate()

    def open_dataset(self) -> Dataset:
        """The dataset that is learned from; there must be one.

        Returns:
            The dataset, its files looked at but not read.

        Raises:
            ConfigError: If it is none, or not whole.
        """
        if "{seed}" in self.dataset and self.seed is None:
            raise ConfigError("dataset: {seed} in it needs a seed; set seed.")
        try:
            return Dataset(self.dataset.replace("{seed}", str(self.seed)))
        except DatasetError as error:
            raise ConfigError(f"dataset: {error}.") from error

    def preflight(self) -> ReplayBound | None:
        """See TeamConfig; without an environment the dataset is looked at alone."""
        if self.env is None:
            if self.dataset is not None:
                self._check_network(self.open_dataset().card.sizes)
            return None
        bound = super().preflight()
        # Nothing is sampled beside a dataset, and dataset_memory_mb bounds that.
        return bound if self.dataset is None else None

    def check_dataset(self, env: TeamEnv | None) -> Dataset:
        """Opens the dataset and checks that it is of an environment.

        Args:
            env: The environment; None: there is none.

        Returns:
            The dataset.

        Raises:
            ConfigError: If it is of another one, or not whole.
        """
        dataset = self.open_dataset()
        card = dataset.card
        if env is None:
            return dataset
        if card.env is not None and card.env != self.env:
            raise ConfigError(
                f"dataset: {dataset.folder} is of env {card.env!r}, not {self.env!r}."
            )
        spec = env.spec_team
        sizes = team_sizes(env.observation_space, env.action_space)
        if sizes != card.sizes or spec.agents != card.agents:
            raise ConfigError(
                f"dataset: {dataset.folder} is of {_spelled(card.agents, card.sizes)},"
                f" and env {self.env!r} has {_spelled(spec.agents, sizes)}."
            )
        differing = _differences(card.env_config, self.env_config)
        if card.env is not None and differing:
            raise ConfigError(
                f"dataset: {dataset.folder} was recorded with another env_config"
                f" ({differing}). Set env_config as it was; another environment to"
                " evaluate in belongs into evaluation_config."
            )
        return dataset

    def _check_combinations(self) -> None:
        super()._check_combinations()
        self._check_parts()
        for key, field in self.all_fields().items():
            value = getattr(self, key)
            if isinstance(value, list) and float in field.types:
                low, high = field.low, field.high
                check_schedule(
                    key,
                    value,
                    low=-math.inf if low is None else low,
                    low_open=field.low_open,
                    high=math.inf if high is None else high,
                )
        problems = (
            *self._risk_problems(),
            *self._value_problems(),
            *self._quantile_problems(),
            *self._dataset_problems(),
        )
        for wrong, message in problems:
            if wrong:
                raise ConfigError(message)

    def _risk_problems(self) -> tuple[tuple[bool, str], ...]:
        measure = self.risk_measure
        own, dynamic = ":" in measure, self.risk_mode == "dynamic"
        return (
            (
                measure != "mean" and self.num_atoms == 1,
                f"risk_measure: {measure!r} of a single atom is that atom; set"
                " num_atoms above 1.",
            ),
            (
                dynamic and measure not in _LEVEL_MEASURES,
                f"risk_mode: 'dynamic' predicts the level of cvar or var, and"
                f" {measure!r} has none; set risk_measure: cvar, or risk_mode: static.",
            ),
            (
                dynamic and self.quantiles == "sampled",
                "risk_mode: 'dynamic' compares fixed atoms; set quantiles: fixed, or"
                " risk_mode: static.",
            ),
            (
                self.alpha != 1.0 and (dynamic or measure not in _LEVEL_MEASURES),
                "alpha: is the static level of cvar and var; it has no effect with"
                f" risk_measure: {measure} and risk_mode: {self.risk_mode}.",
            ),
            (
                measure == "var" and not dynamic and self.alpha == 1.0,
                "alpha: at level 1 var is the best atom of all; set alpha below 1.",
            ),
            (
                self.risk_parameter is not None and measure not in _PARAMETER_MEASURES,
                f"risk_parameter: belongs to {', '.join(_PARAMETER_MEASURES)};"
                f" {measure!r} has none.",
            ),
            (
                bool(self.risk_kwargs) and not own,
                "risk_kwargs: are for a risk_measure of your own (pkg.module:Class).",
            ),
            (
                self.cvar_mode == "exact" and self.cvar_norm != "count",
                "cvar_mode: 'exact' goes with cvar_norm 'count' only.",
            ),
            (
                (self.cvar_mode, self.cvar_norm) != ("ceil", "count")
                and (measure != "cvar" or self.quantiles == "sampled"),
                "cvar_norm, cvar_mode: are forms of cvar of fixed atoms; leave them at"
                " count and ceil.",
            ),
        )

    def _value_problems(self) -> tuple[tuple[bool, str], ...]:
        critic = self.joint_critic != "none"
        return (
            (
                bool(self.mixer_kwargs) and ":" not in self.mixer,
                "mixer_kwargs: are for a mixer of your own (pkg.module:Class).",
            ),
            (
                critic and self.mixer == "none",
                f"joint_critic: {self.joint_critic!r} teaches one value of the team,"
                " and mixer 'none' has one per agent; choose another mixer.",
            ),
        )

    def _quantile_problems(self) -> tuple[tuple[bool, str], ...]:
        return (
            (
                self.quantiles == "sampled" and self.num_atoms == 1,
                "num_atoms: must be above 1 for quantiles: sampled.",
            ),
        )

    def _dataset_problems(self) -> tuple[tuple[bool, str], ...]:
        offline = self.dataset is not None
        return (
            (
                offline and self.num_env_runners > 0,
                "num_env_runners: nobody samples where a dataset is learned from; set"
                " num_env_runners: 0.",
            ),
            (
                offline and bool(self.env_variants),
                "env_variants: are what is sampled in turn, and a dataset was sampled"
                " before; leave them out, or dataset.",
            ),
        )

    def _check_sampling(self) -> None:
        # Nothing is sampled from a dataset's environment, so what says how much to
        # sample first has nothing to agree with.
        if self.dataset is None:
            super()._check_sampling()

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the network fits an environment, by building it.

        Args:
            env: The environment.

        Raises:
            ConfigError: If a part needs a state that the environment does not have, or
                a part of the user's own cannot be built.
        """
        self._check_network(team_sizes(env.observation_space, env.action_space))
        # Evaluations may be in any other environment of this size.
        if self.dataset is not None and not self.in_evaluation:
            self.check_dataset(env)

    def _check_network(self, sizes: TeamSizes) -> None:
        self._check_network_memory(sizes)
        try:
            network = TeamNetwork(sizes, self.network_config())
            if self.quantiles == "sampled":
                network.risk.distort(torch.zeros(1))
            target = VALUE_PARTS.make("target", vars(self))
            if isinstance(target, DualTarget):
                target.make_dual(sizes, network.count_values())
        except NeedsStateError as error:
            without = _STATELESS[error.key]
            raise ConfigError(
                f"{error.key}: {error.part!r} needs a global state, and env"
                f" {self.env!r} has none. Give the environment a state() method, or set"
                " env_config: {state: concat_obs} to use the agents' observations side"
                f" by side, or choose {error.key}: {without}."
            ) from error
        except (TypeError, ValueError, RuntimeError, MemoryError) as error:
            cause = str(error).partition("\n")[0]
            raise ConfigError(f"The network cannot be built: {cause}") from error
        if network.joint_critic is not None and network.count_values() != 1:
            raise ConfigError(
                f"joint_critic: {self.joint_critic!r} teaches one value of the team,"
                f" and mixer {self.mixer!r} gives one per agent."
            )

    def _check_network_memory(self, sizes: TeamSizes) -> None:
        """Counts the parameters without making them."""
        try:
            with torch.device("meta"):
                network = TeamNetwork(sizes, self.network_config())
        except Exception:
            # A part of the user's own may not work on this device, which has no memory.
            # The real network is built next, and its errors are reported there.
            return
        # Online and target network, gradients, and the optimizer's moments.
        needed = 5 * sum(p.numel() * p.element_size() for p in network.parameters())
        room = machine_memory()
        if room is not None and needed > room:
            key = max(_WIDTHS, key=lambda name: getattr(self, name) or 0)
            raise ConfigError(
                f"{key}: with {getattr(self, key):,} learning the network takes"
                f" {spelled(needed)}, and this machine has {spelled(room)} of memory."
                " Lower it."
            )

    def _least_episodes(self) -> int:
        # Stretches are drawn with replacement.
        return 1 if self.sequence_length is not None else self.batch_size_episodes


def _texts(value: Any) -> list[str]:
    """All texts that a value, or a search space in its place, may be."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        value = ray_internals.listed_values(value) or ()
    return [text for part in value for text in _texts(part)]


def _spelled(agents: Sequence[str], sizes: TeamSizes) -> str:
    return (
        f"agents {', '.join(agents)} with {sizes.num_actions} actions, observations of"
        f" {sizes.obs_size} numbers and a state of {sizes.state_size}"
    )


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    keys = sorted({*theirs, *mine})
    return ", ".join(
        f"{key} {theirs.get(key, 'not set')!r} there, {mine.get(key, 'not set')!r} here"
        for key in keys
        if theirs.get(key) != mine.get(key)
    )
