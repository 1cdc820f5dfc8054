"""Reads and cuts ``result.json`` and ``progress.csv``, which may be damaged."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from rllib_risk.cli.output import note

RESULTS = "result.json"
TABLE = "progress.csv"
ITERATION = "training_iteration"


def row_at(folder: Path, iteration: int) -> dict[str, Any] | None:
    """Returns the last result of an iteration; None if there is none."""
    found = None
    for line in _lines(folder / RESULTS):
        row = _parse(line)
        if row is not None and row.get(ITERATION) == iteration:
            found = row
    return found


def cut_rows(folder: Path, iteration: int) -> None:
    """Deletes the rows after an iteration, and an incomplete last line.

    Args:
        folder: Folder of a trial.
        iteration: Iteration from which the trial continues; 0: it starts again.
    """
    lines = _lines(folder / RESULTS)
    kept = list(lines)
    while kept and ((row := _parse(kept[-1])) is None or row[ITERATION] > iteration):
        kept.pop()
    if kept != lines:
        _replace(folder / RESULTS, "".join(kept))
    lines = _lines(folder / TABLE)
    if not lines:
        return
    header = _cells(lines[0])
    if ITERATION not in header:
        note(f"{folder / TABLE} is damaged and starts again; {RESULTS} has all rows")
        _replace(folder / TABLE, "")
        return
    column = header.index(ITERATION)
    kept = list(lines)
    while len(kept) > 1 and not _is_row_until(kept[-1], column, iteration):
        kept.pop()
    if iteration == 0:
        kept = []  # The next row may have other columns.
    if kept != lines:
        _replace(folder / TABLE, "".join(kept))


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        return []
    # Line ends are kept: progress.csv ends its lines in "\r\n".
    with open(file, encoding="utf-8", errors="replace", newline="") as stream:
        return stream.readlines()


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get(ITERATION)) is int else None


def _is_row_until(line: str, column: int, iteration: int) -> bool:
    values = _cells(line)
    if not line.endswith("\n") or len(values) <= column:
        return False
    return values[column].isdecimal() and int(values[column]) <= iteration


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    with open(part, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    part.replace(file)
