"""Checkpoints without pickles: tensors, arrays and JSON, each with its hash.

A checkpoint folder holds ``config.json`` (what to build), ``policy.safetensors`` (both
networks), ``optimizers.safetensors``, ``replay.safetensors``, ``state.json`` (counters)
and ``manifest.json`` with the SHA-256 of the others. The manifest is written last: a
folder without a matching one was cut short.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
POLICY = "policy.safetensors"
OPTIMIZERS = "optimizers.safetensors"
REPLAY = "replay.safetensors"
STATE = "state.json"


class CheckpointError(RuntimeError):
    """A checkpoint that must not be loaded; the message says why."""


def write_checkpoint(
    folder: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    optimizers: list[torch.optim.Optimizer],
    replay: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
) -> None:
    """Writes a checkpoint.

    Args:
        folder: Existing folder.
        config: What to build, as JSON.
        tensors: Parameters by name.
        optimizers: Their state goes by position of the parameter.
        replay: Arrays by name.
        state: Counters and such, as JSON.
    """
    # Whatever an earlier attempt left is no longer vouched for.
    (folder / MANIFEST).unlink(missing_ok=True)
    _write_json(folder / CONFIG, config)
    copies = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    save_tensors(copies, folder / POLICY)
    save_tensors(_optimizer_tensors(optimizers), folder / OPTIMIZERS)
    save_arrays(
        {k: np.ascontiguousarray(v) for k, v in replay.items()}, folder / REPLAY
    )
    _write_json(folder / STATE, state)
    names = (CONFIG, POLICY, OPTIMIZERS, REPLAY, STATE)
    hashes = {name: _sha256(folder / name) for name in names}
    _write_json(folder / MANIFEST, {"format": FORMAT_VERSION, "sha256": hashes})


def verify_checkpoint(folder: Path | str) -> Path:
    """Checks that a checkpoint is whole.

    Args:
        folder: Its folder.

    Returns:
        The folder.

    Raises:
        CheckpointError: If it is missing, was cut short, was changed, or has a format
            of another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}.")
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {manifest.get('format')!r}; this version"
            f" reads format {FORMAT_VERSION}."
        )
    for name in (CONFIG, POLICY, OPTIMIZERS, REPLAY, STATE):
        path = folder / name
        if not path.is_file() or _sha256(path) != manifest.get("sha256", {}).get(name):
            raise CheckpointError(
                f"{path} does not match its checksum: the checkpoint was cut short or"
                " changed."
            )
    return folder


def newest_intact(folder: Path | str) -> Path:
    """The checkpoint itself, or the newest whole one before it.

    Args:
        folder: A checkpoint folder; the others stand beside it and end in a number.

    Returns:
        A whole checkpoint.

    Raises:
        CheckpointError: If neither it nor one before it is whole.
    """
    folder = Path(folder)
    try:
        return verify_checkpoint(folder)
    except CheckpointError as error:
        first = error
    number = _number(folder)
    if number is not None:
        siblings = [
            (n, path)
            for path in folder.parent.iterdir()
            if (n := _number(path)) is not None and n < number and path.is_dir()
        ]
        for _, path in sorted(siblings, reverse=True):
            try:
                verify_checkpoint(path)
            except CheckpointError:
                continue
            logger.warning("%s Using %s instead.", first, path)
            return path
    raise first


def read_config(folder: Path) -> dict[str, Any]:
    """What to build, from a verified checkpoint."""
    return _read_json(folder / CONFIG)


def read_state(folder: Path) -> dict[str, Any]:
    """Counters, from a verified checkpoint."""
    return _read_json(folder / STATE)


def read_replay(folder: Path) -> dict[str, np.ndarray]:
    """The replay's arrays, from a verified checkpoint."""
    return _load_safetensors(load_arrays, folder / REPLAY)


def load_parameters(folder: Path, named: Mapping[str, torch.Tensor]) -> None:
    """Copies saved parameters into tensors that exist.

    Args:
        folder: A verified checkpoint.
        named: Tensors by name; changed in place.

    Raises:
        CheckpointError: If names or shapes differ, or the file is no safetensors file.
    """
    saved = _load_safetensors(load_tensors, folder / POLICY)
    if saved.keys() != named.keys():
        odd = sorted(saved.keys() ^ named.keys())[:5]
        raise CheckpointError(
            f"{folder} was written by a network of another shape (differs in"
            f" {', '.join(odd)}). Check the configuration."
        )
    for name, tensor in named.items():
        if saved[name].shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {tuple(saved[name].shape)}, and"
                f" {tuple(tensor.shape)} is needed. Check the configuration and env."
            )
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(saved[name])


def load_optimizers(folder: Path, optimizers: list[torch.optim.Optimizer]) -> None:
    """Restores moments and step counts; learning rates stay the configuration's.

    Args:
        folder: A verified checkpoint.
        optimizers: In the order in which they were saved.
    """
    saved = _load_safetensors(load_tensors, folder / OPTIMIZERS)
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in saved.items():
            which, position, key = name.split(".")
            if int(which) == i:
                state.setdefault(int(position), {})[key] = tensor
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )


def _load_safetensors(load: Callable[[Path], dict[str, Any]], path: Path) -> dict:
    try:
        return load(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _optimizer_tensors(
    optimizers: list[torch.optim.Optimizer],
) -> dict[str, torch.Tensor]:
    tensors = {}
    for i, optimizer in enumerate(optimizers):
        for position, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                tensor = torch.as_tensor(value).detach().cpu().clone().contiguous()
                tensors[f"{i}.{position}.{key}"] = tensor
    return tensors


def _number(path: Path) -> int | None:
    match = re.search(r"_(\d+)$", path.name)
    return int(match.group(1)) if match else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.")
    return value
