"""Rows of a file and their positions in it: the output of all readers of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.config.schema import shown
from rllib_risk.data.rows import DatasetError

# A pyarrow array, a NumPy array [R, ...], or a list of JSON values.
Column = Any
# Size of the part of a file that is read at once.
BLOCK_BYTES = 2**22


@dataclass(frozen=True)
class Layout:
    """Separator and decimal character of a CSV file.

    Attributes:
        separator: Character between two columns.
        decimal: Decimal character of numbers.
    """

    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a file.

    Attributes:
        file: The file.
        unit: Name of a row in messages: ``line`` for text files, else ``row``.
        numbers: Number of each row in the file, int64 ``[R]``. Lines count from 1, rows
            from 0.
        columns: Columns by name, each with ``R`` rows.
        decimal: Decimal character, if numbers are texts.
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
        """Builds an error about one cell.

        Args:
            index: Index of the row in this object.
            column: Name of the column.
            text: Description of the problem, with the value.
        """
        return DatasetError(
            f"{place(self.file, self.unit, self.numbers[index])}, column"
            f" {shown(column)}: {text}"
        )


@dataclass(frozen=True)
class Table:
    """An opened file.

    Attributes:
        file: The file.
        names: Names of its columns.
        read: Function that yields blocks of rows with the given columns.
    """

    file: Path
    names: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Rows]]


def place(file: Path, unit: str, number: int) -> str:
    """Describes the position of a row for messages."""
    return f"{file}, {unit} {number}"


def no_columns(file: Path) -> DatasetError:
    """Builds the error for a file without columns."""
    return DatasetError(f"{file} is empty: it has no columns")


def refuse_repeated(file: Path, names: Sequence[str]) -> None:
    """Checks that all columns of a file have different names.

    Raises:
        DatasetError: If two columns have the same name.
    """
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"{file}: the column {shown(name)} is there twice")
