"""A dataset that is ten times as large as its reader's memory budget."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from test_dataset import write

from rllib_risk.data.episodes import Episode
from rllib_risk.data.segments import bytes_per_row

BUDGET = 32 * 2**20
LENGTH, OBS = 50, 600


def episode(number):
    """Wide observations of few different numbers, so that the files stay small."""
    rng = np.random.default_rng(number)
    return Episode(
        obs=rng.integers(0, 3, (LENGTH + 1, 2, OBS)).astype(np.float32),
        state=np.full((LENGTH + 1, 3), number, np.float32),
        action_mask=np.ones((LENGTH + 1, 2, 5), np.uint8),
        actions=rng.integers(0, 5, (LENGTH, 2)).astype(np.int16),
        rewards=np.ones(LENGTH, np.float32),
        terminated=True,
        risk_levels=np.ones((LENGTH, 2), np.float32),
    )


def test_no_more_memory_than_was_given(tmp_path):
    one = episode(0)
    size = (LENGTH + 1) * bytes_per_row(one)
    number = 10 * BUDGET // size + 1
    write(tmp_path, map(episode, range(number)), rows_per_shard=1000)
    probe = Path(__file__).with_name("memory_probe.py")
    done = subprocess.run(
        [sys.executable, str(probe), str(tmp_path), str(BUDGET), "0.5"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    held, peak = map(int, done.stdout.split())
    # The window takes most of the budget. With reading it stays within the budget.
    assert held * size > 0.5 * BUDGET
    assert 0.5 * BUDGET < peak < BUDGET
