"""Reads CSV files as texts, which :mod:`.cells` converts to numbers.

Arrow splits the lines. Its own conversion to numbers is not used, because its errors
name neither the row nor the column.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from rllib_risk.config.schema import shown
from rllib_risk.data.importing.tables import (
    BLOCK_BYTES,
    Layout,
    Rows,
    Table,
    no_columns,
    refuse_repeated,
)
from rllib_risk.data.rows import DatasetError

_LONGEST_HEADER = 2**20
SEPARATORS = (",", ";", "\t", "|")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ROW = re.compile(r"Row #(\d+)")


def open_csv(file: Path, layout: Layout) -> Table:
    """Opens a CSV file, which may be compressed with gzip.

    Args:
        file: The file. Its first line names the columns.
        layout: Separator and decimal character of the file.

    Returns:
        The table.

    Raises:
        DatasetError: If the first line does not name columns.
    """
    names = header(file, layout.separator)
    if len(names) == 1:
        other = next((s for s in SEPARATORS if s in names[0]), None)
        if other is not None:
            raise DatasetError(
                f"{file}, line 1: there is one column, {shown(names[0])}. Set"
                f' separator: "{other}" in the map'.replace("\t", r"\t")
            )
    refuse_repeated(file, names)

    def read(wanted: Sequence[str]) -> Iterator[Rows]:
        # Read all columns: an open quote in any of them would hide rows.
        for first, batch in _batches(file, names, layout):
            texts = dict(zip(names, batch.columns, strict=True))
            _refuse_line_breaks(file, first, texts)
            yield Rows(
                file,
                "line",
                first + np.arange(len(batch)),
                {name: texts[name] for name in wanted},
                layout.decimal,
            )

    return Table(file, tuple(names), read)


def header(file: Path, separator: str) -> list[str]:
    """Reads the names in the first line of a CSV file.

    Args:
        file: The file.
        separator: Character between two columns.

    Returns:
        The names, without surrounding spaces.

    Raises:
        DatasetError: If the line is missing, too long or not text.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source:
        line = source.readline(_LONGEST_HEADER)
    if line.startswith(_UTF_16):
        raise DatasetError(f"{file} is a text in UTF-16. Save it as UTF-8")
    if not line.strip():
        raise no_columns(file)
    if len(line) == _LONGEST_HEADER or b"\0" in line:
        raise DatasetError(f"{file}, line 1: is no line of column names")
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], delimiter=separator))
    except UnicodeDecodeError as error:
        raise not_utf8(file, 1) from error
    except csv.Error as error:
        raise DatasetError(
            f"{file}, line 1: the names of columns cannot be read: {error}"
        ) from error
    return [name.strip() for name in names]


def not_utf8(file: Path, line: int) -> DatasetError:
    """Builds the error for a line that is not UTF-8."""
    return DatasetError(f"{file}, line {line}: is not UTF-8. Save the file as UTF-8")


def _batches(
    file: Path, names: list[str], layout: Layout
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields the number of the first line and the texts of each batch."""
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    line = 2
    try:
        with (
            pa.input_stream(file, compression="detect") as source,
            pa.csv.open_csv(
                source,
                pa.csv.ReadOptions(
                    use_threads=False,  # with threads Arrow does not count the rows
                    block_size=BLOCK_BYTES,
                    column_names=names,
                    skip_rows=1,
                ),
                pa.csv.ParseOptions(
                    delimiter=layout.separator,
                    ignore_empty_lines=False,
                    invalid_row_handler=note,
                ),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=False,
                ),
            ) as reader,
        ):
            for batch in reader:
                yield line, batch
                line += len(batch)
    except pa.ArrowInvalid as error:
        raise _readable(file, error, ragged) from error


def _readable(file: Path, error: Exception, ragged: list[Any]) -> DatasetError:
    """Converts an error of Arrow to a DatasetError that names the line."""
    text = str(error)
    row = _ROW.search(text)
    line = int(row[1]) if row else 0
    if ragged:
        found = ragged[-1]
        return DatasetError(
            f"{file}, line {found.number}: has {found.actual_columns} column(s), and"
            f" line 1 has {found.expected_columns}: {shown(found.text)}. A value that"
            " holds the separator must stand in quotes. A quote may be left open, or"
            " the last line cut short"
        )
    if "UTF8" in text:
        return not_utf8(file, line)
    if "straddling" in text:
        return DatasetError(
            f"{file}: a line is longer than {BLOCK_BYTES // 2**20} MiB, or a quote is"
            " left open"
        )
    return DatasetError(f"{file} cannot be read: {text}")


def _refuse_line_breaks(file: Path, first: int, texts: dict[str, pa.Array]) -> None:
    """Raises an error for values over several lines, which an open quote causes."""
    for name, column in texts.items():
        data = column.buffers()[2]
        if data is None or not (np.frombuffer(data, np.uint8) == ord("\n")).any():
            continue
        for index, text in enumerate(column.to_pylist()):
            if "\n" in text:
                raise DatasetError(
                    f"{file}, line {first + index}, column {shown(name)}:"
                    f" {shown(text)} goes over several lines. A quote may be left open"
                )
