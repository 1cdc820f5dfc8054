"""The two-state game on which value factorisation by a sum diverges.

There is one live state. Joint action (0, 0) pays 1 and (1, 1) leads to an absorbing
state; the two mixed joint actions pay nothing and change nothing. In the absorbing
state everything pays 0 until the time limit. So the best return is `episode_limit`, 1
in every step, and its discounted sum is

    (1 - gamma ** episode_limit) / (1 - gamma),

63.3968 at gamma 0.99 over 100 steps. Uniformly random play earns 1 / 4 in each step
that it is still alive in, which after t steps it is with probability (3 / 4) ** t: 1 in
all. One (1, 1) costs everything that is left.

Why a sum diverges. Let V be the value of the live state, held fixed in the targets, and
all joint actions equally frequent: the targets are 1 + gamma V, gamma V twice, and 0.
The sum of utilities that fits them best has its largest value, at (0, 0), at

    (3 (1 + gamma V) + 2 gamma V - 0) / 4 = 3 / 4 + 5 / 4 gamma V,

which is the next V: it grows without bound for gamma > 4 / 5.

Sources: Wang et al. (2021), "Towards Understanding Cooperative Multi-Agent Q-Learning
with Value Factorization", for the analysis; `mmdp_game_1` in the code of QPLEX (Wang et
al., 2021, "QPLEX: Duplex Dueling Multi-Agent Q-Learning"), for the game. Two things
differ from that code. Its state is the one-hot vector once per agent, ours is the
vector once. It reports the time limit as a true end, which here is an option of the
adapter, `time_limit_is_terminal: true`. By default the limit truncates, the target
bootstraps from the last row, and the value to be learned is that of playing on for
ever, 1 / (1 - gamma), which is 100 at gamma 0.99 and not 63.3968.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame

LIVE, ABSORBED = range(2)


class MMDPGame(TeamGame):
    """Two agents, two actions each, `episode_limit` steps, then truncated.

    Both agents observe the state, one-hot over (live, absorbed). The info of the last
    step holds `is_success`: every step paid 1.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "mmdp", "render_modes": []}

    def __init__(self, episode_limit: int = 100) -> None:
        """Sets the length of an episode.

        Args:
            episode_limit: Steps after which the episode is truncated, at least 1.

        Raises:
            EnvConfigError: If it is no positive integer.
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
