"""Mean, CVaR and nested CVaR of trained teams, exact if possible, else sampled.

The numbers are exact in a tabular game. The usual episode loop plays the policy along
every outcome, in copies of the game with forced outcomes. The policy therefore gets the
same observations as in an evaluation. A feed-forward policy needs one node per step,
state and return so far. A recurrent policy needs one node per history. If there are
too many histories, or the env has no tables, episodes are sampled instead.

Letters: ``n`` histories, ``t`` steps, ``N`` agents, ``E`` episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import one_thread
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
        mean: Mean return.
        cvar: CVaR of the return at each level.
        nested: Nested CVaR at each level; None if the numbers are sampled.
    """

    label: str
    source: str
    how: str
    mean: Estimate
    cvar: tuple[Estimate, ...]
    nested: tuple[Estimate, ...] | None

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
        seed: Seed of these episodes. None: the seed of the training.

    Returns:
        The team's numbers.
    """
    reason = "no tables"
    if tables is not None:
        try:
            played = play_exactly(algorithm.team_policy, tables)
            return _exact(played, alphas, label, source)
        except TooManyNodesError:
            reason = "too many histories for exact numbers"
        except ActsAtRandomError:
            reason = "acts at random"
    result = algorithm.evaluate_episodes(episodes, seed=seed)
    returns = np.asarray(result["returns"], np.float64)
    return TeamRisk(
        label=label,
        source=source,
        how=f"{episodes:,} episodes ({reason})",
        mean=_sampled(returns, 1.0),
        cvar=tuple(_sampled(returns, alpha) for alpha in alphas),
        nested=None,
    )


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
    if network.agents[0].encoder.has_memory or network.level.predicted:
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
    played: PlayedPolicy, alphas: Sequence[float], label: str, source: str
) -> TeamRisk:
    def known(value: float) -> Estimate:
        return Estimate(value, value, value)

    return TeamRisk(
        label=label,
        source=source,
        how="exact",
        mean=known(played.returns.mean),
        cvar=tuple(known(played.returns.cvar(alpha)) for alpha in alphas),
        nested=tuple(known(played.nested(alpha)) for alpha in alphas),
    )


def _sampled(returns: FloatArray, alpha: float) -> Estimate:
    """CVaR of sampled returns ``[E]`` with a bootstrap interval; 1 is the mean."""
    return Estimate(cvar_of_returns(returns, alpha), *cvar_ci(returns, alpha))
