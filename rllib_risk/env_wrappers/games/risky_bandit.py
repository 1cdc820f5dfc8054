"""A two-agent, one-step bandit whose best joint action depends on the risk level.

Each agent plays safe (0) or risky (1):

* both safe: `safe_reward` for sure;
* both risky: `low_reward` with probability `low_probability`, else `high_reward`;
* one of each: `mismatch_reward`.

Known answers, with p, low, high, safe for the arguments. The mean of joint risky is
p low + (1 - p) high. Its CVaR at level a (mean of the worst share a of the outcomes) is
low for a <= p, and (p low + (a - p) high) / a for a > p. It equals `safe` at

    a* = p (high - low) / (high - safe).

Joint safe is best for a < a*, and joint risky for a > a*. With the defaults, the mean
of joint risky is 2.2 against 1.0, and a* = 0.2 * 9 / 3 = 0.6. A mismatch, which pays
-1, is never best.
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
    """A choice between a sure reward and a better mean with a bad tail.

    Every observation and the state are the constant [1.0]. The outcome of joint risky
    is drawn at reset, so the seed decides it. The info holds two flags, `joint_safe`
    and `joint_risky`. The game defines no success.

    Attributes:
        risk_threshold: The risk level a* below which joint safe has the larger CVaR.
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
        """Checks the rewards and computes `risk_threshold`.

        Args:
            safe_reward: Reward of joint safe.
            high_reward: Good outcome of joint risky.
            low_reward: Bad outcome of joint risky.
            low_probability: Probability of the bad outcome, in (0, 1).
            mismatch_reward: Reward if the agents choose differently.

        Raises:
            EnvConfigError: Unless low < mismatch < safe < the mean of joint risky.
                Otherwise the best joint action would not depend on the risk level.
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
            Tables with one state and the two outcomes of joint risky. Joint action
            2 a + b is action a of agent 0 and action b of agent 1.
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
        """The observations of the agents in the only state, float32 [1, 2, 1]."""
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
