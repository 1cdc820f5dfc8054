"""Splits a batch by rows among parallel learners.

Letters: ``B`` rows of a batch (episodes, or sequences of them), ``T`` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.data import episodes as columns

# Arrays with an entry per step, and arrays with one more, after the last step.
_OF_STEPS = (columns.ACTIONS, columns.REWARDS, columns.TERMINATEDS, columns.MASK)
_OF_STATES = (columns.OBS, columns.STATE, columns.ACTION_MASK)


@dataclass(frozen=True)
class RowShare:
    """The rows of a batch that one learner gets.

    Attributes:
        rows: Indices of these rows in the batch, ascending, int64 ``[b]``.
        num_rows: ``B``, number of rows of the batch.
        steps_cut: Number of padding steps that were cut off at the end, because none of
            these rows needs them.
        weight: Share of these rows in the batch's learned steps. The sum over learners
            of ``weight`` times the mean over these rows is the mean over the batch.
        lengths: Number of learned steps of each row of the batch, ``[B]``.
    """

    rows: np.ndarray
    num_rows: int
    steps_cut: int
    weight: float
    lengths: np.ndarray

    def among(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Finds the learner's rows in a part of the batch.

        Args:
            rows: Indices of the part's rows in the batch.

        Returns:
            Positions in :attr:`rows` of those that are in the part, and their share of
            the part's learned steps.
        """
        own = np.flatnonzero(np.isin(self.rows, rows))
        total = max(float(self.lengths[rows].sum()), 1.0)
        return own, float(self.lengths[self.rows[own]].sum()) / total


def split_batch(
    samples: Mapping[str, Any], number: int
) -> list[tuple[dict[str, np.ndarray], RowShare]]:
    """Splits a batch by whole rows into parts with about equal learned steps.

    Rows are assigned from longest to shortest, each to the part that has the fewest
    steps so far (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969). The
    result depends only on the lengths.

    Args:
        samples: A batch from :func:`rllib_risk.data.episodes.collate`, or of sequences.
        number: Number of parts, at most ``B``.

    Returns:
        The arrays and the rows of each part. Padding that no row of a part needs is cut
        off.

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
            continue  # no entry per row, so learners do not use it
        if key in _OF_STEPS:
            array = array[:, :steps]
        elif key in _OF_STATES:
            array = array[:, : steps + 1]
        arrays[key] = array[rows]
    share = RowShare(rows, len(mask), mask.shape[1] - steps, weight, lengths)
    return arrays, share
