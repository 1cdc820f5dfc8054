"""A team game that only agents with a memory can solve.

At t = 0 every agent observes one of two cues. For `delay` steps the observation is
blank. Then a "go" signal appears, and every agent must answer with the action that
belongs to the cue: reward 1 if all are right, 0 otherwise.

Known answers. A policy that remembers the cue gets 1. At "go", a memoryless policy
observes the same for both cues, so its distribution over joint answers does not depend
on the cue. Each joint answer is right for at most one of the two equally likely cues.
Therefore the policy gets at most 0.5. Always answering the first cue reaches this.

The network's input includes the agent's last action, which could carry the cue in place
of a memory. Therefore only "wait" is legal before "go", and only the answers are legal
at "go".
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame

NUM_CUES = 2
WAIT = 0  # action 1 + c answers cue c


class MemoryGame(TeamGame):
    """Agents remember a cue for `delay` blank steps, then answer it together.

    Observation {"observation": (cue 0, cue 1, go), "action_mask": (wait, answer 0,
    answer 1)}. State: one-hot cue and the elapsed part of the episode. An action that
    the mask forbids has no effect before "go" and is a wrong answer at "go". The info
    of the last step holds `is_success`.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "memory_game", "render_modes": []}

    def __init__(self, num_agents: int = 2, delay: int = 3) -> None:
        """Sets the size of the team and the length of the delay.

        Args:
            num_agents: Number of agents, at least 1.
            delay: Number of blank steps between the cue and "go", at least 0; an
                episode has delay + 2 steps.

        Raises:
            EnvConfigError: If a number is out of range.
        """
        for key, value, low in (("num_agents", num_agents, 1), ("delay", delay, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise EnvConfigError(
                    f"{key} must be an integer of at least {low}, not {value!r}"
                )
        space = spaces.Dict(
            {
                "observation": spaces.Box(0.0, 1.0, (NUM_CUES + 1,), np.float32),
                "action_mask": spaces.Box(0, 1, (NUM_CUES + 1,), np.int8),
            }
        )
        super().__init__(
            num_agents, NUM_CUES + 1, space, NUM_CUES + 1, episode_limit=delay + 2
        )
        self._go = delay + 1  # the step at which to answer
        self._cue = 0
        self._time = 0

    def state(self) -> np.ndarray:
        """One-hot cue and elapsed part of the episode, float32 [3]."""
        state = np.zeros(NUM_CUES + 1, np.float32)
        state[self._cue] = 1.0
        state[-1] = self._time / self.episode_limit
        return state

    def _start(self) -> None:
        self._cue = int(self._rng.integers(NUM_CUES))
        self._time = 0

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        answered = self._time == self._go
        self._time += 1
        if not answered:
            return 0.0, False, {}
        right = all(action == 1 + self._cue for action in joint)
        return float(right), True, {"is_success": right}

    def _views(self) -> list[dict[str, np.ndarray]]:
        seen = np.zeros(NUM_CUES + 1, np.float32)
        mask = np.zeros(NUM_CUES + 1, np.int8)
        if self._time == 0:
            seen[self._cue] = 1.0
        if self._time == self._go:
            seen[-1] = 1.0
            mask[WAIT + 1 :] = 1
        else:
            mask[WAIT] = 1
        return [
            {"observation": seen.copy(), "action_mask": mask.copy()}
            for _ in self.possible_agents
        ]
