"""Checkpoints without pickles: files of tensors, arrays and JSON, with checksums.

A checkpoint folder holds ``config.json`` (algorithm and configuration),
``policy.safetensors`` (parameters of all networks), ``optimizers.safetensors``,
``replay.safetensors``, ``state.json`` (counters) and ``manifest.json`` with the SHA-256
of these files. The manifest is written last. If it is missing or does not match, the
checkpoint was cut short or changed. ``rllib_checkpoint.json`` is a note for RLlib; this
package does not read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from rllib_risk.config.schema import ConfigError
from rllib_risk.env_wrappers.errors import EnvConfigError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
POLICY = "policy.safetensors"
OPTIMIZERS = "optimizers.safetensors"
REPLAY = "replay.safetensors"
STATE = "state.json"
# RLlib's own `Algorithm.from_checkpoint` and `Policy.from_checkpoint` read this file
# first. They can only load checkpoints with pickles. RLlib's error about an unknown
# version quotes this text, so that it says what to do.
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
        config: Algorithm and configuration, as JSON.
        tensors: Parameters by name.
        optimizers: Optimizers. Their state is stored by position of the parameter.
        replay: Arrays of the replay by name.
        state: Counters and other state, as JSON.
    """
    # An old manifest must not remain while files change.
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
    """Checks that a checkpoint is complete and unchanged.

    Args:
        folder: Folder of the checkpoint.

    Returns:
        The folder.

    Raises:
        CheckpointError: If it is missing, was cut short, was changed, or has the
            format of another version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}.")
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(_no_manifest(folder))
    manifest = _read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {manifest.get('format')!r}; this version"
            f" reads format {FORMAT_VERSION}."
        )
    for name in (CONFIG, POLICY, OPTIMIZERS, REPLAY, STATE):
        if not is_unchanged(folder / name):
            raise CheckpointError(
                f"{folder / name} does not match its checksum: the checkpoint was cut"
                f" short or changed.{_others(folder)}"
            )
    return folder


def is_unchanged(path: Path) -> bool:
    """Whether a file of a checkpoint exists and matches the manifest.

    Args:
        path: The file.
    """
    try:
        hashes = _read_json(path.parent / MANIFEST).get("sha256")
    except CheckpointError:
        return False
    stated = hashes.get(path.name) if isinstance(hashes, dict) else None
    return path.is_file() and _sha256(path) == stated


def _no_manifest(folder: Path) -> str:
    """Returns the error message for a folder without a manifest."""
    inside = numbered_checkpoints(folder)
    if inside:
        return (
            f"{folder} is no checkpoint but holds some. Name one of them, such as"
            f" {inside[-1]}."
        )
    if any((folder / name).is_file() for name in (CONFIG, POLICY, STATE)):
        return (
            f"{folder} holds no {MANIFEST}: the checkpoint was cut short."
            f"{_others(folder)}"
        )
    return f"{folder} is no checkpoint of this package: it holds no {MANIFEST}."


def _others(folder: Path) -> str:
    """Returns a text that names the checkpoint before a damaged one, or ``""``."""
    number = checkpoint_number(folder)
    before = [
        path
        for path in numbered_checkpoints(folder.parent)
        if checkpoint_number(path) < number
    ]
    return f" The one before it is {before[-1]}." if before else ""


def checkpoint_number(folder: Path) -> int:
    """Returns the number in the name that Tune gives to a trial's checkpoint.

    Args:
        folder: A folder.

    Returns:
        For example 7 for ``checkpoint_000007``; -1 for any other name.
    """
    match = re.fullmatch(r"checkpoint_(\d{6,})", folder.name)
    return int(match.group(1)) if match else -1


def numbered_checkpoints(trial: Path) -> list[Path]:
    """Returns the checkpoint folders of a trial, complete or not, by their number.

    Args:
        trial: Folder of the trial.

    Returns:
        Folders ``checkpoint_NNNNNN``.
    """
    found = (p for p in trial.iterdir() if checkpoint_number(p) >= 0 and p.is_dir())
    return sorted(found, key=checkpoint_number)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads algorithm and configuration from a verified checkpoint."""
    return _read_json(folder / CONFIG)


def read_state(folder: Path) -> dict[str, Any]:
    """Reads counters and other state from a verified checkpoint."""
    return _read_json(folder / STATE)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns errors from unexpected contents of a checkpoint into a CheckpointError.

    Args:
        folder: A verified checkpoint. Its contents may still come from another program
            or be forged.

    Yields:
        Nothing.

    Raises:
        CheckpointError: If the contents do not have the form that this version writes.
    """
    try:
        yield
    except (CheckpointError, ConfigError, EnvConfigError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} has other contents than this version writes"
            f" ({type(error).__name__}: {error})."
        ) from error


def read_replay(folder: Path) -> dict[str, np.ndarray]:
    """Reads the replay's arrays from a verified checkpoint."""
    return _load_safetensors(load_arrays, folder / REPLAY)


def load_parameters(folder: Path, named: Mapping[str, torch.Tensor]) -> None:
    """Copies saved parameters into existing tensors.

    Args:
        folder: A verified checkpoint.
        named: Tensors by name; changed in place.

    Raises:
        CheckpointError: If names, shapes or types differ, a number is not finite, or
            the file is no safetensors file.
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
        if saved[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{folder}: {name} has type {saved[name].dtype}, and {tensor.dtype} is"
                " needed."
            )
        if not torch.isfinite(saved[name]).all():
            raise CheckpointError(
                f"{folder / POLICY}: {name} holds NaN or infinity, so the network"
                " cannot act. Take an earlier checkpoint."
            )
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(saved[name])


def load_optimizers(folder: Path, optimizers: list[torch.optim.Optimizer]) -> None:
    """Restores moments and step counts; learning rates stay as configured.

    Args:
        folder: A verified checkpoint.
        optimizers: Optimizers, in the order in which they were saved.
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
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object.")
    return value
