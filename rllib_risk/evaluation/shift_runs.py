"""Plays all cells of a grid of environments at once.

One batch contains every cell, so the network makes one forward pass per step for any
number of cells. A grid has thousands of long episodes. Only their returns, lengths and
metrics are kept, not their observations.

Letters: ``C`` cells, ``R`` episodes per cell, ``E`` slots, ``N`` agents, ``A`` actions,
``D`` observation size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ray.rllib.env.env_context import EnvContext

from rllib_risk.config.schema import ConfigError
from rllib_risk.config.shift_grid import ShiftGrid, apply_settings
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.envs import make_batched_env, scripted_policies, start_env
from rllib_risk.core.players import PolicyPlayer, ScriptedPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import evaluation_seed, limits_of, one_thread
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.episode_loop import (
    EpisodeLoop,
    EpisodeObserver,
    Player,
    numbers_of,
)
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvError
from rllib_risk.env_wrappers.joined_envs import (
    VARIANT,
    JoinedTeamEnvs,
    spec_difference,
)
from rllib_risk.env_wrappers.registry import ENVS
from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.env_wrappers.team_env import BatchedStep, LoopedTeamEnvs

# Seed words of separate random streams; the rollout worker uses 1 and 2.
_RETRY_STREAM, _SCRIPTED_STREAM = 3, 4
# Maximum number of slots in a batch of a vectorised environment. More slots cost memory
# and add no speed.
MAX_SLOTS = 4096


@dataclass(frozen=True)
class CellEpisodes:
    """Returns, lengths and metrics of the episodes of a grid.

    Attributes:
        returns: Undiscounted returns, float64 ``[C, R]``.
        lengths: Lengths in env steps, int64 ``[C, R]``.
        metrics: Numbers that the environment reported at the end of every episode,
            float64 ``[C, R]`` each.
        crashes: Number of episodes that crashed and were repeated with another seed.
    """

    returns: np.ndarray
    lengths: np.ndarray
    metrics: dict[str, np.ndarray]
    crashes: int


# Creates the player of a batch, given the grid index of the batch's first cell.
MakePlayer = Callable[[JoinedTeamEnvs, int], Player]


def cell_configs(
    config: TeamConfig, grid: ShiftGrid, expected: TeamSpec
) -> list[TeamConfig]:
    """Builds the configuration of every cell and starts each environment once.

    Args:
        config: Configuration of the checkpoint; its ``evaluation_config`` applies.
        grid: The grid.
        expected: The team that the policy was trained for. The global state is not
            compared, because policies do not read it. Environments of this package are
            created without it, so maps of another size can be played.

    Returns:
        One configuration per cell.

    Raises:
        ConfigError: If a cell's environment cannot be created or does not fit the
            policy. The message names the cell's line in the grid file.
    """
    if config.evaluation_config:
        config = config.get_evaluation_config_object()
    configs = []
    for index, cell in enumerate(grid.cells):
        own = config.copy(copy_frozen=False)
        own.env_variants = []
        with _located(grid, index):
            own.env_config = apply_settings(config.env_config, cell.settings)
            if config.env in ENVS:
                own.env_config["state"] = "none"
            env = start_env(own)
            found = env.spec_team
            env.close()
        difference = spec_difference(_without_state(expected), _without_state(found))
        if difference:
            raise grid.error(
                index,
                f"does not fit the checkpoint: {difference}. A policy can act only in"
                " environments of the sizes that it was trained with.",
            )
        configs.append(own)
    return configs


def play_policy(
    configs: Sequence[TeamConfig], policy: TeamPolicy, num_episodes: int, seed: int
) -> CellEpisodes:
    """Plays all cells with a trained policy, greedily.

    Args:
        configs: Configurations of the cells; see :func:`cell_configs`.
        policy: The policy.
        num_episodes: Number of episodes per cell, ``R``.
        seed: Seed of the evaluation. Episode ``r`` has the same environment seed in
            every cell, for every policy, and in ``rllib evaluate``.

    Returns:
        The episodes.

    Raises:
        EnvFailedError: If an environment fails too often; see ``max_env_restarts``.
        NonFiniteError: If an environment returns NaN that must not be skipped.
    """
    return play(
        configs, lambda envs, _: PolicyPlayer(policy, envs.num_envs), num_episodes, seed
    )


def play_references(
    configs: Sequence[TeamConfig], num_episodes: int, seed: int
) -> Iterator[tuple[str, CellEpisodes]]:
    """Plays all cells with the scripted policies of the environment.

    Args:
        configs: See :func:`play_policy`.
        num_episodes: See :func:`play_policy`.
        seed: See :func:`play_policy`.

    Yields:
        Name and episodes of each policy that all cells have.
    """
    of_cells = [scripted_policies(config) for config in configs]
    for name in of_cells[0]:
        if not all(name in policies for policies in of_cells):
            continue
        policies = [own[name] for own in of_cells]
        rng = np.random.default_rng((seed, _SCRIPTED_STREAM))

        def player(
            envs: JoinedTeamEnvs,
            first: int,
            policies: list[ScriptedPolicy] = policies,
            rng: np.random.Generator = rng,
        ) -> Player:
            mine = policies[first : first + len(envs.parts)]
            ends = np.searchsorted(envs.part_of, np.arange(1, len(mine)))
            return ScriptedPlayer(mine, ends, rng)

        yield name, play(configs, player, num_episodes, seed)


def _without_state(spec: TeamSpec) -> TeamSpec:
    return replace(spec, state_size=0, episode_limit=None)


@contextlib.contextmanager
def _located(grid: ShiftGrid, index: int) -> Iterator[None]:
    """Adds the cell's place in the grid file to errors."""
    try:
        yield
    except (ConfigError, EnvConfigError, EnvError) as error:
        raise grid.error(index, str(error)) from error


@one_thread()
def play(
    configs: Sequence[TeamConfig],
    make_player: MakePlayer,
    num_episodes: int,
    seed: int,
) -> CellEpisodes:
    """Plays all cells with any player, in several batches if one is too small.

    Args:
        configs: See :func:`play_policy`.
        make_player: Creates the player of a batch, given its environments and the grid
            index of its first cell.
        num_episodes: See :func:`play_policy`.
        seed: See :func:`play_policy`.

    Returns:
        The episodes.

    Raises:
        EnvFailedError: See :func:`play_policy`.
        NonFiniteError: See :func:`play_policy`.
    """
    seeds = np.array([evaluation_seed(seed, index) for index in range(num_episodes)])
    rng = np.random.default_rng((seed, _RETRY_STREAM))
    played: list[CellEpisodes] = []
    first = 0
    while first < len(configs):
        with _batch(configs[first:], num_episodes) as envs:
            cells = _Cells(envs, num_episodes)
            player, limits = make_player(envs, first), limits_of(configs[first])
            # An episode belongs to a cell, so each cell has its own queue.
            loop = EpisodeLoop(envs, player, seeds, rng, limits, cells, envs.part_of)
            loop.play()
            played.append(cells.episodes(loop.crashes))
            first += len(envs.parts)
    names = set.intersection(*(set(batch.metrics) for batch in played))
    return CellEpisodes(
        returns=np.concatenate([batch.returns for batch in played]),
        lengths=np.concatenate([batch.lengths for batch in played]),
        metrics={
            name: np.concatenate([batch.metrics[name] for batch in played])
            for name in sorted(names)
        },
        crashes=sum(batch.crashes for batch in played),
    )


@contextlib.contextmanager
def _batch(
    configs: Sequence[TeamConfig], num_episodes: int
) -> Iterator[JoinedTeamEnvs]:
    """Builds one batch with as many cells as it can hold.

    Args:
        configs: Configurations of the remaining cells, at least one.
        num_episodes: Number of episodes per cell.

    Yields:
        The environments of the first cells, with the same number of slots per cell.
        They are closed afterwards.
    """
    most = MAX_SLOTS
    with contextlib.ExitStack() as built:
        parts: list[Any] = []
        number = slots = 1
        while len(parts) < number:
            config = configs[len(parts)]
            context = EnvContext(config.env_config, worker_index=0)
            part = make_batched_env(config, slots, context)
            if not parts:
                # The first environment shows whether it is vectorised. A loop may run
                # expensive simulators, so start at most as many as in training.
                if isinstance(part, LoopedTeamEnvs):
                    most = config.num_envs_per_env_runner
                number = min(len(configs), most)
                slots = min(num_episodes, max(1, most // number))
                if slots > 1:
                    part.close()
                    part = make_batched_env(config, slots, context)
            built.callback(part.close)
            parts.append(part)
        yield JoinedTeamEnvs(parts)


class _Cells(EpisodeObserver):
    """Records returns, lengths and metrics of the episodes of one batch."""

    def __init__(self, envs: JoinedTeamEnvs, num_episodes: int) -> None:
        shape = (len(envs.parts), num_episodes)
        self._returns = np.zeros(shape)
        self._lengths = np.zeros(shape, np.int64)
        self._metrics: dict[str, np.ndarray] = {}
        self._totals = np.zeros(envs.num_envs)  # of the running episodes, float64

    def started(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        self._totals[slots] = 0.0

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        self._totals += step.rewards

    def ended(self, loop: EpisodeLoop, slot: int, step: BatchedStep) -> None:
        at = loop.queue_of[slot], loop.playing[slot]
        self._returns[at] = self._totals[slot]
        self._lengths[at] = loop.time[slot]
        for key, value in numbers_of(step.infos[slot]).items():
            if key == VARIANT:
                continue
            if key not in self._metrics:
                self._metrics[key] = np.full(self._returns.shape, np.nan)
            self._metrics[key][at] = value

    def episodes(self, crashes: int) -> CellEpisodes:
        """Returns the episodes, with the metrics that all of them have."""
        whole = {k: v for k, v in self._metrics.items() if not np.isnan(v).any()}
        return CellEpisodes(self._returns, self._lengths, whole, crashes)
