"""Small Markov games from tables, whose robust optimum is known.

Two problems are built in. In both, two carriers stand at a fork, each with a load. Each
takes the road (0) or the bridge (1). The road pays 5 for the load at once. The bridge
pays 7 one step later, unless it breaks while carriers are on it. It breaks with
probability f (`failure_probability`, 0.1 in training). The carriers on it then fall
into the river, where all rewards are 0. No reward is below 0, so 0 is the true value of
failing, and `v_min: 0` meets the assumption of robust targets.

With discount g and rho as the size of the uncertainty set, the values at the fork are

    both by road                10                          10
    both by bridge, plain       g (1 - f) 14                11.97
    ... contamination           g (1 - rho) (1 - f) 14       8.379
    ... total variation         g (1 - rho - f) 14           7.98

where the numbers are for g = 0.95, f = 0.1, rho = 0.3. So the plain optimum is the
bridge, and both robust optima are the road. The road is best from rho =
1 - 10 / 11.97 = 0.165 under contamination, and from 0.9 - 10 / 13.3 = 0.148 under total
variation. Without a discount, the return of the road is 10 for every f, and that of the
bridge is 14 (1 - f): 12.6 as trained, 7 at f = 0.5. The worst kernels of the two sets
break the bridge with probability f + rho (1 - f) = 0.37 and f + rho = 0.4. At these
probabilities, the plain value of the bridge equals its robust value.

The bridge pays later for a reason. With v_min 0, contamination only changes the
discount to g (1 - rho), so it separates two plans only if they pay at different times.

* shortcut: the loads are independent, except that the bridge holds for both or breaks
  under both. Going different ways pays 5 at the fork and then 7 on the bridge, half of
  each of the numbers above. All values, plain and robust, are sums of one term per
  agent (5 by road; 5.985, 4.1895 or 3.99 by bridge), so every mixer can be exact.
* convoy: only two carriers together can cross the bridge. A carrier who goes there
  alone turns back with reward 0, so going different ways pays 5 in all. Here the agents
  must agree, and the values are neither a sum nor monotonic. A sum or QMIX can find the
  best joint action, but not all values; QTRAN, QPLEX and the weighted QMIX can.

With `over: transition` (the worst case also covers the reward), the robust values are
0.7 of 10 and of 8.379, and for total variation 0.7 * 0.6 * 13.3 = 5.586. Their order is
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame
from rllib_risk.ops.robust_mdp import TabularMDP

PROBLEMS = ("shortcut", "convoy")
NOMINAL_FAILURE = 0.1

FORK, ONE_OVER, BOTH_OVER, RIVER, END = range(5)
ROAD, BRIDGE = range(2)
ROAD_PAYS, BRIDGE_PAYS = 5.0, 7.0


@dataclass(frozen=True)
class Tables:
    """The rules of a game of N agents.

    Attributes:
        transitions: Probability of every next state, float64 [S, A_0 .. A_{N-1}, S].
        rewards: Team reward of every transition, float64, same shape.
        terminal: States that end the episode on arrival, bool [S].
        start: State in which an episode starts.
    """

    transitions: np.ndarray
    rewards: np.ndarray
    terminal: np.ndarray
    start: int


class TabularGame(TeamGame):
    """A fully observed Markov game from tables.

    The observation of every agent and the state are the one-hot state [S]. The info is
    empty.

    Attributes:
        tables: The game.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "tabular", "render_modes": []}

    def __init__(
        self,
        problem: str | None = None,
        failure_probability: float | None = None,
        transitions: Sequence[Any] | None = None,
        rewards: Sequence[Any] | None = None,
        terminal_states: Sequence[int] = (),
        start_state: int = 0,
        episode_limit: int = 100,
    ) -> None:
        """Reads the tables.

        Args:
            problem: "shortcut" or "convoy"; None: "shortcut", unless tables are given.
            failure_probability: Probability in [0, 1] that the bridge of these problems
                breaks; 0.1 if None.
            transitions: Your own table instead of a problem: nested lists with one
                level for the state, one for the action of each agent, and one for the
                next state. `transitions[s][u_0][u_1]...[s']` is a probability.
            rewards: Team rewards for your own table, with the same levels; the last
                level is optional: `rewards[s][u_0][u_1]...`
            terminal_states: States of your own table that end the episode.
            start_state: State of your own table in which episodes start.
            episode_limit: Steps after which the episode is truncated.

        Raises:
            EnvConfigError: If a name is unknown or the tables are not a game.
        """
        if transitions is None and rewards is None:
            if terminal_states or start_state:
                raise EnvConfigError(
                    "terminal_states and start_state need your own tables: give "
                    "transitions and rewards too"
                )
            problem = "shortcut" if problem is None else problem
            if failure_probability is None:
                failure_probability = NOMINAL_FAILURE
            self.tables = _problem(problem, failure_probability)
        else:
            if problem is not None or failure_probability is not None:
                raise EnvConfigError(
                    "a problem and your own tables are given: give either problem and "
                    "failure_probability, or transitions and rewards"
                )
            self.tables = _own_tables(
                transitions, rewards, terminal_states, start_state
            )
        if (
            isinstance(episode_limit, bool)
            or not isinstance(episode_limit, int)
            or episode_limit < 1
        ):
            raise EnvConfigError(
                f"episode_limit must be a positive integer, not {episode_limit!r}"
            )
        num_states, *num_actions, _ = self.tables.transitions.shape
        one_hot = spaces.Box(0.0, 1.0, (num_states,), np.float32)
        super().__init__(
            len(num_actions), list(num_actions), one_hot, num_states, episode_limit
        )
        self._state = self.tables.start
        self._steps = 0

    @staticmethod
    def joint_mdp(**env_config: Any) -> TabularMDP:
        """The game as tables over joint actions, for exact values.

        Args:
            **env_config: Arguments of this class.

        Returns:
            Tables with one outcome per next state. Joint actions are numbered in C
            order: the last agent's action changes fastest. The tables do not contain
            the time limit.
        """
        tables = TabularGame(**env_config).tables
        num_states = len(tables.transitions)
        shape = (num_states, -1, num_states)
        probabilities = tables.transitions.reshape(shape)  # [S, A, S]
        next_states = np.broadcast_to(np.arange(num_states), probabilities.shape)
        return TabularMDP(
            next_states=next_states.copy(),
            probabilities=probabilities,
            rewards=tables.rewards.reshape(shape),
            terminals=tables.terminal[next_states],
            start=tables.start,
        )

    @staticmethod
    def joint_views(**env_config: Any) -> np.ndarray:
        """The observations of the agents in every state, float32 [S, N, S].

        Args:
            **env_config: Arguments of this class.

        Returns:
            The one-hot state, once per agent.
        """
        game = TabularGame(**env_config)
        one_hot = np.eye(len(game.tables.transitions), dtype=np.float32)
        return one_hot[:, None].repeat(len(game.possible_agents), axis=1)

    def state(self) -> np.ndarray:
        """One-hot state, float32 [S]."""
        return np.eye(self.state_space.shape[0], dtype=np.float32)[self._state]

    def _start(self) -> None:
        self._state = self.tables.start
        self._steps = 0

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        here = (self._state, *joint)
        # One number per step, and RIVER comes after ONE_OVER and BOTH_OVER: if the
        # bridge breaks with a seed, it also breaks with this seed at every greater
        # failure probability.
        chances = np.cumsum(self.tables.transitions[here])
        uniforms = self._rng.random() * chances[-1]
        self._state = int(np.searchsorted(chances, uniforms, side="right"))
        self._steps += 1
        reward = float(self.tables.rewards[(*here, self._state)])
        return reward, bool(self.tables.terminal[self._state]), {}

    def _is_out_of_time(self) -> bool:
        return self._steps >= self.episode_limit

    def _views(self) -> list[np.ndarray]:
        return [self.state() for _ in self.possible_agents]


def _problem(name: str, failure_probability: float) -> Tables:
    """The tables of a built-in problem."""
    if name not in PROBLEMS:
        raise EnvConfigError(
            f"unknown problem {name!r}: use {', '.join(PROBLEMS)}, or give "
            "transitions and rewards"
        )
    if (
        isinstance(failure_probability, bool)
        or not isinstance(failure_probability, int | float)
        or not 0 <= failure_probability <= 1
    ):
        raise EnvConfigError(
            f"failure_probability must be in [0, 1], not {failure_probability!r}"
        )
    transitions = np.zeros((5, 2, 2, 5))
    rewards = np.zeros((5, 2, 2))
    transitions[[ONE_OVER, BOTH_OVER, RIVER, END], :, :, END] = 1.0
    rewards[ONE_OVER], rewards[BOTH_OVER] = BRIDGE_PAYS, 2 * BRIDGE_PAYS
    for first in (ROAD, BRIDGE):
        for second in (ROAD, BRIDGE):
            on_bridge = [first, second].count(BRIDGE)
            rewards[FORK, first, second] = ROAD_PAYS * (2 - on_bridge)
            if on_bridge == 0 or (name == "convoy" and on_bridge == 1):
                transitions[FORK, first, second, END] = 1.0
                continue
            over = ONE_OVER if on_bridge == 1 else BOTH_OVER
            transitions[FORK, first, second, over] = 1.0 - failure_probability
            transitions[FORK, first, second, RIVER] = failure_probability
    return Tables(
        transitions=transitions,
        rewards=_per_transition(rewards, transitions),
        terminal=np.arange(5) == END,
        start=FORK,
    )


def _own_tables(
    transitions: Sequence[Any] | None,
    rewards: Sequence[Any] | None,
    terminal_states: Sequence[int],
    start_state: int,
) -> Tables:
    """Checks the user's tables."""
    chances = _numbers("transitions", transitions)
    shape = chances.shape
    if chances.ndim < 3 or shape[0] != shape[-1]:
        raise EnvConfigError(
            "transitions must have a level for the state, one for the action of each "
            "agent and one for the next state, and the first and the last level must "
            f"have the same length; the levels have lengths {list(shape)}"
        )
    if chances.min() < 0 or not np.allclose(chances.sum(axis=-1), 1.0, rtol=0.0):
        raise EnvConfigError(
            "transitions must hold probabilities that sum to 1 over the next state"
        )
    paid = _numbers("rewards", rewards)
    if paid.shape not in (shape, shape[:-1]):
        raise EnvConfigError(
            f"rewards must have the lengths of transitions, {list(shape)}, or these "
            f"without the last, not {list(paid.shape)}"
        )
    if paid.ndim < chances.ndim:
        paid = _per_transition(paid, chances)
    states = range(shape[0])
    for key, numbers in (
        ("terminal_states", terminal_states),
        ("start_state", [start_state]),
    ):
        if not isinstance(numbers, list | tuple) or not all(
            isinstance(x, int) and not isinstance(x, bool) and x in states
            for x in numbers
        ):
            raise EnvConfigError(
                f"{key} must hold states 0 .. {shape[0] - 1}, not {numbers!r}"
            )
    terminal = np.isin(np.arange(shape[0]), terminal_states)
    if terminal[start_state]:
        raise EnvConfigError("start_state must not be one of terminal_states")
    return Tables(chances, paid, terminal, start_state)


def _per_transition(rewards: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Rewards [S, A_0 ..] repeated for every next state, [S, A_0 .., S]."""
    return np.broadcast_to(rewards[..., None], transitions.shape).copy()


def _numbers(key: str, table: Sequence[Any] | None) -> np.ndarray:
    """Nested lists as finite float64."""
    if table is None:
        raise EnvConfigError(f"{key} is missing: your own tables need it too")
    try:
        numbers = np.array(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EnvConfigError(
            f"{key} must be nested lists of numbers, all of one length per level: "
            f"{error}"
        ) from error
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise EnvConfigError(
            f"{key} must hold at least one number, and only finite numbers"
        )
    return numbers
