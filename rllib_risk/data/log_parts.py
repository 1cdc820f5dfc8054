"""Parts of a learner's log that make a dataset."""

from __future__ import annotations

import numpy as np

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.rows import DatasetError

# What a part of a learner's log is called.
LOG_PARTS = ("replay", "paper", "medium", "expert")
# Episodes that the level of a learner is averaged over, as a share of its log.
_WINDOW = 0.05


def part_of_log(log: Dataset, part: str, share: float) -> tuple[int, int]:
    """Which episodes of a learner's log a dataset is cut out of.

    All of them (``replay``); or a stretch of that share of its env steps that
    begins half way (``paper``: Eldeeb et al., 2024), that is the last one (``expert``),
    or that begins where the learner first reached half of its gain (``medium``). Its
    level is the mean return of the last 5 % of episodes, at the beginning and at the
    end.

    Args:
        log: All episodes of a learner, in the order in which it played them.
        part: One of :data:`LOG_PARTS`.
        share: Share of the log's env steps.

    Returns:
        The first episode, and the one after the last.

    Raises:
        DatasetError: If the learner did not get better, where that matters.
    """
    if part == "replay":
        return 0, log.card.num_episodes
    facts = np.array([(len(e), e.episode_return) for e in log.episodes()])
    starts = np.concatenate([[0.0], facts[:, 0].cumsum()])  # in env steps
    steps = share * starts[-1]
    if part == "paper":
        first = int(np.searchsorted(starts, starts[-1] / 2))
    elif part == "medium":
        first = _half_way(facts[:, 1], log)
    if part == "expert" or starts[first] + steps > starts[-1]:
        first = int(np.searchsorted(starts[:-2], starts[-1] - steps))
    after = int(np.searchsorted(starts, starts[first] + steps))
    return first, max(after, first + 1)


def _half_way(returns: np.ndarray, log: Dataset) -> int:
    window = max(int(_WINDOW * len(returns)), 1)
    sums = np.concatenate([[0.0], returns.cumsum()])
    levels = (sums[window:] - sums[:-window]) / window  # of [i, i + window)
    if levels[-1] <= levels[0]:
        raise DatasetError(
            f"the learner of {log.folder} did not get better: its returns went from"
            f" {levels[0]:.2f} to {levels[-1]:.2f}, so that there is no half way"
        )
    return int((levels >= (levels[0] + levels[-1]) / 2).argmax())
