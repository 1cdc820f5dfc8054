"""The two-state game on which value factorisation by a sum diverges.

The game has a live and an absorbing state. In the live state, joint action (0, 0) pays
1, and (1, 1) leads to the absorbing state. The two mixed joint actions pay 0 and change
nothing. In the absorbing state all actions pay 0 until the time limit. So the best
return is `episode_limit`, 1 in every step, and its discounted sum is

    (1 - gamma ** episode_limit) / (1 - gamma),

63.3968 at gamma 0.99 over 100 steps. Uniformly random play is still in the live state
after t steps with probability (3 / 4) ** t, and earns 1 / 4 per step there: 1 in all. A
single (1, 1) costs all later rewards.

Why a sum diverges. Let V be the value of the live state, held fixed in the targets, and
let all joint actions be equally frequent. The targets are 1 + gamma V, gamma V twice,
and 0. The sum of utilities that fits them best has its largest value at (0, 0):

    (3 (1 + gamma V) + 2 gamma V - 0) / 4 = 3 / 4 + 5 / 4 gamma V.

This is the next V, which grows without bound for gamma > 4 / 5.

Sources: Wang et al. (2021), "Towards Understanding Cooperative Multi-Agent Q-Learning
with Value Factorization", for the analysis; `mmdp_game_1` in the code of QPLEX (Wang et
al., 2021, "QPLEX: Duplex Dueling Multi-Agent Q-Learning"), for the game. Two things
differ from that code. Its state repeats the one-hot vector for every agent; ours has it
once. It terminates at the time limit; here this is an option of the adapter,
`time_limit_is_terminal: true`. By default the limit truncates, and the target
bootstraps from the last row. The value to learn is then that of an endless episode,
1 / (1 - gamma), which is 100 at gamma 0.99 and not 63.3968.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame

LIVE, ABSORBED = range(2)


class MMDPGame(TeamGame):
    """Two agents with two actions each; truncated after `episode_limit` steps.

    Both agents observe the state, one-hot over (live, absorbed). The info of the last
    step holds `is_success`: every step paid 1.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "mmdp", "render_modes": []}

    def __init__(self, episode_limit: int = 100) -> None:
        """Sets the length of an episode.

        Args:
            episode_limit: Steps after which the episode is truncated, at least 1.

        Raises:
            EnvConfigError: If it is not a positive integer.
        """
        if (
            isinstance(episode_limit, bool)
            or not isinstance(episode_limit, int)
            or episode_limit < 1
        ):
            raise EnvConfigError(
                f"episode_limit must be a positive integer, not {episode_limit!r}"
            )
        one_hot = spaces.Box(0.0, 1.0, (2,), np.float32)
        super().__init__(2, 2, one_hot, 2, episode_limit)
        self._state = LIVE
        self._steps = 0
        self._paid = 0

    def state(self) -> np.ndarray:
        """One-hot over (live, absorbed), float32 [2]."""
        return np.eye(2, dtype=np.float32)[self._state]

    def _start(self) -> None:
        self._state = LIVE
        self._steps = self._paid = 0

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        paid = self._state == LIVE and joint == [0, 0]
        if joint == [1, 1]:
            self._state = ABSORBED
        self._paid += paid
        self._steps += 1
        if self._steps < self.episode_limit:
            return float(paid), False, {}
        return float(paid), False, {"is_success": self._paid == self._steps}

    def _is_out_of_time(self) -> bool:
        return self._steps == self.episode_limit

    def _views(self) -> list[np.ndarray]:
        return [self.state() for _ in self.possible_agents]
