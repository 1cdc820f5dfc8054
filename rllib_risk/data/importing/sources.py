"""Finds the files of an import and opens them."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rllib_risk.data.importing.array_files import open_hdf5, open_npz, open_parquet
from rllib_risk.data.importing.csv_files import open_csv
from rllib_risk.data.importing.json_lines import open_json_lines
from rllib_risk.data.importing.tables import Layout, Rows, Table
from rllib_risk.data.rows import DatasetError

_FORMATS: dict[str, Callable[[Path, Layout], Table]] = {
    ".csv": open_csv,
    ".csv.gz": open_csv,
    ".tsv": open_csv,
    ".jsonl": open_json_lines,
    ".jsonl.gz": open_json_lines,
    ".ndjson": open_json_lines,
    ".parquet": open_parquet,
    ".npz": open_npz,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}


def find_files(sources: Iterable[str | Path]) -> list[Path]:
    """Finds the files that sources name, in order.

    Args:
        sources: Files, folders (their files of a known format, sorted by name), or
            patterns such as ``logs/*.csv``.

    Returns:
        The files, without repeats.

    Raises:
        DatasetError: If a source does not exist, or a folder has no file of a known
            format, or a file has an unknown format.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _form(p) and p.is_file())
            if not inside:
                raise DatasetError(
                    f"{path} holds no file that can be read; there are"
                    f" {', '.join(_FORMATS)}"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            matching = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            inside = [p for p in matching if p.is_file()]
            if not inside:
                what = "only folders match" if matching else "there is no such file"
                raise DatasetError(f"{path}: {what}. Name files, or one folder")
            found += inside
    for path in found:
        if _form(path) is None:
            raise DatasetError(
                f"{path}: its format is not known; there are {', '.join(_FORMATS)}"
            )
    return list(dict.fromkeys(found))


def _form(path: Path) -> str | None:
    name = path.name.lower()
    if name.startswith("."):
        return None
    return next((form for form in _FORMATS if name.endswith(form)), None)


def open_table(file: Path, layout: Layout) -> Table:
    """Opens a file of any known format.

    Args:
        file: The file.
        layout: Layout of CSV files.

    Returns:
        The opened file.

    Raises:
        DatasetError: If the file is empty, damaged or of another format. Reading the
            table may raise it too.
    """
    form = _form(file)
    assert form is not None, "find_files gives files of known formats"
    with readable(file):
        table = _FORMATS[form](file, layout)

    def read(names: Sequence[str]) -> Iterator[Rows]:
        with readable(file):
            yield from table.read(names)

    return Table(file, table.names, read)


@contextlib.contextmanager
def readable(file: Path) -> Iterator[None]:
    """Converts any error of reading a file to a DatasetError.

    Args:
        file: The file.

    Yields:
        Nothing.

    Raises:
        DatasetError: If an exception is raised inside.
    """
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # damaged files raise any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{file} cannot be read; it is cut short, damaged or of another format:"
            f" {reason}"
        ) from error
