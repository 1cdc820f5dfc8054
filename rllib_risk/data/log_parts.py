"""Selects the part of a learner's log that becomes a dataset."""

from __future__ import annotations

import numpy as np

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.rows import DatasetError

# Names of the parts of a learner's log.
LOG_PARTS = ("replay", "paper", "medium", "expert")
# Window of the learner's mean return, as a fraction of the episodes in its log.
_WINDOW = 0.05


def part_of_log(log: Dataset, part: str, share: float) -> tuple[int, int]:
    """Selects consecutive episodes of a learner's log.

    ``replay`` selects all episodes. The other parts have a given share of the env
    steps. ``paper`` starts at half of the env steps (Eldeeb et al., 2024). ``expert``
    is the end of the log. ``medium`` starts where the learner first reached half of its
    improvement, measured by the mean return over a window of 5 % of the episodes.

    Args:
        log: All episodes of a learner, in the order in which it played them.
        part: One of :data:`LOG_PARTS`.
        share: Fraction of the log's env steps.

    Returns:
        Index of the first episode, and index after the last episode.

    Raises:
        DatasetError: If ``medium`` is selected and the learner did not improve.
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
            f"the learner of {log.folder} did not get better: its mean return went from"
            f" {levels[0]:.2f} to {levels[-1]:.2f}, so there is no part medium. Choose"
            " another part"
        )
    return int((levels >= (levels[0] + levels[-1]) / 2).argmax())
