"""Reads and writes the files of an artefact; every byte is covered by a checksum.

``policy.json`` describes the team and lists the operations of its networks.
``policy.safetensors`` holds the weights. ``manifest.json`` holds the SHA-256 of every
other file. An artefact in ONNX format has ``.onnx`` files in place of the weights.
Reading runs no code of the artefact.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.deploy.errors import ArtefactError

FORMAT_VERSION = 2
# Formats 1 and 2 differ only in the provenance.
READABLE_VERSIONS = (1, FORMAT_VERSION)
MANIFEST = "manifest.json"
POLICY = "policy.json"
TENSORS = "policy.safetensors"

# The dtypes of networks, by their names in the safetensors format.
_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "|b1"}
_LENGTH_BYTES = 8


def as_json(value: Any) -> str:
    """Formats a value as JSON text, always in the same form."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_manifest(folder: Path, names: list[str]) -> None:
    """Writes the manifest, with checksums of the files.

    Args:
        folder: Folder of the artefact.
        names: Names of its other files.
    """
    text = _manifest(folder, sorted(names), FORMAT_VERSION)
    (folder / MANIFEST).write_text(text)


def _manifest(folder: Path, names: list[str], version: int) -> str:
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
    }
    return as_json({"format": version, "sha256": hashes})


def read_policy(folder: Path | str) -> tuple[Path, dict[str, Any]]:
    """Checks that an artefact is undamaged, and reads ``policy.json``.

    Args:
        folder: Folder of the artefact.

    Returns:
        The folder, and the contents of ``policy.json``.

    Raises:
        ArtefactError: If the folder is missing or not an artefact, a file in it is cut
            short or changed, a file of the team has no checksum, or the artefact has a
            later format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtefactError(f"There is no folder {folder}. Give an exported folder.")
    path = folder / MANIFEST
    if not path.is_file() or not (folder / POLICY).is_file():
        raise ArtefactError(
            f"{folder} is not an exported team: {MANIFEST} or {POLICY} is missing."
            " Write one with: rllib export CHECKPOINT --out FOLDER"
        )
    manifest = read_json(path)
    version = manifest.get("format")
    # True equals 1, and 2.0 equals 2, but neither is what this package writes.
    if type(version) is not int or version not in READABLE_VERSIONS:
        raise ArtefactError(
            f"{path} has format {version!r}, but this version reads formats"
            f" {' and '.join(map(str, READABLE_VERSIONS))}. Install a later version of"
            " rllib_risk."
        )
    names = manifest.get("sha256")
    if not isinstance(names, dict) or POLICY not in names:
        raise ArtefactError(
            f"{path} does not list {POLICY}: it was changed. Export the team again."
        )
    for name in names:
        if name in (MANIFEST, "") or Path(name).name != name:
            raise ArtefactError(
                f"{path} lists {name!r}, which is not a file in its folder: it was"
                " changed. Export the team again."
            )
        if not (folder / name).is_file():
            raise ArtefactError(f"{folder / name} is missing. Export the team again.")
    # The files determine every byte of the manifest.
    whole = _manifest(folder, sorted(names), version)
    if path.read_bytes() != whole.encode():
        right = json.loads(whole)["sha256"]
        odd = next((n for n in right if right[n] != names[n]), MANIFEST)
        raise ArtefactError(
            f"{folder / odd} does not match its checksum: it was cut short or changed."
            " Copy the folder again, or export the team again."
        )
    policy = read_json(folder / POLICY)
    # Every name in the manifest is that of a file in the folder.
    for name in _files_of(policy, folder / POLICY) - names.keys():
        raise ArtefactError(
            f"{path} does not list {name!r}, from which the team is read: it was"
            " changed. Export the team again."
        )
    return folder, policy


def _files_of(policy: dict[str, Any], path: Path) -> set[str]:
    """Returns the names of the files from which a team is read, beside its policy."""
    try:
        return {TENSORS, *policy.get("onnx", {}).get("files", [])}
    except (AttributeError, TypeError) as error:
        raise ArtefactError(
            f"{path} has an entry 'onnx' that this version cannot read: {error}."
            " Export the team again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        ArtefactError: If the file cannot be read or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{path} does not hold a JSON object.")
    return value


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file: a length, a JSON header of that length, and the data.

    Args:
        path: The file.

    Returns:
        Read-only arrays by name.

    Raises:
        ArtefactError: If the file is damaged or holds dtypes that networks do not have.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    try:
        header = json.loads(content[_LENGTH_BYTES:start])
        header.pop("__metadata__", None)
        return {name: _tensor(content, start, entry) for name, entry in header.items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(
            f"{path} is not a safetensors file that this version can read"
            f" ({type(error).__name__}: {error}). Export the team again."
        ) from error


def _tensor(content: bytes, start: int, entry: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
    first, last = entry["data_offsets"]
    if last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} does not have {last - first} bytes")
    flat = np.frombuffer(content, dtype, math.prod(shape), start + first)
    return flat.reshape(shape)
