"""One-step matrix games: a table gives the team reward of every joint action.

The named tables distinguish value factorisations: joint actions that miss the best one
by a single agent have low rewards.

* P3: the non-monotonic game of QTRAN (Son et al., 2019) with 3 actions.
* P4: the same with 4 actions; no monotonic mixer can solve it even in principle.
* P3_star: P3 with good second-best joint actions on the diagonal.
* climb: the climbing game of Claus and Boutilier (1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.games.team_game import TeamGame

PAYOFFS: dict[str, list[list[float]]] = {
    "P3": [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]],
    "P4": [
        [8, -12, -12, -12],
        [-12, 0, 0, 0],
        [-12, 0, 0, 0],
        [-12, 0, 0, 0],
    ],
    "P3_star": [[8, -12, -12], [-12, 6, 0], [-12, 0, 6]],
    "climb": [[11, -30, 0], [-30, 7, 6], [0, 0, 5]],
}


class MatrixGame(TeamGame):
    """A game of one step: one joint action, one payoff, termination.

    Every observation and the state are the constant [1.0]. The info holds `is_success`:
    the payoff was the largest in the table.

    Attributes:
        payoff: The table, float64 [A_0, ..., A_{N-1}].
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "matrix_game", "render_modes": []}

    def __init__(self, payoff: str | Sequence[Any] = "P3") -> None:
        """Reads the table.

        Args:
            payoff: P3, P4, P3_star, climb, or nested lists of numbers with one level
                per agent: `payoff[u_0][u_1]...` is the team reward.

        Raises:
            EnvConfigError: If the name is unknown or the lists are not a table.
        """
        self.payoff = _table(payoff)
        shape = self.payoff.shape
        constant = spaces.Box(0.0, 1.0, (1,), np.float32)
        super().__init__(len(shape), list(shape), constant, 1, episode_limit=1)

    def state(self) -> np.ndarray:
        """The constant [1.0]."""
        return np.ones(1, np.float32)

    def _start(self) -> None:
        """Does nothing; the game is deterministic."""

    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        payoff = float(self.payoff[tuple(joint)])
        return payoff, True, {"is_success": payoff == float(self.payoff.max())}

    def _views(self) -> list[np.ndarray]:
        return [np.ones(1, np.float32) for _ in self.possible_agents]


def _table(payoff: str | Sequence[Any]) -> np.ndarray:
    """The payoff table, float64, one axis per agent."""
    if isinstance(payoff, str):
        if payoff not in PAYOFFS:
            raise EnvConfigError(
                f"unknown payoff '{payoff}': use {', '.join(PAYOFFS)} or nested lists"
            )
        payoff = PAYOFFS[payoff]
    try:
        table = np.array(payoff, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EnvConfigError(
            f"payoff must be nested lists of numbers, all of one length per level: "
            f"{error}"
        ) from error
    if table.ndim == 0 or table.size == 0 or not np.isfinite(table).all():
        raise EnvConfigError("payoff must hold at least one finite number per action")
    return table
