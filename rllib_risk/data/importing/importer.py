"""Imports files of any layout as a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.data.card import Card
from rllib_risk.data.dataset import write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.importing.assembly import Assembler, Report
from rllib_risk.data.importing.map_reader import read_map
from rllib_risk.data.importing.mapping import ColumnMap
from rllib_risk.data.importing.sources import find_files, open_table
from rllib_risk.data.importing.steps import StepReader
from rllib_risk.data.rows import DatasetError

# Maximum number of file names that a card lists.
_MAX_FILES = 20


def import_files(
    out: str | Path,
    sources: Sequence[str | Path],
    map_file: str | Path,
    *,
    env: str | None = None,
    env_config: Mapping[str, Any] | None = None,
) -> tuple[Card, Report]:
    """Imports logs of a team in blocks of rows.

    Memory holds a block of rows, one incomplete episode, and the episodes of one file
    of the dataset.

    Args:
        out: Folder of the dataset. It is created, or must be empty.
        sources: Files, folders or patterns: CSV, JSON lines, Parquet, NPZ, HDF5.
        map_file: The map, in YAML; see ``docs/data_import.md``.
        env: Name of the data's environment; None if unknown.
        env_config: Arguments of the environment.

    Returns:
        The dataset's card, and a report of changed episodes.

    Raises:
        ConfigError: If the map is invalid or does not match the files.
        DatasetError: If a file cannot be read or holds an invalid value. The message
            names file, row and column. Nothing stays in ``out``.
    """
    columns = read_map(Path(map_file).expanduser())
    files = find_files(sources)
    report = Report()
    behaviour: dict[str, Any] = {
        "imported": ", ".join(file.name for file in files[:_MAX_FILES]),
        "format": "map",
    }
    if len(files) > _MAX_FILES:
        behaviour["imported"] += f" and {len(files) - _MAX_FILES} more"
    if columns.labels:
        behaviour["action_labels"] = list(columns.labels)
    card = write_dataset(
        Path(out).expanduser(),
        _episodes(files, columns, report),
        env=env,
        env_config=env_config or {},
        agents=columns.agents,
        behaviour=behaviour,
        seed=None,
    )
    return card, report


def _episodes(
    files: list[Path], columns: ColumnMap, report: Report
) -> Iterator[Episode]:
    reader = StepReader(columns)
    assembler = Assembler(columns, report)
    some = False
    for file in files:
        for steps in reader.read(open_table(file, columns.layout)):
            some = True
            yield from assembler.episodes([steps], reader.available)
    if not some:
        raise DatasetError(f"{files[0]}: there is no row")
    yield from assembler.finish(reader.available)
