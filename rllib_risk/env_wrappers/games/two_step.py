"""The two-step game of QMIX (Rashid et al., 2018, section 5).

In state 1, only the action of agent 0 decides the second state: action 0 leads to 2A,
action 1 to 2B. 2A pays 7 for every joint action, and 2B pays [[0, 1], [1, 8]]. The best
return is 8. An additive mixer cannot represent 2B: it underestimates 2B, so the team
gets 7.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.games.team_game import TeamGame

STATE_1, STATE_2A, STATE_2B = range(3)
PAYOFF_2A = 7.0
PAYOFF_2B = ((0.0, 1.0), (1.0, 8.0))
BEST_RETURN = 8.0


class TwoStepGame(TeamGame):
    """A game of two agents with two actions each, and two steps.

    Both agents observe the state, one-hot over (1, 2A, 2B). The row after the end shows
    the second state again. The info of the last step holds `is_success`: the return is
    8.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "two_step", "render_modes": []}

    def __init__(self) -> None:
        """The game has no options."""
        one_hot = spaces.Box(0.0, 1.0, (3,), np.float32)
        super().__init__(2, 2, one_hot, 3, episode_limit=2)
        self._state = STATE_1

    def state(self) -> np.ndarray:
        """One-hot over (1, 2A, 2B), float32 [3]."""
        return np.eye(3, dtype=np.float32)[self._state]

    def _start(self) -> None:
        self._state = STATE_1

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        if self._state == STATE_1:
            self._state = (STATE_2A, STATE_2B)[joint[0]]
            return 0.0, False, {}
        reward = PAYOFF_2A
        if self._state == STATE_2B:
            reward = PAYOFF_2B[joint[0]][joint[1]]
        return reward, True, {"is_success": reward == BEST_RETURN}

    def _views(self) -> list[np.ndarray]:
        return [self.state() for _ in self.possible_agents]
