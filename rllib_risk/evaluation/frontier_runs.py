"""Mean, CVaR and nested CVaR of trained teams, exact if possible, else sampled.

The numbers are exact in a tabular game. The usual episode loop plays the policy along
every outcome, in copies of the game with forced outcomes. The policy therefore gets the
same observations as in an evaluation. A feed-forward policy needs one node per step,
state and return so far. A recurrent policy, and a policy that reads a discounted return
so far, need one node per history. If there are too many histories, or the env has no
tables, episodes are sampled instead. With objective ``static`` the team plays each risk
level with the threshold that is chosen for it.

Letters: ``n`` histories, ``t`` steps, ``N`` agents, ``E`` episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import one_thread
from rllib_risk.core.thresholds import choose_threshold
from rllib_risk.env_wrappers.episode_loop import (
    EpisodeLimits,
    EpisodeLoop,
    EpisodeObserver,
)
from rllib_risk.env_wrappers.game_tables import ForcedEnvs, GameTables
from rllib_risk.ops.return_distribution import (
    MAX_NODES,
    Histories,
    Memory,
    PlayedPolicy,
    TooManyNodesError,
    play_out,
)
from rllib_risk.ops.robust_mdp import Integers
from rllib_risk.ops.statistics import FloatArray, cvar_ci, cvar_of_returns
from rllib_risk.parts.objectives.static import Static

# Maximum number of histories of one step for a recurrent policy. Each of them is played
# from the start at every step.
MAX_HISTORIES = 5_000
# Maximum number of copies of the game that are played at once.
_MAX_COPIES = 1024


class ActsAtRandomError(Exception):
    """Raised if a policy takes different actions after the same history."""


@dataclass(frozen=True)
class Estimate:
    """A number, with a 95 % interval if it is sampled.

    Attributes:
        value: The number.
        low: Lower end of the interval; ``value`` if it is exact.
        high: Upper end of the interval; ``value`` if it is exact.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TeamRisk:
    """Mean, CVaR and nested CVaR of a trained team.

    Attributes:
        label: Name of the team in figure and table.
        source: Folder of its checkpoint.
        how: "exact", or the number of sampled episodes and the reason for sampling.
        mean: Mean return at each level. The levels differ only with objective
            ``static``, which plays each level with a threshold of its own.
        cvar: CVaR of the return at each level.
        nested: Nested CVaR at each level; None if the numbers are sampled.
        thresholds: Threshold at each level; None without objective ``static``.
    """

    label: str
    source: str
    how: str
    mean: tuple[Estimate, ...]
    cvar: tuple[Estimate, ...]
    nested: tuple[Estimate, ...] | None
    thresholds: tuple[float, ...] | None = None

    @property
    def exact(self) -> bool:
        """Whether the numbers are exact."""
        return self.nested is not None


def team_risk(
    algorithm: TeamAlgorithm,
    tables: GameTables | None,
    alphas: Sequence[float],
    *,
    label: str,
    source: str,
    episodes: int,
    seed: int | None,
) -> TeamRisk:
    """Evaluates the greedy policy of a trained team.

    Args:
        algorithm: The team.
        tables: Tables of its game; None if the env has none.
        alphas: Risk levels.
        label: Name of the team.
        source: Folder of its checkpoint.
        episodes: Number of episodes to sample if exact numbers are not possible.
        seed: Seed of these episodes and of those that choose thresholds. None: the seed
            of the training.

    Returns:
        The team's numbers.
    """
    seed = algorithm.config.seed if seed is None else seed
    levels: Sequence[float | None] = [None] * len(alphas)
    if isinstance(algorithm.team_policy.network.objective, Static):
        levels = alphas
    reason = "no tables"
    if tables is not None:
        try:
            return _exact(algorithm, tables, alphas, levels, label, source, seed)
        except TooManyNodesError:
            reason = "too many histories for exact numbers"
        except ActsAtRandomError:
            reason = "acts at random"
    how = f"{episodes:,} episodes ({reason})"
    return _sampled(algorithm, alphas, levels, label, source, seed, episodes, how)


@one_thread()
def play_exactly(policy: TeamPolicy, tables: GameTables) -> PlayedPolicy:
    """Plays a trained team along every outcome of a game.

    Args:
        policy: The team, which acts greedily.
        tables: The game.

    Returns:
        The distribution of the return and the tree of outcomes.

    Raises:
        TooManyNodesError: If there are too many histories.
        ActsAtRandomError: If the policy is not deterministic.
    """

    def act(histories: Histories) -> Integers:
        count = len(histories.returns)
        parts = np.array_split(np.arange(count), -(-count // _MAX_COPIES))
        return np.concatenate([_act(policy, tables, histories, rows) for rows in parts])

    memory = memory_of(policy)
    return play_out(
        tables.mdp,
        act,
        step_limit=tables.step_limit,
        memory=memory,
        max_nodes=MAX_HISTORIES if memory == "history" else MAX_NODES,
    )


def memory_of(policy: TeamPolicy) -> Memory:
    """Determines what a policy depends on besides observation and return so far.

    Args:
        policy: The policy.
    """
    network = policy.network
    discounted = network.objective.sees_return and policy.config["gamma"] != 1.0
    if discounted or network.agents[0].encoder.has_memory or network.level.predicted:
        return "history"
    return "last_action" if network.options.obs_last_action else "none"


def _act(
    policy: TeamPolicy, tables: GameTables, histories: Histories, rows: Integers
) -> Integers:
    """Computes the joint actions after some of the histories, ``[n]``."""
    replay = _Replay(tables, histories.actions[rows])
    envs = ForcedEnvs(tables, histories.outcomes[rows])
    EpisodeLoop(
        envs,
        PolicyPlayer(policy, len(rows)),
        np.zeros(len(rows), np.int64),
        np.random.default_rng(0),
        EpisodeLimits(),
        replay,
    ).play()
    return replay.chosen


class _Replay(EpisodeObserver):
    """Follows known histories, then records the team's next joint actions.

    Attributes:
        chosen: The joint actions after the histories, int64 ``[n]``.
    """

    def __init__(self, tables: GameTables, actions: Integers) -> None:
        self._tables = tables
        self._actions = actions  # [n, t]
        self.chosen = np.zeros(len(actions), np.int64)

    def acted(
        self, loop: EpisodeLoop, actions: np.ndarray, levels: np.ndarray | float
    ) -> None:
        step = int(loop.time[0])
        joint = self._tables.joint(actions)
        if step == self._actions.shape[1]:
            self.chosen = joint
            loop.stop()
        elif (joint != self._actions[:, step]).any():
            raise ActsAtRandomError


def _exact(
    algorithm: TeamAlgorithm,
    tables: GameTables,
    alphas: Sequence[float],
    levels: Sequence[float | None],
    label: str,
    source: str,
    seed: int,
) -> TeamRisk:
    """Plays every outcome, once for each threshold."""
    played: dict[float | None, PlayedPolicy] = {}
    chosen: list[float | None] = []
    for level in levels:
        choice = None if level is None else choose_threshold(algorithm, seed, level)
        chosen.append(None if choice is None else choice.threshold)
        if chosen[-1] not in played:
            played[chosen[-1]] = play_exactly(algorithm.team_policy, tables)
    plays = [played[threshold] for threshold in chosen]
    each = list(zip(plays, alphas, strict=True))
    return TeamRisk(
        label=label,
        source=source,
        how="exact",
        mean=_known(play.returns.mean for play in plays),
        cvar=_known(play.returns.cvar(alpha) for play, alpha in each),
        nested=_known(play.nested(alpha) for play, alpha in each),
        thresholds=_all_or_none(chosen),
    )


def _sampled(
    algorithm: TeamAlgorithm,
    alphas: Sequence[float],
    levels: Sequence[float | None],
    label: str,
    source: str,
    seed: int,
    episodes: int,
    how: str,
) -> TeamRisk:
    """Plays greedy episodes, once for each level of objective ``static``."""
    results: dict[float | None, dict[str, Any]] = {}
    for level in levels:
        if level not in results:
            results[level] = algorithm.evaluate_episodes(
                episodes, seed=seed, alpha=level
            )
    returns = [np.asarray(results[level]["returns"], np.float64) for level in levels]
    return TeamRisk(
        label=label,
        source=source,
        how=how,
        mean=tuple(_estimate(values, 1.0) for values in returns),
        cvar=tuple(map(_estimate, returns, alphas)),
        nested=None,
        thresholds=_all_or_none([results[level].get("threshold") for level in levels]),
    )


def _known(values: Iterable[float]) -> tuple[Estimate, ...]:
    return tuple(Estimate(value, value, value) for value in values)


def _all_or_none(thresholds: Sequence[float | None]) -> tuple[float, ...] | None:
    there = tuple(number for number in thresholds if number is not None)
    return there or None


def _estimate(returns: FloatArray, alpha: float) -> Estimate:
    """CVaR of sampled returns ``[E]`` with a bootstrap interval; 1 is the mean."""
    return Estimate(cvar_of_returns(returns, alpha), *cvar_ci(returns, alpha))
