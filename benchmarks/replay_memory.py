"""Measures the memory of 5000 episodes of SMAC's corridor in both kinds of replay.

    PYTHONPATH=. .venv/bin/python benchmarks/replay_memory.py [--length 400]

Each replay (exact and compact) is filled in its own process, and the resident memory
before and after is compared. The numbers are random and differ in every step. Features
that are 0 or 1 in SMAC are 0 or 1 here. The paper that used this map reports 14.4 GB
for 5000 episodes, which are padded to 400 steps in 32 bits with one-hot actions.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

EPISODES = 5000
PAPER_BYTES = 14.4e9
# Features that are 0 or 1 in SMAC. In an observation: four moves, 24 enemies in reach,
# 5 allies in sight. In the state: the last actions of 6 agents.
OBS_FLAGS, STATE_FLAGS = 4 + 24 + 5, 6 * 30


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def fill(length: int, compact: bool) -> None:
    """Fills a replay and prints the growth of this process."""
    from rllib_risk.data.episodes import Episode
    from rllib_risk.data.replay import EpisodeReplay
    from rllib_risk.data.segments import bytes_per_row, flags_of

    rng = np.random.default_rng(0)

    def seen(shape: tuple[int, ...], flags: int) -> np.ndarray:
        array = rng.random(shape, dtype=np.float32)
        array[..., :flags] = rng.integers(0, 2, (*shape[:-1], flags), dtype=np.int8)
        return array

    def episode() -> Episode:
        return Episode(
            obs=seen((length + 1, 6, 156), OBS_FLAGS),
            state=seen((length + 1, 282), STATE_FLAGS),
            action_mask=rng.integers(0, 2, (length + 1, 6, 30), dtype=np.uint8),
            actions=rng.integers(0, 30, (length, 6), dtype=np.int16),
            rewards=rng.random(length, dtype=np.float32),
            terminated=True,
            risk_levels=rng.random((length, 6), dtype=np.float32),
        )

    one = episode()
    replay = EpisodeReplay(EPISODES, seed=0, compact=compact)
    replay.add([one])
    before, start = resident_bytes(), time.perf_counter()
    for _ in range(EPISODES - 1):
        replay.add([episode()])
    grown = resident_bytes() - before
    row = bytes_per_row(one, compact, flags_of(one))
    computed = EPISODES * (length + 1) * row
    print(
        f"{'compact' if compact else 'exact':8} {row} bytes per step,"
        f" {computed / 1e9:6.2f} GB computed,"
        f" {grown / 1e9:6.2f} GB measured, {grown / PAPER_BYTES:5.1%} of the paper's"
        f" ({time.perf_counter() - start:.0f} s)",
        flush=True,
    )


def main() -> None:
    """Measures both replays, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--length", type=int, default=400, help="steps per episode (default 400)"
    )
    parser.add_argument("--only", choices=("exact", "compact"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        fill(arguments.length, arguments.only == "compact")
        return
    for kind in ("exact", "compact"):
        command = [sys.executable, __file__, "--length", str(arguments.length)]
        subprocess.run([*command, "--only", kind], check=True)


if __name__ == "__main__":
    main()
