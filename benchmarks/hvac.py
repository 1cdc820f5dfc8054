"""Measures env steps of `hvac`: our vectorised and single env against SustainGym's.

All sides play whole days of OfficeSmall in Tucson with random actions on one thread.
They run in turns, so that other work on the machine affects all of them. The table
shows env steps per second of wall-clock time and of CPU time, resets included. The time
of the vectorised env includes observations, states, rewards, infos and the drawing of
actions. "Evaluation" is the loop of `rllib evaluate --shift` with random actions. Its
time includes new environments, seeds, checks for NaN and reports.

SustainGym needs an older Gymnasium than Ray and therefore its own virtual environment
(see `tools/make_hvac_data.py`). ``--sustaingym-python`` names its Python. Without this
option only our environments are measured.

Run: ``python benchmarks/hvac.py --sustaingym-python sustaingym/bin/python``
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from rllib_risk.algorithms import config_class
from rllib_risk.core.config import TeamConfig
from rllib_risk.env_wrappers.hvac.batched import BatchedHVAC
from rllib_risk.env_wrappers.hvac.env import HVAC
from rllib_risk.evaluation.shift_runs import play_references

STEPS = 288
SINGLE_DAYS = 20
NUM_ENVS = (64, 256, 1024, 4096)

# Plays days for each input line and prints steps per second of wall-clock time and of
# CPU time. Actions are drawn before the timing.
SUSTAINGYM = f"""
import contextlib, io, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from sustaingym.envs.building import MultiAgentBuildingEnv, ParameterGenerator
with contextlib.redirect_stdout(io.StringIO()):
    parameters = ParameterGenerator(
        "OfficeSmall", "Hot_Dry", "Tucson", is_continuous_action=False
    )
env = MultiAgentBuildingEnv(parameters)
drawn = np.random.default_rng(0).integers(0, 200, ({STEPS}, 6))
actions = [dict(enumerate(row)) for row in drawn]
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    for day in range({SINGLE_DAYS}):
        env.reset(seed=day)
        for joint in actions:
            env.step(joint)
    steps = {SINGLE_DAYS * STEPS}
    print(steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu))
    sys.stdout.flush()
"""

Rates = tuple[float, float]


def timed(play: Callable[[], int]) -> Rates:
    """Returns env steps per second of wall-clock time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    steps = play()
    return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def play_single(env: HVAC) -> int:
    """Plays days in one env; returns the number of steps."""
    rng = np.random.default_rng(0)
    for day in range(SINGLE_DAYS):
        env.reset(options={"day": day})
        for row in rng.integers(0, 200, (STEPS, 6)).tolist():
            env.step(dict(zip(env.possible_agents, row, strict=True)))
        assert not env.agents
    return SINGLE_DAYS * STEPS


def play_batch(env: BatchedHVAC) -> int:
    """Plays a day in every slot; returns the number of steps."""
    rng = np.random.default_rng(0)
    slots = np.arange(env.num_envs)
    everywhere = np.ones(env.num_envs, bool)
    env.reset(slots, slots)
    for _ in range(STEPS):
        step = env.step(rng.integers(0, 200, (env.num_envs, 6)), everywhere)
    assert step.truncateds.all() and np.isfinite(env.obs).all()
    return env.num_envs * STEPS


def play_evaluation(config: TeamConfig) -> int:
    """Evaluates the random policy for a day per env; returns the number of steps."""
    name, episodes = next(play_references([config], NUM_ENVS[-1], seed=0))
    assert name == "random"
    return int(episodes.lengths.sum())


class SustainGym:
    """SustainGym's env in another process, which waits while other sides play."""

    def __init__(self, python: Path) -> None:
        """Starts the process.

        Args:
            python: Path of a Python that can import SustainGym.
        """
        self._process = subprocess.Popen(
            [python, "-c", SUSTAINGYM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rates(self) -> Rates:
        """Plays some days; returns the rates."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None and pipe_out is not None
        pipe_in.write("go\n")
        pipe_in.flush()
        answer = pipe_out.readline()
        if not answer:
            raise SystemExit(
                "SustainGym failed in the given Python. See the error above."
            )
        wall, cpu = answer.split()
        return float(wall), float(cpu)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def row(name: str, ours: list[Rates], theirs: list[Rates]) -> str:
    """Formats a row: median rates, and medians of the ratios within each turn."""
    cells = [name]
    for clock in (0, 1):
        cells.append(f"{statistics.median(rates[clock] for rates in ours):,.0f}")
        if theirs:
            ratios = (a[clock] / b[clock] for a, b in zip(ours, theirs, strict=True))
            cells.append(f"{statistics.median(ratios):.1f}")
        else:
            cells.append("-")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of turns (default 5)"
    )
    parser.add_argument(
        "--sustaingym-python",
        type=Path,
        metavar="PATH",
        help="Python of an environment with SustainGym (default: do not measure it)",
    )
    options = parser.parse_args()
    players: dict[str, Callable[[], int]] = {
        "ours, single": partial(play_single, HVAC())
    }
    for num_envs in NUM_ENVS:
        env = BatchedHVAC(num_envs)
        players[f"ours, {num_envs} in a batch"] = partial(play_batch, env)
    config = config_class("RobustVDN")().environment("hvac")
    players[f"evaluation, {NUM_ENVS[-1]} envs"] = partial(play_evaluation, config)
    sustaingym = None
    if options.sustaingym_python is not None:
        sustaingym = SustainGym(options.sustaingym_python)
        sustaingym.rates()  # warm-up: imports and first calls are not measured
    for play in players.values():
        play()
    theirs: list[Rates] = []
    ours: dict[str, list[Rates]] = {name: [] for name in players}
    for _ in range(options.repetitions):
        if sustaingym is not None:
            theirs.append(sustaingym.rates())
        for name, play in players.items():
            ours[name].append(timed(play))
    if sustaingym is not None:
        sustaingym.close()
    print(f"one thread; median of {options.repetitions} turns; env steps")
    print("| env | per s | ratio | per CPU s | ratio |")
    print("|---|---|---|---|---|")
    if theirs:
        print(row("SustainGym, single", theirs, theirs))
    for name, rates in ours.items():
        print(row(name, rates, theirs))


if __name__ == "__main__":
    main()
