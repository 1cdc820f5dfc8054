"""Measures the cost of the watchdog in `two_step`, the env with the shortest step.

For each call, the watchdog makes a few assignments and reads the clock twice. The cost
per call is measured on functions that do nothing. The share of a step is measured with
and without the watchdog in turns.
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
    """Returns the mean CPU time of one call in seconds."""
    start = time.process_time()
    for _ in range(times):
        function()
    return (time.process_time() - start) / times


def looped(*, watched: bool) -> Callable[[], None]:
    """Returns a function that plays one episode of two steps."""
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
    """Prints the measurements."""
    bare, watched = Nothing(), Watchdog("nothing", 600.0).build(0, Nothing)
    with_it, without = looped(watched=True), looped(watched=False)
    # The minimum of many turns: other processes only add time.
    calls = [
        (seconds(watched.step, CALLS), seconds(bare.step, CALLS)) for _ in range(TURNS)
    ]
    call = min(one for one, _ in calls) - min(other for _, other in calls)
    steps = []
    for turn in range(TURNS):  # both sides go first equally often
        one = seconds(with_it if turn % 2 else without, EPISODES) / 2
        other = seconds(without if turn % 2 else with_it, EPISODES) / 2
        steps.append((one, other) if turn % 2 else (other, one))
    step = min(other for _, other in steps)
    share = statistics.median(one / other for one, other in steps) - 1
    print(f"watchdog, per call:             {call * 1e6:6.2f} us")
    print(f"step with half a reset:         {step * 1e6:6.2f} us")
    print(f"share of 1.5 watched calls:     {1.5 * call / step:6.2%}")
    print(f"with against without, in turns: {share:6.2%} (median)")


if __name__ == "__main__":
    main()
