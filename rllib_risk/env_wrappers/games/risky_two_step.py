"""A two-step game in which mean, static and nested risk have three different optima.

Two agents, two actions, two steps. If the agents choose differently, the step pays -5
and the game goes on.

* Step 1: both 0 is "A": 0 with probability 0.4, 9 with 0.6; both 1 is "B": 3 for sure.
* Step 2: both 0 is "G": -5 with probability 0.4, 9 with 0.6; both 1 is "M": -2 with
  0.4, 4 with 0.6. The observation does not show the reward of step 1.

Known answers, without discount, at risk level 0.5:

    policy                              mean   static CVaR   nested CVaR
    A, G                                8.80   2.12          -0.40
    A, then G after 0 and M after 9     7.72   3.56          -0.12
    A, then M after 0 and G after 9     8.08   2.08           0.72
    A, M                                7.00   2.68           1.00
    B, G                                6.40   0.80           0.80
    B, M                                4.60   2.20           2.20

So each objective has its own optimum: (A, G) for the mean, "A, then G after 0 and M
after 9" for the static CVaR, which needs the return so far, and (B, M) for the nested
CVaR. A team that maximizes the CVaR of its return to go at every step plays a fourth
policy, (A, M): if M follows, A has 2.68 and B has 2.20.

This package defines the game, since no published game separates the three.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.games.team_game import TeamGame
from rllib_risk.ops.robust_mdp import TabularMDP

NUM_STEPS = 2
LOW_PROBABILITY = 0.4
MISMATCH_REWARD = -5.0
# PAYOFFS[step][action of both]: rewards with probability 0.4 and 0.6.
PAYOFFS = (((0.0, 9.0), (3.0, 3.0)), ((-5.0, 9.0), (-2.0, 4.0)))
NAMES = (("a", "b"), ("g", "m"))


class RiskyTwoStep(TeamGame):
    """A game of two agents with two actions each, and two steps.

    Both observations and the state are the step, one-hot [2]; the row after the end
    shows step 2 again. All outcomes are drawn at reset, so the seed decides them. The
    info of the last step holds `played_a`, `played_b`, `played_g`, `played_m` (0 or 1)
    and `mismatches` (0 to 2). The game defines no success.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "risky_two_step", "render_modes": []}

    def __init__(self) -> None:
        """The game has no options."""
        one_hot = spaces.Box(0.0, 1.0, (NUM_STEPS,), np.float32)
        super().__init__(2, 2, one_hot, NUM_STEPS, episode_limit=NUM_STEPS)
        self._step = 0
        self._uniforms = np.zeros(NUM_STEPS)
        self._info: dict[str, Any] = {}

    @staticmethod
    def joint_mdp() -> TabularMDP:
        """The game as tables over joint actions, for exact values.

        Returns:
            Tables whose states are the two steps, and whose two outcomes are the low
            and the high reward. Joint action 2 a + b is action a of agent 0 and action
            b of agent 1.
        """
        rewards = np.full((NUM_STEPS, 4, 2), MISMATCH_REWARD)
        for step, by_action in enumerate(PAYOFFS):
            rewards[step, 0], rewards[step, 3] = by_action
        terminals = np.zeros(rewards.shape, bool)
        terminals[-1] = True
        return TabularMDP(
            next_states=np.ones(rewards.shape, np.int64),
            probabilities=np.broadcast_to(
                [LOW_PROBABILITY, 1.0 - LOW_PROBABILITY], rewards.shape
            ).copy(),
            rewards=rewards,
            terminals=terminals,
            start=0,
        )

    @staticmethod
    def joint_views() -> np.ndarray:
        """The observations of the agents in every state, float32 [S, N, D]."""
        return np.eye(NUM_STEPS, dtype=np.float32)[:, None].repeat(2, axis=1)

    def state(self) -> np.ndarray:
        """One-hot step, float32 [2]."""
        shown = min(self._step, NUM_STEPS - 1)
        return np.eye(NUM_STEPS, dtype=np.float32)[shown]

    def _start(self) -> None:
        self._step = 0
        self._uniforms = self._rng.random(NUM_STEPS)
        self._info = {f"played_{name}": 0 for names in NAMES for name in names}
        self._info["mismatches"] = 0

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        step = self._step
        self._step += 1
        ended = self._step == NUM_STEPS
        if joint[0] != joint[1]:
            self._info["mismatches"] += 1
            return MISMATCH_REWARD, ended, self._info if ended else {}
        self._info[f"played_{NAMES[step][joint[0]]}"] = 1
        outcome = int(self._uniforms[step] >= LOW_PROBABILITY)
        reward = PAYOFFS[step][joint[0]][outcome]
        return reward, ended, self._info if ended else {}

    def _views(self) -> list[np.ndarray]:
        return [self.state() for _ in self.possible_agents]
