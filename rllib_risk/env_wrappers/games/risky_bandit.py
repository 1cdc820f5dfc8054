"""A two-agent, one-step bandit whose best joint action depends on the risk level.

Each agent plays safe (0) or risky (1):

* both safe: `safe_reward` for sure;
* both risky: `low_reward` with probability `low_probability`, else `high_reward`;
* one of each: `mismatch_reward`.

Known answers, with p, low, high, safe for the arguments. The mean of joint risky is
p low + (1 - p) high. Its CVaR at level a (mean of the worst share a of the outcomes) is
low for a <= p and (p low + (a - p) high) / a above. That equals `safe` at

    a* = p (high - low) / (high - safe),

so for a < a* joint safe is best and for a > a* joint risky is. The defaults give
mean 2.2 against 1.0 and a* = 0.2 * 9 / 3 = 0.6; mismatch, at -1, is never best.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame
from rllib_risk.ops.robust_mdp import TabularMDP

SAFE, RISKY = range(2)


class RiskyBandit(TeamGame):
    """One joint choice between a sure reward and a better mean with a bad tail.

    Every agent and the state see the constant [1.0]. The outcome of joint risky is
    drawn at reset, so a seed fixes it. The info holds `joint_safe` and `joint_risky`,
    the flags of what the team chose; there is no success.

    Attributes:
        risk_threshold: The level a* below which joint safe has the larger CVaR.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "risky_bandit", "render_modes": []}

    def __init__(
        self,
        safe_reward: float = 1.0,
        high_reward: float = 4.0,
        low_reward: float = -5.0,
        low_probability: float = 0.2,
        mismatch_reward: float = -1.0,
    ) -> None:
        """Checks that the game has the documented answers.

        Args:
            safe_reward: Reward of joint safe.
            high_reward: Good outcome of joint risky.
            low_reward: Bad outcome of joint risky.
            low_probability: Probability of the bad outcome, in (0, 1).
            mismatch_reward: Reward if the agents choose differently.

        Raises:
            EnvConfigError: If the numbers are not low < mismatch < safe < the mean of
                joint risky, without which the game asks no question.
        """
        values = (safe_reward, high_reward, low_reward, low_probability)
        for value in (*values, mismatch_reward):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise EnvConfigError(f"rewards must be numbers, not {value!r}")
        if not 0 < low_probability < 1:
            raise EnvConfigError("low_probability must lie strictly between 0 and 1")
        mean = low_probability * low_reward + (1 - low_probability) * high_reward
        if not low_reward < mismatch_reward < safe_reward < mean:
            raise EnvConfigError(
                "the rewards must be ordered low < mismatch < safe < mean of joint "
                f"risky, but are {low_reward} / {mismatch_reward} / {safe_reward} / "
                f"{mean:g}"
            )
        self.safe_reward = safe_reward
        self.high_reward = high_reward
        self.low_reward = low_reward
        self.low_probability = low_probability
        self.mismatch_reward = mismatch_reward
        self.risk_threshold = (
            low_probability * (high_reward - low_reward) / (high_reward - safe_reward)
        )
        constant = spaces.Box(0.0, 1.0, (1,), np.float32)
        super().__init__(2, 2, constant, 1, episode_limit=1)
        self._bad_luck = False

    @staticmethod
    def joint_mdp(**env_config: Any) -> TabularMDP:
        """The game as tables over joint actions, for exact values.

        Args:
            **env_config: Arguments of this class.

        Returns:
            Tables of one state and the two outcomes of joint risky; joint action
            2 a + b is agent 0 playing a and agent 1 playing b.
        """
        game = RiskyBandit(**env_config)
        chance = game.low_probability
        rewards = np.full((1, 4, 2), float(game.mismatch_reward))
        rewards[0, 0] = game.safe_reward
        rewards[0, 3] = game.low_reward, game.high_reward
        return TabularMDP(
            next_states=np.zeros(rewards.shape, np.int64),
            probabilities=np.broadcast_to([chance, 1 - chance], rewards.shape).copy(),
            rewards=rewards,
            terminals=np.ones(rewards.shape, bool),
            start=0,
        )

    @staticmethod
    def joint_views(**env_config: Any) -> np.ndarray:
        """What the agents observe in the one state, float32 [1, 2, 1]."""
        return np.ones((1, 2, 1), np.float32)

    def state(self) -> np.ndarray:
        """The constant [1.0]."""
        return np.ones(1, np.float32)

    def _start(self) -> None:
        self._bad_luck = bool(self._rng.random() < self.low_probability)

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        info = {"joint_safe": False, "joint_risky": False}
        if joint == [SAFE, SAFE]:
            info["joint_safe"] = True
            return self.safe_reward, True, info
        if joint == [RISKY, RISKY]:
            info["joint_risky"] = True
            reward = self.low_reward if self._bad_luck else self.high_reward
            return reward, True, info
        return self.mismatch_reward, True, info

    def _views(self) -> list[np.ndarray]:
        return [np.ones(1, np.float32) for _ in self.possible_agents]
