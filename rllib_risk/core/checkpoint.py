"""Checkpoints without pickles: tensors, arrays and JSON, each with its hash.

A checkpoint folder holds ``config.json`` (what to build), ``policy.safetensors`` (both
networks), ``optimizers.safetensors``, ``replay.safetensors``, ``state.json`` (counters)
and ``manifest.json`` with the SHA-256 of the others. The manifest is written last: a
folder without a matching one was cut short. ``rllib_checkpoint.json`` is a note for
RLlib; this package does not read it.
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
# What RLlib's own `Algorithm.from_checkpoint` and `Policy.from_checkpoint` read first.
# They could only load a checkpoint from pickles. RLlib reports a version that it cannot
# read with this text, so that its error says what to do.
RLLIB_NOTE = "rllib_checkpoint.json"
_NOTE = {
    "type": "rllib_risk",
    "checkpoint_version": "none of RLlib's. This is a checkpoint of rllib_risk. Load it"
    " with rllib_risk.load(path); the policy is rllib_risk.load(path).team_policy",
}


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
    _write_json(folder / RLLIB_NOTE, _NOTE)
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
    """The checkpoint itself, or the newest whole one of the same trial before it.

    Another checkpoint is taken only in place of a damaged one. A folder that does not
    exist is a wrong path.

    Args:
        folder: A checkpoint folder. Tune names those of a trial ``checkpoint_000001``
            and so on.

    Returns:
        A whole checkpoint.

    Raises:
        CheckpointError: If the folder does not exist, or neither it nor one before it
            is whole.
    """
    folder = Path(folder)
    try:
        return verify_checkpoint(folder)
    except CheckpointError as error:
        if not folder.is_dir():
            raise
        first = error
    number = checkpoint_number(folder)
    for path in reversed(numbered_checkpoints(folder.parent)):
        if checkpoint_number(path) >= number:
            continue
        try:
            verify_checkpoint(path)
        except CheckpointError:
            continue
        logger.warning("%s Using %s instead.", first, path)
        return path
    raise first


def checkpoint_number(folder: Path) -> int:
    """The number in a name that Tune gives to a trial's checkpoints.

    Args:
        folder: A folder.

    Returns:
        Such as 7 of ``checkpoint_000007``; -1 of any other name.
    """
    match = re.fullmatch(r"checkpoint_(\d{6,})", folder.name)
    return int(match.group(1)) if match else -1


def numbered_checkpoints(trial: Path) -> list[Path]:
    """Checkpoint folders of a trial, whole or not, in the order they were written.

    Args:
        trial: Folder of the trial.

    Returns:
        Folders ``checkpoint_NNNNNN``.
    """
    found = (p for p in trial.iterdir() if checkpoint_number(p) >= 0 and p.is_dir())
    return sorted(found, key=checkpoint_number)


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
