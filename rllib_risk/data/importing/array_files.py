"""Reads Parquet, NPZ and HDF5 files in blocks of rows."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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

_PARQUET_ROWS = 8192
# Reads the next rows of one array.
_Take = Callable[[int], np.ndarray]
# Shape of an array, whether it is in Fortran order, and its type.
_Facts = tuple[tuple[int, ...], bool, np.dtype]


def open_parquet(file: Path, layout: Layout) -> Table:
    """Opens a Parquet file. Memory holds one group of its rows at a time.

    Args:
        file: The file. Fields of structs are columns such as ``uav_0.x``.
        layout: Not used.

    Returns:
        The table.
    """
    with pq.ParquetFile(file) as opened:
        names = opened.schema_arrow.empty_table().flatten().column_names
    if not names:
        raise no_columns(file)
    refuse_repeated(file, names)

    def read(wanted: Sequence[str]) -> Iterator[Rows]:
        first = 0
        with pq.ParquetFile(file) as opened:
            top = {name: name in opened.schema_arrow.names for name in wanted}
            asked = [n if top[n] else n.partition(".")[0] for n in wanted]
            for batch in opened.iter_batches(
                _PARQUET_ROWS, columns=list(dict.fromkeys(asked)), use_threads=False
            ):
                table = pa.Table.from_batches([batch]).flatten()
                columns = {n: pa.concat_arrays(table[n].chunks) for n in wanted}
                numbers = np.arange(first, first + len(batch))
                yield Rows(file, "row", numbers, columns)
                first += len(batch)

    return Table(file, tuple(names), read)


def open_npz(file: Path, layout: Layout) -> Table:
    """Opens an NPZ file, whose arrays ``[R, ...]`` are the columns.

    Arrays in C order are read in blocks of rows, other arrays as a whole.

    Args:
        file: The file. Arrays of Python objects raise an error, because reading them
            runs code.
        layout: Not used.

    Returns:
        The table.
    """
    with zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        shapes: dict[str, _Facts] = {}
        for name, member in members.items():
            with archive.open(member) as source:
                shapes[name] = _npy_header(source)

    def read(wanted: Sequence[str]) -> Iterator[Rows]:
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(file))
            takes: dict[str, _Take] = {}
            for name in wanted:
                source = stack.enter_context(archive.open(members[name]))
                takes[name] = _npy_reader(source, *_npy_header(source))
            yield from _read_arrays(file, shapes, takes)

    return _array_table(file, shapes, read)


def open_hdf5(file: Path, layout: Layout) -> Table:
    """Opens an HDF5 file, whose data sets ``[R, ...]`` are the columns.

    Args:
        file: The file. A data set in a group is a column such as ``uav_0/obs``.
        layout: Not used.

    Returns:
        The table.

    Raises:
        DatasetError: If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DatasetError(
            f"{file}: reading HDF5 needs h5py: pip install 'rllib-risk[hdf5]'"
        ) from error
    shapes: dict[str, _Facts] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            is_text = h5py.check_string_dtype(item.dtype) is not None
            kind = np.dtype("U") if is_text else item.dtype
            shapes[name] = (item.shape or (), False, kind)

    with h5py.File(file, "r") as opened:
        opened.visititems(note)

    def take_of(array: Any) -> _Take:
        at = 0

        def take(count: int) -> np.ndarray:
            nonlocal at
            part = array[at : at + count]
            at += count
            return np.asarray(part)

        return take

    def read(wanted: Sequence[str]) -> Iterator[Rows]:
        with h5py.File(file, "r") as opened:
            takes = {
                name: take_of(
                    opened[name].asstr()
                    if shapes[name][2].kind == "U"
                    else opened[name]
                )
                for name in wanted
            }
            yield from _read_arrays(file, shapes, takes)

    return _array_table(file, shapes, read)


def _array_table(
    file: Path,
    shapes: Mapping[str, _Facts],
    read: Callable[[Sequence[str]], Iterator[Rows]],
) -> Table:
    if not shapes:
        raise no_columns(file)

    def checked(wanted: Sequence[str]) -> Iterator[Rows]:
        first = wanted[0]
        for name in wanted:
            shape, _, dtype = shapes[name]
            if dtype.kind not in "fiubUS":
                raise DatasetError(
                    f"{file}: {shown(name)} is of type {dtype}; arrays must hold"
                    " numbers or texts"
                )
            if not shape:
                raise DatasetError(
                    f"{file}: {shown(name)} is a single value; arrays must have rows"
                )
            if shape[0] != shapes[first][0][0]:
                raise DatasetError(
                    f"{file}: {shown(name)} has shape {shapes[name][0]}, and"
                    f" {shown(first)} has {shapes[first][0]}; both must have as many"
                    " rows"
                )
        return read(wanted)

    return Table(file, tuple(shapes), checked)


def _read_arrays(
    file: Path, shapes: Mapping[str, _Facts], takes: Mapping[str, _Take]
) -> Iterator[Rows]:
    sizes = (np.prod(shapes[n][0][1:]) * shapes[n][2].itemsize for n in takes)
    step = max(int(BLOCK_BYTES // max(sum(sizes), 1)), 1)
    total = shapes[next(iter(takes))][0][0]
    for first in range(0, total, step):
        count = min(step, total - first)
        columns = {name: take(count) for name, take in takes.items()}
        for name, column in columns.items():
            if len(column) < count:
                raise DatasetError(
                    f"{file}, row {first + len(column)}: {shown(name)} is cut short"
                )
        yield Rows(file, "row", np.arange(first, first + count), columns)


def _npy_header(source: Any) -> _Facts:
    if np.lib.format.read_magic(source) == (1, 0):
        return np.lib.format.read_array_header_1_0(source)
    return np.lib.format.read_array_header_2_0(source)


def _npy_reader(
    source: Any, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> _Take:
    """Returns a function that reads the next rows of an array from a stream."""
    whole = shape[1:]
    row_bytes = int(np.prod(whole, dtype=np.int64)) * dtype.itemsize
    if fortran and whole:
        stored = np.frombuffer(source.read(), dtype).reshape(shape[::-1]).T
        source = io.BytesIO(stored.tobytes())
    left = shape[0]

    def take(count: int) -> np.ndarray:
        nonlocal left
        data = source.read(count * row_bytes)
        left -= count
        if not left and source.read(1):
            raise ValueError("an array is longer than it says")
        found = len(data) // row_bytes if row_bytes else count
        return np.frombuffer(data[: found * row_bytes], dtype).reshape(found, *whole)

    return take
