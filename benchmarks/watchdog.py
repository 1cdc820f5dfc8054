"""What the watchdog costs: `two_step`, the environment with the shortest step.

A call is watched by a few assignments and two looks at the clock. The cost of one is
measured on functions that do nothing, the step with and without it in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from rllib_risk.env_wrappers import LoopedTeamEnvs, make_team_env
from rllib_risk.env_wrappers.watchdog import Watchdog

TURNS, EPISODES, CALLS = 40, 1000, 50_000
SLOTS = np.arange(1)
ACTIVE = np.ones(1, bool)
ACTIONS = np.zeros((1, 2), np.int64)


class Nothing:
    """An environment that does nothing."""

    def reset(self) -> None:
        """Does nothing."""

    def step(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def seconds(function: Callable[[], object], times: int) -> float:
    """CPU time of one call, on average."""
    start = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - start) / times


def looped(*, watched: bool) -> Callable[[], None]:
    """A function that plays one episode, of two steps."""
    env = make_team_env("two_step")
    envs = LoopedTeamEnvs(lambda: env, 1, timeout_s=600.0)
    if not watched:
        for name in ("reset", "step"):
            delattr(env, name)

    def play() -> None:
        envs.reset(SLOTS, SLOTS)
        envs.step(ACTIONS, ACTIVE)
        envs.step(ACTIONS, ACTIVE)

    return play


def main() -> None:
    """Prints the table."""
    bare, watched = Nothing(), Watchdog("nothing", 600.0).build(0, Nothing)
    with_it, without = looped(watched=True), looped(watched=False)
    # The least of many is what it takes; more is other processes.
    calls = [
        (seconds(watched.step, CALLS), seconds(bare.step, CALLS)) for _ in range(TURNS)
    ]
    call = min(one for one, _ in calls) - min(other for _, other in calls)
    steps = []
    for turn in range(TURNS):  # either goes first in every other turn
        one = seconds(with_it if turn % 2 else without, EPISODES) / 2
        other = seconds(without if turn % 2 else with_it, EPISODES) / 2
        steps.append((one, other) if turn % 2 else (other, one))
    step = min(other for _, other in steps)
    share = statistics.median(one / other for one, other in steps) - 1
    print(f"a watched call:             {call * 1e6:6.2f} us more")
    print(f"a step of two_step:         {step * 1e6:6.2f} us, with half a reset")
    print(f"1.5 calls in it:            {1.5 * call / step:6.2%}")
    print(f"with and without, in turns: {share:6.2%} (median)")


if __name__ == "__main__":
    main()
