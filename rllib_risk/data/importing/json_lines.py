"""Reads JSON lines: one object per line, whose keys are the columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.config.schema import shown, suggest
from rllib_risk.data.importing.csv_files import not_utf8
from rllib_risk.data.importing.tables import (
    BLOCK_BYTES,
    Layout,
    Rows,
    Table,
    no_columns,
)
from rllib_risk.data.rows import DatasetError

_LONGEST_LINE = 2**26


def open_json_lines(file: Path, layout: Layout) -> Table:
    """Opens a file of JSON lines, which may be compressed with gzip.

    Nested objects give columns such as ``uav_0.x``. The first line names the columns.
    Later lines must contain the columns that are read.

    Args:
        file: The file.
        layout: Not used.

    Returns:
        The table.

    Raises:
        DatasetError: If the file is empty or its first line is not an object.
    """
    first = next(_objects(file), None)
    if first is None:
        raise no_columns(file)

    def read(wanted: Sequence[str]) -> Iterator[Rows]:
        kept: dict[str, list[Any]] = {name: [] for name in wanted}
        start = size = 0
        for line, values, length in _objects(file):
            for name, column in kept.items():
                if name not in values:
                    raise DatasetError(
                        f"{file}, line {line}: there is no {shown(name)}."
                        + suggest(name, values)
                    )
                column.append(values[name])
            start = start or line
            size += length
            if size >= BLOCK_BYTES:
                yield Rows(file, "line", np.arange(start, line + 1), kept)
                kept = {name: [] for name in wanted}
                start = size = 0
        if start:
            yield Rows(file, "line", np.arange(start, line + 1), kept)

    return Table(file, tuple(first[1]), read)


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yields number, values and length in bytes of every line."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source:
        line = 0
        while text := source.readline(_LONGEST_LINE):
            line += 1
            yield line, _object(file, line, text), len(text)


def _object(file: Path, line: int, text: bytes) -> dict[str, Any]:
    if len(text) == _LONGEST_LINE:
        raise DatasetError(
            f"{file}, line {line}: is longer than {_LONGEST_LINE // 2**20} MiB."
            " JSON lines hold one object per line"
        )
    try:
        decoded = text.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(file, line) from error
    try:
        values = json.loads(decoded, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{file}, line {line}: is no JSON object ({error}): {shown(decoded)}"
        ) from error
    if not isinstance(values, dict):
        raise DatasetError(
            f"{file}, line {line}: must hold a JSON object, not {shown(decoded)}"
        )
    return _flat(values)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{repeated!r} is there twice")
    return values


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    if not any(isinstance(value, dict) for value in values.values()):
        return values
    found: dict[str, Any] = {}
    for key, value in values.items():
        inside = _flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}.{name}" if name else key: v for name, v in inside.items()}
    return found
