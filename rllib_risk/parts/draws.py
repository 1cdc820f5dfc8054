"""Random numbers of a batch that several learners share.

Each learner draws the numbers of the whole batch and keeps those of its own rows. One
learner and several therefore use the same numbers for the same row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rllib_risk.data.splitting import RowShare


class RowGenerator(torch.Generator):
    """A random generator of a learner that has some rows of a batch.

    Attributes:
        share: The rows.
    """

    share: RowShare


def rand_rows(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draws uniform numbers in [0, 1), with one entry of the first axis for each row.

    Args:
        shape: ``[rows, ...]``.
        generator: Source of the numbers, on the CPU. A :class:`RowGenerator` gives the
            numbers that these rows have in the whole batch.

    Returns:
        Numbers of this shape, float32.
    """
    if not isinstance(generator, RowGenerator):
        return torch.rand(tuple(shape), generator=generator)
    share, more = generator.share, tuple(shape[1:])
    whole = torch.rand((share.num_rows, *more), generator=generator)
    return whole[torch.from_numpy(share.rows)]


def rand_steps(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draws numbers like :func:`rand_rows`; the second axis of the shape counts steps.

    Args:
        shape: ``[rows, steps, ...]``.
        generator: See :func:`rand_rows`.

    Returns:
        Numbers of this shape, float32.
    """
    if not isinstance(generator, RowGenerator):
        return torch.rand(tuple(shape), generator=generator)
    rows, steps, *more = shape
    whole = rand_rows((rows, steps + generator.share.steps_cut, *more), generator)
    return whole[:, :steps]


def row_numbers(rows: int, generator: torch.Generator) -> Tensor:
    """Returns the index that each row has in the whole batch.

    Args:
        rows: Number of rows.
        generator: See :func:`rand_rows`.

    Returns:
        Indices, int64 ``[rows]``.
    """
    if isinstance(generator, RowGenerator):
        return torch.from_numpy(generator.share.rows)
    return torch.arange(rows)
