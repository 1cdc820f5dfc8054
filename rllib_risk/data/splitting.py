"""Splits a batch by rows, for learners that work side by side.

Letters: ``B`` rows of a batch (episodes, or sequences of them), ``T`` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.data import episodes as columns

# Arrays with an entry for each step, and those with one more for what follows.
_OF_STEPS = (columns.ACTIONS, columns.REWARDS, columns.TERMINATEDS, columns.MASK)
_OF_STATES = (columns.OBS, columns.STATE, columns.ACTION_MASK)


@dataclass(frozen=True)
class RowShare:
    """Which rows of a batch a learner has.

    Attributes:
        rows: Their numbers in the batch, ascending, int64 ``[b]``.
        num_rows: ``B``, the rows of the batch.
        steps_cut: Steps of padding that were cut off at the end, since none of these
            rows needs them.
        weight: Their share of the batch's learned steps. The sum over learners of
            ``weight`` times the mean over these rows is the mean over the batch.
        lengths: Learned steps of each row of the batch, ``[B]``.
    """

    rows: np.ndarray
    num_rows: int
    steps_cut: int
    weight: float
    lengths: np.ndarray

    def among(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """What a learner has of a part of the batch.

        Args:
            rows: Numbers of rows of the batch.

        Returns:
            Places in :attr:`rows` of those that it has, and their share of the steps
            of the part.
        """
        own = np.flatnonzero(np.isin(self.rows, rows))
        total = max(float(self.lengths[rows].sum()), 1.0)
        return own, float(self.lengths[self.rows[own]].sum()) / total


def split_batch(
    samples: Mapping[str, Any], number: int
) -> list[tuple[dict[str, np.ndarray], RowShare]]:
    """Splits a batch by whole rows, with about the same learned steps in each part.

    The longest row goes first, each to the part that has the fewest steps so far
    (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969). The result depends on
    the lengths alone.

    Args:
        samples: A batch of :func:`rllib_risk.data.episodes.collate`, or of sequences.
        number: Number of parts, at most ``B``.

    Returns:
        For each part its arrays, and which rows they are. Padding that no row of a part
        needs is cut off.

    Raises:
        ValueError: If there are fewer rows than parts.
    """
    mask = np.asarray(samples[columns.MASK])
    lengths = mask.sum(axis=1)
    if len(lengths) < number:
        raise ValueError(
            f"A batch of {len(lengths)} episodes cannot be split among {number}"
            " learners. Lower num_learners, or raise batch_size_episodes."
        )
    parts: list[list[int]] = [[] for _ in range(number)]
    loads = [0.0] * number
    for row in np.argsort(-lengths, kind="stable"):
        least = min(range(number), key=lambda part: (loads[part], len(parts[part])))
        parts[least].append(int(row))
        loads[least] += float(lengths[row])
    total = max(float(lengths.sum()), 1.0)
    return [
        _part(samples, mask, lengths, np.sort(np.array(rows, np.int64)), load / total)
        for rows, load in zip(parts, loads, strict=True)
    ]


def _part(
    samples: Mapping[str, Any],
    mask: np.ndarray,
    lengths: np.ndarray,
    rows: np.ndarray,
    weight: float,
) -> tuple[dict[str, np.ndarray], RowShare]:
    learned = np.flatnonzero(mask[rows].any(axis=0))
    steps = int(learned[-1]) + 1 if len(learned) else mask.shape[1]
    arrays = {}
    for key in samples:
        array = np.asarray(samples[key])
        if array.shape[:1] != mask.shape[:1]:
            continue  # no entry for each row: nothing that is learned from
        if key in _OF_STEPS:
            array = array[:, :steps]
        elif key in _OF_STATES:
            array = array[:, : steps + 1]
        arrays[key] = array[rows]
    share = RowShare(rows, len(mask), mask.shape[1] - steps, weight, lengths)
    return arrays, share
