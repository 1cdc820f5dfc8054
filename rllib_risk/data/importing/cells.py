"""Converts cells to numbers, names, flags and times.

Errors name row, column and value. A column comes from :mod:`.tables`: a pyarrow array,
a NumPy array, or a list of JSON values.

Letters: ``R`` rows.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rllib_risk.config.schema import shown
from rllib_risk.data.importing.tables import Column, Rows
from rllib_risk.data.rows import DatasetError

_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.I | re.A
)
# Largest number that a dataset can hold.
LARGEST = float(np.finfo(np.float32).max)
_FLAGS = pa.array(["0", "false", "0.0", "1", "true", "1.0"])
_EMPTY = "is empty"


def numbers(rows: Rows, name: str, *, gaps: bool = False) -> np.ndarray:
    """Reads a column of finite numbers that fit in 32 bits.

    Args:
        rows: The rows.
        name: Name of the column.
        gaps: Whether cells may be empty or NaN.

    Returns:
        float64 ``[R]``, or ``[R, ...]`` for a column of lists; NaN in empty cells.

    Raises:
        DatasetError: If a cell holds anything else.
    """
    values = _floats(rows, name, rows.columns[name], gaps)
    # NaN counts as wrong too.
    wrong = ~(np.abs(values) <= LARGEST)
    if gaps:
        wrong &= ~np.isnan(values)
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        value = values[place]
        text = "fit in 32 bits" if np.isfinite(value) else "count as a finite number"
        raise rows.error(place[0], name, f"{value:g} does not {text}")
    return values


def names(rows: Rows, name: str, *, gaps: bool = False) -> np.ndarray:
    """Reads a column of texts or whole numbers as texts.

    Args:
        rows: The rows.
        name: Name of the column.
        gaps: Whether cells may be empty. Their text is then empty.

    Returns:
        Texts ``[R]``, dtype object. The number 3.0 becomes ``3``.

    Raises:
        DatasetError: If a cell is empty, or is neither text nor whole number.
    """
    column = rows.columns[name]
    if isinstance(column, np.ndarray) and column.dtype.kind in "USO":
        column = _texts(rows, name, column)
    if isinstance(column, pa.Array) and pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(column, pa.Array) and _is_text(column.type):
        column = pc.utf8_trim_whitespace(column).to_pylist()
    elif not isinstance(column, list):
        column = column.tolist()  # NumPy and Arrow both have it
    return np.array(
        [_name(rows, name, i, value, gaps) for i, value in enumerate(column)], object
    )


def flags(rows: Rows, name: str, *, gaps: np.ndarray | None = None) -> np.ndarray:
    """Reads a column of flags: 0 or 1, false or true.

    Args:
        rows: The rows.
        name: Name of the column.
        gaps: Rows in which a cell may be empty, bool ``[R]``. An empty cell counts as
            false. None: no rows.

    Returns:
        bool ``[R]``, or ``[R, ...]`` for a column of lists.

    Raises:
        DatasetError: If a cell holds anything else.
    """
    column = rows.columns[name]
    if isinstance(column, np.ndarray) and column.dtype.kind in "USO":
        column = _texts(rows, name, column)
    if isinstance(column, pa.Array) and _is_text(column.type):
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        index = pc.index_in(texts, value_set=_FLAGS)
        if index.null_count:
            empty = pc.equal(texts, "").fill_null(True).to_numpy(zero_copy_only=False)
            wrong = index.is_null().to_numpy(zero_copy_only=False)
            if gaps is not None:
                wrong = wrong & ~(empty & gaps)
            if wrong.any():
                row = int(wrong.argmax())
                text = f"must be 0, 1, false or true, not {shown(column[row].as_py())}"
                raise rows.error(row, name, _EMPTY if empty[row] else text)
            index = index.fill_null(0)
        return index.to_numpy() >= len(_FLAGS) // 2
    values = numbers(rows, name, gaps=gaps is not None)
    missing = np.isnan(values)
    if gaps is not None and (missing.T & ~gaps).any():
        row = int((missing.reshape(len(rows), -1).any(axis=1) & ~gaps).argmax())
        raise rows.error(row, name, _EMPTY)
    values = np.where(missing, 0.0, values)
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        text = f"must be 0, 1, false or true, not {values[place]:g}"
        raise rows.error(place[0], name, text)
    return values == 1


def times(rows: Rows, name: str) -> np.ndarray:
    """Reads a column of times: numbers, or dates such as ``2026-01-31 12:00:00``.

    Args:
        rows: The rows.
        name: Name of the column.

    Returns:
        ``[R]``: int64 for whole numbers, datetime64[us] for dates, else float64.

    Raises:
        DatasetError: If a cell is neither, or numbers and dates are mixed.
    """
    column = rows.columns[name]
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        if column.max(initial=0) > np.iinfo(np.int64).max:
            return numbers(rows, name)
        return column.astype(np.int64)
    if isinstance(column, list):
        if all(isinstance(value, str) for value in column):
            column = pa.array(column)
    elif isinstance(column, np.ndarray) and column.dtype.kind in "USO":
        column = _texts(rows, name, column)
    if isinstance(column, pa.Array) and not column.null_count:
        kinds = [pa.int64()]
        if _is_text(column.type) or pa.types.is_temporal(column.type):
            kinds += [pa.timestamp("us"), pa.timestamp("us", "UTC")]
        for kind in kinds:
            if pa.types.is_floating(column.type):
                continue
            try:
                return pc.cast(column, kind).to_numpy(zero_copy_only=False)
            except pa.ArrowException:
                continue
    return numbers(rows, name)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _floats(rows: Rows, name: str, column: Column, gaps: bool) -> np.ndarray:
    """Converts a column to float64, with NaN for empty cells."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind in "fiub":
            return column.astype(np.float64)
        column = _texts(rows, name, column)
    if isinstance(column, list):
        return _of_values(rows, name, column, gaps)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if _is_text(kind):
        return _of_texts(rows, name, column, gaps)
    if _is_number(kind) and column.null_count:
        if not gaps:
            raise rows.error(column.is_null().to_pylist().index(True), name, _EMPTY)
        column = pc.cast(column, pa.float64(), safe=False).fill_null(np.nan)
    shape = [len(column)]
    while _is_regular(column):
        inner = column.flatten()
        shape.append(len(inner) // len(column))
        column = inner
    if _is_number(column.type) and not column.null_count:
        flat = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
        values = pc.cast(flat, pa.float64(), safe=False)
        return values.to_numpy(zero_copy_only=False).reshape(shape)
    return _of_values(rows, name, rows.columns[name].to_pylist(), gaps)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(check(kind) for check in checks)


def _is_regular(column: pa.Array) -> bool:
    """Whether all cells of a column are lists of one length."""
    kind = column.type
    if column.null_count or not len(column):
        return False
    if pa.types.is_fixed_size_list(kind):
        return True
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    lengths = pc.min_max(pc.list_value_length(column)).as_py()
    return bool(lengths["min"] == lengths["max"])


def _texts(rows: Rows, name: str, column: np.ndarray) -> pa.Array:
    """Converts a NumPy array of texts to an Arrow array."""
    if column.ndim != 1:
        raise rows.error(0, name, "holds several texts, not one")
    try:
        if column.dtype.kind == "S":
            column = np.char.decode(column, "utf-8")
        return pa.array(column.tolist(), pa.string())
    except (UnicodeError, pa.ArrowException) as error:
        raise rows.error(0, name, f"holds texts that are not UTF-8: {error}") from error


def _of_texts(rows: Rows, name: str, column: pa.Array, gaps: bool) -> np.ndarray:
    texts = pc.utf8_trim_whitespace(column)
    empty = pc.equal(texts, "").fill_null(True)
    if pc.any(empty).as_py():
        if not gaps:
            raise rows.error(empty.to_pylist().index(True), name, _EMPTY)
        texts = pc.if_else(empty, pa.scalar(None, texts.type), texts)
    if rows.decimal != ".":
        # A point would separate thousands. "?" makes the conversion fail.
        texts = pc.replace_substring(texts, ".", "?")
        texts = pc.replace_substring(texts, rows.decimal, ".")
    try:
        return pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    found = np.full(len(texts), np.nan)
    for index, text in enumerate(texts.to_pylist()):
        if text is None:
            continue
        if not _NUMBER.fullmatch(text):
            raise _no_number(rows, name, index, column[index].as_py())
        found[index] = float(text)
    return found


def _no_number(rows: Rows, name: str, index: int, text: Any) -> DatasetError:
    hint = ""
    if isinstance(text, str) and rows.decimal == "." and "," in text:
        hint = '. Numbers with a decimal comma need decimal: "," in the map'
    return rows.error(index, name, f"{shown(text)} is not a number{hint}")


def _of_values(rows: Rows, name: str, values: list[Any], gaps: bool) -> np.ndarray:
    """Converts JSON values to numbers."""
    try:
        found = np.array(values)
        if found.dtype.kind in "iuf":
            return found.astype(np.float64)
        if found.dtype.kind == "b":
            return found.astype(np.float64)
    except (ValueError, OverflowError):
        pass  # lists of different lengths, or a huge number
    given = [
        None if value is None else _nested(rows, name, index, value)
        for index, value in enumerate(values)
    ]
    shapes = [np.shape(value) for value in given if value is not None]
    shape = shapes[0] if shapes else ()
    array = np.full((len(given), *shape), np.nan)
    for index, value in enumerate(given):
        if value is None:
            if not gaps:
                raise rows.error(index, name, _EMPTY)
            continue
        if np.shape(value) != shape:
            raise rows.error(
                index,
                name,
                f"holds {_size(np.shape(value))}, and rows before hold {_size(shape)}",
            )
        array[index] = value
    return array


def _size(shape: tuple[int, ...]) -> str:
    return "one number" if not shape else " x ".join(map(str, shape)) + " numbers"


def _nested(rows: Rows, name: str, index: int, value: Any) -> Any:
    """Converts a number, or nested lists of equal lengths to an array."""
    if isinstance(value, (list, tuple)):
        inside = [_nested(rows, name, index, item) for item in value]
        if len({np.shape(item) for item in inside}) > 1:
            raise rows.error(index, name, "holds lists of several lengths")
        return np.array(inside, np.float64)
    if value is None:
        raise rows.error(index, name, "holds an empty value in a list")
    if isinstance(value, str) or not isinstance(value, (int, float)):
        raise _no_number(rows, name, index, value)
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _name(rows: Rows, name: str, index: int, value: Any, gaps: bool) -> str:
    if isinstance(value, str) and value:
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value != value or value == "":
        if gaps:
            return ""
        raise rows.error(index, name, _EMPTY)
    if isinstance(value, bool) or not isinstance(value, int):
        text = f"must be a text or a whole number, not {shown(value)}"
        raise rows.error(index, name, text)
    return str(value)
