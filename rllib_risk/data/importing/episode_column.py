"""Finds the column that names episodes by its values.

Such a column has one value throughout an episode and a new one in the next. The column
of time restarts where an episode begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from rllib_risk.data.importing import cells
from rllib_risk.data.importing.tables import Rows
from rllib_risk.data.rows import DatasetError

_WHOLE = re.compile(r"[-+]?\d+")
# Decimal numbers such as 0.5 and 9.0, which are not names of episodes.
_DECIMAL = re.compile(r"[-+]?\d*[.,]\d*([eE][-+]?\d+)?")


def find_episode(
    rows: Rows, columns: Iterable[str], time: str | None, *, whole_team: bool
) -> tuple[str | None, str]:
    """Finds a column that changes exactly where the time restarts.

    A column of whole numbers or texts fits if it changes at every restart and nowhere
    else, and no value occurs in two episodes. If several columns fit, the first one
    that counts up by one is chosen, or else the first one.

    Args:
        rows: The first rows of a file.
        columns: Candidate columns.
        time: Column of time; None if there is none.
        whole_team: Whether a row is a step of all agents. If so, two rows with the same
            time belong to different episodes.

    Returns:
        The column or None, and the reason.
    """
    if time is None:
        return None, "no column of time shows where episodes begin."
    try:
        times = cells.times(rows, time)
    except DatasetError:
        return None, f"{time!r} holds no times."
    before, after = times[:-1], times[1:]
    restarts = after <= before if whole_team else after < before
    number = int(restarts.sum())
    if not number:
        return None, f"{time!r} does not restart in the first {len(rows):,} rows."
    fitting = {}
    for name in columns:
        values = _names(rows, name)
        if values is None or ((values[1:] != values[:-1]) != restarts).any():
            continue
        blocks = values[np.concatenate([[True], restarts])].tolist()
        if len(set(blocks)) == len(blocks):
            fitting[name] = _counts(blocks)
    if not fitting:
        return None, f"no column has a new value exactly where {time!r} restarts."
    best = max(fitting, key=lambda name: fitting[name])  # the first of equals
    why = f"a new value at every restart of {time!r} ({number:,}), and nowhere else"
    others = [repr(name) for name in fitting if name != best]
    if others:
        why += f"; the same holds for {', '.join(others[:5])}"
    return best, why


def _names(rows: Rows, name: str) -> np.ndarray | None:
    """Reads whole numbers or texts as texts ``[R]``; None for other columns."""
    column = rows.columns[name]
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return None
    if isinstance(column, pa.Array) and pa.types.is_floating(column.type):
        return None
    try:
        found = cells.names(rows, name)
    except (DatasetError, TypeError):
        return None
    if found.ndim != 1 or any(_DECIMAL.fullmatch(text) for text in found.tolist()):
        return None
    return found


def _counts(blocks: list[str]) -> bool:
    """Whether values are whole numbers that increase by one."""
    if not all(_WHOLE.fullmatch(value) for value in blocks):
        return False
    return bool((np.diff([int(value) for value in blocks]) == 1).all())
