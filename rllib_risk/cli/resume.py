"""Manages the folders of experiments and finds the run that ``--resume`` continues.

A run never mixes with an earlier one: if the folder NAME exists, the results go to
NAME-2, NAME-3 and so on. ``experiment.json`` in the folder records the settings of the
experiment at its start. ``--resume`` compares them with the present ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from rllib_risk.cli.output import note
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.schedulers import Component
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import Domain
from rllib_risk.core import tune_internals

RECORD = "experiment.json"
_STATES = "experiment_state-*.json"
# Keys of an edited file that a resumed run adopts. All other settings are stored in the
# trials, which Tune restores unchanged.
_TAKEN_OVER = (
    "stop.",
    "time_budget_s",
    "max_failures",
    "checkpoint_config.checkpoint_frequency",
    "checkpoint_config.checkpoint_at_end",
)
_LONGEST_VALUE = 80
# Free space in bytes that the disk of the results must have at the start.
_PROBE_BYTES = 2**20


@dataclass(frozen=True)
class Place:
    """Folder of an experiment's results.

    Attributes:
        storage: Folder or address of all results.
        name: Name of the experiment's folder in the storage.
        goes_on: Whether a run that stopped in the folder continues.
        remark: Text added to the first printed line.
        began_with: Record of the settings at the start; None if there is none.
    """

    storage: str
    name: str
    goes_on: bool = False
    remark: str = ""
    began_with: dict[str, Any] | None = None

    @property
    def folder(self) -> str:
        """The folder or address of the experiment."""
        return f"{self.storage.rstrip('/')}/{self.name}"


def storage_path(spec: ExperimentSpec) -> str:
    """Returns the absolute folder (or address) for results of an experiment."""
    path = spec.storage_path or tune_internals.default_storage_path()
    return path if "://" in path else str(Path(path).expanduser().resolve())


def check_storage(folder: Path) -> None:
    """Refuses a folder that results cannot be written to.

    Args:
        folder: Folder for results; created if it does not exist.

    Raises:
        ConfigError: If it is a file, is not writable, or its disk is full.
    """
    probe = folder / f".{RECORD}.probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as stream:
                stream.write(bytes(_PROBE_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        no_folder = folder.exists() and not folder.is_dir()
        reason = "it is not a folder" if no_folder else error.strerror
        raise ConfigError(
            f"storage_path: {folder} cannot be written to: {reason}. Choose another"
            " folder (--storage-path; --out of rllib compare), or free space."
        ) from error


def new_place(spec: ExperimentSpec) -> Place:
    """Reserves an unused folder by writing the record of an experiment into it.

    Args:
        spec: The experiment.

    Returns:
        The folder: NAME, or NAME-2 and so on if NAME exists.
    """
    storage = storage_path(spec)
    number = max(_numbers(storage, spec.name), default=0) + 1
    while True:
        name = spec.name if number == 1 else f"{spec.name}-{number}"
        remark = "" if number == 1 else f" ({spec.name} holds an earlier run)"
        place = Place(storage, name, remark=remark)
        try:
            if _write_record(place, record_of(spec)):
                return place
        except OSError as error:
            raise spec.located(f"storage_path: cannot be written to: {error}") from None
        number += 1  # Another command has just reserved this folder.


def stopped_place(spec: ExperimentSpec) -> Place | None:
    """Finds the newest run of an experiment.

    Args:
        spec: The experiment.

    Returns:
        The folder of the run; None if there is no run.

    Raises:
        ConfigError: If Tune's state in the folder cannot be read.
    """
    storage = storage_path(spec)
    number = max(_numbers(storage, spec.name), default=0)
    if not number:
        return None
    name = spec.name if number == 1 else f"{spec.name}-{number}"
    place = Place(storage, name)
    return Place(storage, name, has_trials(place), "", _read_record(place))


def record_of(spec: ExperimentSpec) -> dict[str, Any]:
    """Returns all settings that determine the trials, as JSON values.

    Args:
        spec: The experiment.
    """
    algorithm = spec.algorithm
    record = {
        "name": spec.name,
        "run": algorithm if isinstance(algorithm, str) else algorithm.__name__,
        "env": spec.env,
        "config": spec.config,
        "stop": spec.stop,
        "num_samples": spec.num_samples,
        "time_budget_s": spec.time_budget_s,
        "max_failures": spec.max_failures,
        "checkpoint_config": spec.checkpoint,
        "resources_per_trial": spec.resources_per_trial,
        "restore": spec.restore,
        "scheduler": spec.scheduler,
        "search_alg": spec.searcher,
        "max_concurrent_trials": spec.max_concurrent_trials,
    }
    return dict(json.loads(json.dumps(record, default=_plain)))


def _plain(value: Any) -> Any:
    if isinstance(value, Domain):
        return {value.kind: list(value.args)}
    if isinstance(value, Component):
        return {value.name: value.arguments}
    # Addresses in memory differ from run to run.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def check_changes(spec: ExperimentSpec, place: Place) -> None:
    """Prints or refuses changes of an experiment since it began.

    Args:
        spec: The experiment as the user asks for it now.
        place: The run that continues.

    Raises:
        ConfigError: If a setting was changed that the trials cannot adopt.
    """
    if not place.goes_on:
        # No trial has started yet, so every change is allowed.
        _write_record(place, record_of(spec), replace=True)
    if place.began_with is None or not place.goes_on:
        return
    begun, now = _flat(place.began_with), _flat(record_of(spec))
    changed = [
        key
        for key in sorted(begun.keys() | now.keys())
        if begun.get(key) != now.get(key)
    ]
    texts = {
        key: f"{key} was {_short(begun.get(key))} when the experiment in"
        f" {place.folder} began, and is {_short(now.get(key))} now"
        for key in changed
    }
    fixed = [key for key in changed if not key.startswith(_TAKEN_OVER)]
    if fixed:
        others = f" (Also changed: {', '.join(fixed[1:])}.)" if len(fixed) > 1 else ""
        raise spec.located(
            f"{texts[fixed[0]]}.{others} Trials that --resume continues cannot adopt"
            " this change. Undo it; or start a new run from a checkpoint: leave out"
            f" --resume, and add --restore {_newest_checkpoint(place) or 'CHECKPOINT'}."
        )
    for text in texts.values():
        note(f"--resume: {text}.")
    if changed:
        _write_record(place, record_of(spec), replace=True)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a record to keys such as ``config.env_config.width``; drops None."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _newest_checkpoint(place: Place) -> str | None:
    if "://" in place.storage:
        return None
    from rllib_risk.core.checkpoint import CheckpointError, verify_checkpoint

    found = Path(place.folder).glob("*/checkpoint_*")
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    for checkpoint in newest:
        # The last one may be incomplete, for example after a full disk.
        with contextlib.suppress(CheckpointError):
            return str(verify_checkpoint(checkpoint))
    # Checkpoints of RLlib's own algorithms cannot be checked for damage.
    return str(newest[0]) if newest else None


def _opened(storage: str) -> tuple[Any, str]:
    """Returns the file system of a storage and the path in it."""
    if "://" not in storage:
        return pafs.LocalFileSystem(), storage
    try:
        system, path = pafs.FileSystem.from_uri(storage)
    except (OSError, ValueError) as error:
        raise ConfigError(f"storage_path: {storage}: {error}") from error
    return system, str(path)


def _names_in(storage: str, *folders: str) -> list[str]:
    system, path = _opened(storage)
    selector = pafs.FileSelector("/".join((path, *folders)), allow_not_found=True)
    try:
        return [info.base_name for info in system.get_file_info(selector)]
    except OSError as error:
        raise ConfigError(f"storage_path: {error}") from error


def _numbers(storage: str, name: str) -> list[int]:
    """Returns the numbers of an experiment's runs: 1 for NAME, 2 for NAME-2."""
    numbers = []
    for entry in _names_in(storage):
        match = re.fullmatch(rf"{re.escape(name)}(?:-([1-9]\d*))?", entry)
        if match is None:
            continue
        place = Place(storage, entry)
        record = _read_record(place)
        # NAME-2 may be another experiment's name. Older versions wrote no record.
        own = record["name"] == name if record else entry == name
        if own and (record or _states(place)):
            numbers.append(int(match.group(1) or 1))
    return numbers


def _states(place: Place) -> list[str]:
    names = _names_in(place.storage, place.name)
    return sorted(name for name in names if fnmatch(name, _STATES))


def has_trials(place: Place) -> bool:
    """Returns whether a folder holds a Tune run with trials.

    Args:
        place: The folder. A damaged state file in it is renamed, because Tune reads the
            newest file and would start again if it is damaged.

    Raises:
        ConfigError: If every state file is damaged.
    """
    states = _states(place)
    if not states or "://" in place.storage:
        return bool(states)
    for state in reversed(states):
        file = Path(place.folder) / state
        try:
            return tune_internals.num_trials_in_state(file) > 0
        except ValueError as error:
            damaged = f"{file} is damaged: {error}"
            note(f"{damaged}. Using an earlier state file, if there is one.")
            file.rename(file.with_suffix(".damaged"))
    raise ConfigError(
        f"--resume: {damaged}, and there is no earlier state file. Start a new run from"
        f" a checkpoint with --restore {_newest_checkpoint(place) or 'CHECKPOINT'}."
    )


def _read_record(place: Place) -> dict[str, Any] | None:
    system, path = _opened(place.storage)
    file = f"{path}/{place.name}/{RECORD}"
    if system.get_file_info(file).type != pafs.FileType.File:
        return None
    with system.open_input_stream(file) as stream:
        text = stream.readall()
    try:
        record = json.loads(text)
        if isinstance(record, dict) and isinstance(record.get("name"), str):
            return record
        raise ValueError("it has no name")
    except (ValueError, RecursionError):
        note(f"{place.folder}/{RECORD} is damaged and is ignored.")
        return None


def _write_record(
    place: Place, record: Mapping[str, Any], *, replace: bool = False
) -> bool:
    """Writes the record; returns False if another command has just written one."""
    text = json.dumps(record, indent=2) + "\n"
    if "://" not in place.storage:
        folder = Path(place.folder)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{RECORD}.{os.getpid()}"
        part.write_text(text, encoding="utf-8")
        try:
            if replace:
                part.replace(folder / RECORD)
            else:
                # Unlike a rename, a link fails if the file exists.
                os.link(part, folder / RECORD)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True
    system, path = _opened(place.storage)
    system.create_dir(f"{path}/{place.name}")
    with system.open_output_stream(f"{path}/{place.name}/{RECORD}") as stream:
        stream.write(text.encode())
    return True
