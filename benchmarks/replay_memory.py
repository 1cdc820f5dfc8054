"""Memory of a replay of 5000 episodes as large as SMAC's corridor, exact and compact.

    PYTHONPATH=. .venv/bin/python benchmarks/replay_memory.py [--length 400]

Every row differs, and each replay is filled in a process of its own, whose resident
memory before and after is compared. The paper that used this map reports 14.4 GB for
5000 episodes, padded to 400 steps in 32 bits with actions one-hot.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

EPISODES = 5000
PAPER_BYTES = 14.4e9


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def fill(length: int, compact: bool) -> None:
    """Prints by how much this process grew."""
    from rllib_risk.core.episodes import Episode
    from rllib_risk.core.replay import EpisodeReplay, bytes_per_row

    rng = np.random.default_rng(0)

    def episode() -> Episode:
        return Episode(
            obs=rng.random((length + 1, 6, 156), dtype=np.float32),
            state=rng.random((length + 1, 282), dtype=np.float32),
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
    computed = EPISODES * (length + 1) * bytes_per_row(one, compact)
    print(
        f"{'compact' if compact else 'exact':8} {computed / 1e9:6.2f} GB computed,"
        f" {grown / 1e9:6.2f} GB measured, {grown / PAPER_BYTES:5.1%} of the paper's"
        f" ({time.perf_counter() - start:.0f} s)",
        flush=True,
    )


def main() -> None:
    """Fills both replays, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=400, help="steps of an episode")
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
