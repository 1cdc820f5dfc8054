"""The configuration of value-based algorithms: a composition of parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import MAX_WIDTH, ConfigError, Field
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.config_values import check_schedule
from rllib_risk.core.model import team_sizes
from rllib_risk.core.off_policy.estimates import MIN_EPISODES
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.dataset_split import Split, num_held_out, split_dataset
from rllib_risk.data.replay_memory import ReplayBound, machine_memory, spelled
from rllib_risk.data.rows import DatasetError
from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.env_wrappers.team_env import TeamEnv, team_spaces
from rllib_risk.parts import rigm
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.base import Composition
from rllib_risk.parts.replay import Replay
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork, network_keys
from rllib_risk.parts.trial import try_dual_target, try_own_parts

# Alternatives that work without a global state, by key.
_STATELESS = {"mixer": "vdn", "joint_critic": "none", "target": "contamination"}
# The keys of the parts, without those that all teams have.
COMPOSITION_FIELDS: dict[str, Field] = {
    key: field
    for key, field in (fields_of(NetworkOptions) | VALUE_PARTS.fields()).items()
    if key not in TEAM_FIELDS
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
    "dataset_holdout": Field(
        0.0,
        "Share of its episodes that is held out: they are not learned from, but results"
        " also say what the policy makes of them. The seed chooses them.",
        float,
        low=0.0,
        high=0.9,
        fixed=True,
    ),
    "dataset_top_share": Field(
        1.0,
        "Share of its episodes that are learned from, those of the highest return; of"
        " what dataset_holdout leaves.",
        float,
        low=0.0,
        low_open=True,
        high=1.0,
        fixed=True,
    ),
    "updates_per_iteration": Field(
        1000, "Updates from a dataset between two results.", int, low=1, unit="updates"
    ),
    "off_policy_interval": Field(
        0,
        "Iterations between two estimates of the policy's return from the held-out"
        " episodes (fitted Q evaluation; needs dataset_holdout). 0: no estimates. In a"
        " run without env the best checkpoint is the one of the highest estimate.",
        int,
        low=0,
        unit="iterations",
    ),
}

VALUE_FIELDS: dict[str, Field] = TEAM_FIELDS | COMPOSITION_FIELDS | DATASET_FIELDS


class ValueConfig(TeamConfig):
    """A composition of utilities, risk measure, mixer, critic, target and losses.

    Named algorithms are subclasses that set :attr:`overrides` and some :attr:`presets`.
    Any of them takes any key of :data:`VALUE_FIELDS`. GroupDR alone declares more keys
    and adds checks.
    """

    declared: ClassVar[dict[str, Field]] = VALUE_FIELDS

    composition: ClassVar[Composition] = VALUE_PARTS

    def validate(self) -> None:
        """See TeamConfig. Without an environment, the dataset gives the spaces."""
        if self.dataset is not None and self.env is None:
            sizes = self.open_dataset().card.sizes
            self.observation_space, self.action_space = team_spaces(sizes)
            # Evaluations need an environment.
            self.evaluation_interval = 0
        if self.dataset is not None:
            # `updates_per_iteration` sets the length of an iteration.
            self.min_sample_timesteps_per_iteration = 0
        super().validate()

    def remarks(self) -> list[str]:
        """See TeamConfig."""
        return [*super().remarks(), *rigm.remarks(self)]

    def open_dataset(self) -> Dataset:
        """Opens the dataset to learn from; the key ``dataset`` must be set.

        Returns:
            The dataset. Only the headers of its files were read.

        Raises:
            ConfigError: If the folder is no dataset, is incomplete, or needs a seed
                that is not set.
        """
        if "{seed}" in self.dataset and self.seed is None:
            raise ConfigError("dataset: {seed} in it needs a seed; set seed.")
        try:
            return Dataset(self.dataset.replace("{seed}", str(self.seed)))
        except DatasetError as error:
            raise ConfigError(f"dataset: {error}.") from error

    def split(self, dataset: Dataset) -> Split:
        """Splits the dataset into episodes to learn from and held-out episodes.

        Args:
            dataset: Dataset from :meth:`open_dataset`.

        Returns:
            The split.

        Raises:
            ConfigError: If the only episode would be held out, or the dataset is
                damaged.
        """
        try:
            return split_dataset(
                dataset, self.seed, self.dataset_holdout, self.dataset_top_share
            )
        except DatasetError as error:
            raise ConfigError(f"dataset_holdout: {error}.") from error

    def preflight(self) -> ReplayBound | None:
        """See TeamConfig. Without an environment, only the dataset is checked."""
        if self.env is None:
            if self.dataset is not None:
                self._check_network(self.check_dataset(None).card.sizes)
            return None
        bound = super().preflight()
        # With a dataset nothing is sampled, and dataset_memory_mb bounds its memory.
        return bound if self.dataset is None else None

    def check_dataset(self, env: TeamEnv | None) -> Dataset:
        """Opens the dataset and checks that it comes from an environment.

        Args:
            env: The environment. None: it is not compared.

        Returns:
            The dataset.

        Raises:
            ConfigError: If the dataset comes from another environment, is incomplete,
                or holds out too few episodes for ``off_policy_interval``.
        """
        dataset = self.open_dataset()
        card = dataset.card
        held_out = num_held_out(card.num_episodes, self.dataset_holdout)
        if self.off_policy_interval and held_out < MIN_EPISODES:
            raise ConfigError(
                f"off_policy_interval: an estimate needs {MIN_EPISODES} held-out"
                f" episodes, and dataset_holdout: {self.dataset_holdout:g} holds"
                f" {held_out} of {card.num_episodes} out; raise dataset_holdout."
            )
        if env is None:
            return dataset
        if card.env is not None and card.env != self.env:
            raise ConfigError(
                f"dataset: the env of {dataset.folder} is {card.env!r}, not"
                f" {self.env!r}."
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

    def _check_parts(self) -> None:
        objective = self.composition.part("objective", self)
        for key, (usual, value) in objective.implied(self).items():
            if getattr(self, key) == usual:
                setattr(self, key, value)
        super()._check_parts()

    def _check_combinations(self) -> None:
        super()._check_combinations()
        for key, field in self.all_fields().items():
            value = getattr(self, key)
            if isinstance(value, list) and float in field.types:
                check_schedule(key, value, field)
        for wrong, message in self._dataset_problems():
            if wrong:
                raise ConfigError(message)

    def _dataset_problems(self) -> tuple[tuple[bool, str], ...]:
        offline = self.dataset is not None
        parts = self.dataset_holdout > 0.0 or self.dataset_top_share < 1.0
        return (
            (
                not offline and parts,
                "dataset_holdout, dataset_top_share: are shares of a dataset's"
                " episodes; set dataset, or leave them out.",
            ),
            (
                self.off_policy_interval > 0
                and (not offline or self.dataset_holdout == 0.0),
                "off_policy_interval: estimates are made from the held-out episodes of"
                " a dataset; set dataset and dataset_holdout, or leave it out.",
            ),
            (
                self.off_policy_interval > 0
                and self.composition.part("objective", self).sees_return,
                "off_policy_interval: estimates are of the mean return, and objective"
                f" {self.objective!r} chooses its threshold by playing; leave it out.",
            ),
            (
                offline and self.num_env_runners > 0,
                "num_env_runners: a run that learns from a dataset samples nothing; set"
                " num_env_runners: 0.",
            ),
            (
                offline and bool(self.env_variants),
                "env_variants: are what is sampled in turn, and a dataset was sampled"
                " before; leave them out, or dataset.",
            ),
            (
                offline and self.update_interval_env_steps is not None,
                "update_interval_env_steps: counts steps that are played, and with a"
                " dataset none are; leave it out.",
            ),
        )

    def _check_sampling(self) -> None:
        # With a dataset nothing is sampled, so the keys of sampling need not agree.
        if self.dataset is None:
            super()._check_sampling()

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the network fits an environment, by building it.

        Args:
            env: The environment.

        Raises:
            ConfigError: If a part needs a state that the environment does not have, a
                custom part cannot be built, or the dataset does not fit.
        """
        self._check_network(team_sizes(env.observation_space, env.action_space))
        # Evaluations may use any other environment of this size.
        if self.dataset is not None and not self.in_evaluation:
            self.check_dataset(env)

    def _check_network(self, sizes: TeamSizes) -> None:
        self._check_network_memory(sizes)
        try:
            network = TeamNetwork(sizes, vars(self))
            try_dual_target(network, vars(self))
        except NeedsStateError as error:
            without = f"{error.key}: {_STATELESS[error.key]}"
            if error.key == "target" and VALUE_PARTS.part("target", self).nested:
                without = "objective: static"
            raise ConfigError(
                f"{error.key}: {getattr(self, error.key)!r} needs a global state, and"
                f" env {self.env!r} has none. Give the environment a state() method, or"
                " set env_config: {state: concat_obs} to use the agents' observations"
                f" side by side, or choose {without}."
            ) from error
        except Exception as error:  # a custom part may fail in any way
            cause = str(error).partition("\n")[0]
            if not isinstance(error, (ValueError, RuntimeError, MemoryError)):
                cause = f"{type(error).__name__}: {cause}"
            raise ConfigError(f"The network cannot be built: {cause}") from error
        mixes = VALUE_PARTS.part("loss", self).mixes
        one_value = network.count_values() == 1 or not mixes
        if network.joint_critic is not None and not one_value:
            raise ConfigError(
                f"joint_critic: {self.joint_critic!r} teaches one value of the team,"
                f" and mixer {self.mixer!r} gives one per agent."
            )
        if self.in_evaluation:
            return
        try:
            try_own_parts(network, vars(self))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _check_network_memory(self, sizes: TeamSizes) -> None:
        """Refuses a network that does not fit in memory, without creating it."""
        try:
            with torch.device("meta"):
                network = TeamNetwork(sizes, vars(self))
        except Exception:
            # A custom part may not work on this device, which has no memory. The real
            # network is built next, and its errors are reported there.
            return
        # Online and target network, gradients, and the optimizer's moments.
        needed = 5 * sum(p.numel() * p.element_size() for p in network.parameters())
        room = machine_memory()
        if room is not None and needed > room:
            keys = [
                key
                for key, field in self.all_fields().items()
                if field.high == MAX_WIDTH and key in network_keys(vars(self))
            ]
            key = max(keys, key=lambda name: getattr(self, name) or 0)
            raise ConfigError(
                f"{key}: with {getattr(self, key):,} learning the network takes"
                f" {spelled(needed)}, and this machine has {spelled(room)} of memory."
                " Lower it."
            )

    def split_refusals(self) -> Iterator[str]:
        """See TeamConfig."""
        if not self.composition.part("loss", self).splits:
            yield (
                f"num_learners: loss {self.loss!r} weighs each episode by all others of"
                " the batch, so that a part of a batch has another gradient. Set"
                " num_learners: 0, or another loss."
            )
        replay = self.composition.part("replay", self)
        if replay.learned is not Replay.learned:
            yield (
                f"num_learners: replay {self.replay!r} looks at the whole batch within"
                " an update (its method learned), and each learner has a part of it."
                " Set num_learners: 0, or another replay."
            )

    @property
    def stored_episodes(self) -> int:
        """See TeamConfig."""
        return self.composition.part("replay", self).stored_episodes(self)

    def _least_episodes(self) -> int:
        # Sequences are drawn with replacement.
        return 1 if self.sequence_length is not None else self.batch_size_episodes


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
