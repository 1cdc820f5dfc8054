"""The slots of value-based algorithms, and the package's own parts for each."""

from __future__ import annotations

from rllib_risk.parts.base import Composition, Slot

_PARTS = "rllib_risk.parts"

VALUE_PARTS = Composition(
    [
        Slot(
            "exploration",
            "How actions are chosen while sampling: epsilon_z_greedy repeats a random"
            " action for a random number of steps; team_epsilon_greedy lets all agents"
            " explore at once or none; or your own as pkg.module:Class.",
            base=f"{_PARTS}.exploration:Explorer",
            builtin={
                "epsilon_greedy": f"{_PARTS}.exploration:EpsilonGreedy",
                "epsilon_z_greedy": f"{_PARTS}.exploration:EpsilonZGreedy",
                "team_epsilon_greedy": f"{_PARTS}.exploration:TeamEpsilonGreedy",
            },
            default="epsilon_greedy",
            fixed=False,
        ),
    ]
)
