"""Rows of a file, and where they stand in it: what every reader of a format gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.config.schema import shown
from rllib_risk.data.rows import DatasetError

# A pyarrow array, a NumPy array [R, ...], or a list of what JSON holds.
Column = Any
# What is read of a file at once.
BLOCK_BYTES = 2**22


@dataclass(frozen=True)
class Layout:
    """How numbers stand in a CSV file.

    Attributes:
        separator: Character between two columns.
        decimal: Character before the decimals.
    """

    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file.

    Attributes:
        file: The file.
        unit: What its rows are called: ``line`` of a text, ``row`` of others.
        numbers: int64 ``[R]``, the number of each row, as ``unit`` counts them: lines
            from 1, rows from 0.
        columns: Columns by name, of ``R`` rows each.
        decimal: Character before the decimals, where numbers are texts.
    """

    file: Path
    unit: str
    numbers: np.ndarray
    columns: Mapping[str, Column]
    decimal: str = "."

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def error(self, index: int, column: str, text: str) -> DatasetError:
        """An error about one cell.

        Args:
            index: Of the row in this object.
            column: Name of the column.
            text: What is wrong, with the value.
        """
        return DatasetError(
            f"{place(self.file, self.unit, self.numbers[index])}, column"
            f" {shown(column)}: {text}"
        )


@dataclass(frozen=True)
class Table:
    """A file that was opened.

    Attributes:
        file: The file.
        names: Its columns.
        read: Reads the named columns, some rows at once.
    """

    file: Path
    names: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Rows]]


def place(file: Path, unit: str, number: int) -> str:
    """Where a row is, for messages."""
    return f"{file}, {unit} {number}"


def no_columns(file: Path) -> DatasetError:
    """The error of a file that holds nothing."""
    return DatasetError(f"{file} is empty: it has no columns")


def refuse_repeated(file: Path, names: Sequence[str]) -> None:
    """Refuses a file with two columns of one name.

    Raises:
        DatasetError: If there are two.
    """
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"{file}: the column {shown(name)} is there twice")
