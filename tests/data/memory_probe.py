"""Reads a dataset through a window; prints its episodes and the peak of bytes."""

import re
import sys
from pathlib import Path

import torch  # noqa: F401  imported before the measurement begins

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.dataset_replay import DatasetReplay


def resident(kind: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) * 1024


folder, budget, passes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
# Arrow creates its threads and buffers before the measurement.
next(Dataset(folder).episodes())
Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = resident("VmRSS")
replay = DatasetReplay(Dataset(folder), budget, seed=0)
assert not replay.whole
while replay.passes < passes:
    replay.sample_sequences(32, 4, 0)
print(len(replay), resident("VmHWM") - before)
