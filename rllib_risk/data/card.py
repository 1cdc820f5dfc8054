"""The card of a dataset: its environment, behaviour policy and files.

The card contains a hash of every file. Its ``card_hash`` is the SHA-256 of its other
values as JSON, with sorted keys and without spaces. Cards of format 1 (version 0.1 of
this package) have no ``card_hash``. They can be read, but only their files are checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rllib_risk.data.rows import DatasetError
from rllib_risk.data.sizes import TeamSizes

CARD = "dataset.json"
FORMAT_VERSION = 2
# The last format without card_hash.
_WITHOUT_HASH = 1
_RETURNS = ("mean", "std", "min", "max")


@dataclass(frozen=True)
class Shard:
    """One file of a dataset.

    Attributes:
        file: Name of the file.
        rows: Number of env steps in it.
        episodes: Number of whole episodes in it.
        sha256: SHA-256 of the file.
    """

    file: str
    rows: int
    episodes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """The contents of ``dataset.json``.

    Attributes:
        env: Name of the environment; None if unknown.
        env_config: Arguments of the environment.
        agents: Names of the agents, in the order of all lists.
        sizes: Sizes of the team after padding.
        behaviour: Description of the behaviour policy: ``policy``, and its details
            (checkpoint, epsilon, preset, ...).
        seed: Seed of the recording; None if there was none.
        num_episodes: Number of episodes.
        num_steps: Number of env steps of all episodes.
        returns: ``mean``, ``std``, ``min`` and ``max`` of the undiscounted returns.
        shards: The files, in order.
        reward: Description of the reward.
        version: Version of the format.
    """

    env: str | None
    env_config: Mapping[str, Any]
    agents: tuple[str, ...]
    sizes: TeamSizes
    behaviour: Mapping[str, Any]
    seed: int | None
    num_episodes: int
    num_steps: int
    returns: Mapping[str, float]
    shards: tuple[Shard, ...] = ()
    reward: str = "the team's, the same for every agent"
    version: int = field(default=FORMAT_VERSION)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the shards' hashes; equal for equal data."""
        text = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_hashed(self) -> bool:
        """Whether the card contains a hash of itself."""
        return self.version > _WITHOUT_HASH

    def write(self, folder: Path) -> None:
        """Writes ``dataset.json``, which is the last file of a dataset to be written.

        Args:
            folder: Folder of the dataset.

        Raises:
            DatasetError: If a value is invalid, or JSON cannot represent it.
        """
        if wrong := _wrong_value(self):
            raise DatasetError(f"{folder / CARD}: {wrong}")
        try:
            # Convert to the types that a reader gets: lists for tuples, texts for keys.
            values = json.loads(json.dumps(asdict(self), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"{folder / CARD} cannot hold env_config or behaviour: {error}"
            ) from error
        if self.sizes.image is None:
            del values["sizes"]["image"]
        values["content_hash"] = self.content_hash
        if self.is_hashed:
            values["card_hash"] = _hash_of(values)
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        part = folder / f".{CARD}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / CARD)


def read_card(folder: Path) -> Card:
    """Reads and checks ``dataset.json``.

    Args:
        folder: Folder of the dataset.

    Returns:
        The card.

    Raises:
        DatasetError: If the card is missing, incomplete or changed, or it names files
            outside of the folder.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{folder} is no dataset: it holds no {CARD}. Record a dataset with rllib"
            " record, or convert another format with rllib dataset import"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    try:
        version = values["version"]
        known = (_WITHOUT_HASH, FORMAT_VERSION)
        if not _is_count(version, 1) or version not in known:
            raise DatasetError(
                f"{path} has format {version}, but this version reads formats"
                f" {_WITHOUT_HASH} and {FORMAT_VERSION}"
            )
        if version > _WITHOUT_HASH and values.pop("card_hash") != _hash_of(values):
            raise DatasetError(
                f"{path} was changed or is damaged: its card_hash does not match its"
                " other values. Restore the file"
            )
        stated = values.pop("content_hash")
        card = Card(
            **values
            | {
                "agents": tuple(values["agents"]),
                "sizes": _sizes(values["sizes"]),
                "shards": tuple(Shard(**shard) for shard in values["shards"]),
            }
        )
        wrong = _wrong_value(card)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"{path} is not whole: {type(error).__name__}: {error}"
        ) from error
    if wrong is not None:
        raise DatasetError(f"{path}: {wrong}")
    if card.content_hash != stated:
        raise DatasetError(
            f"{path} was changed: its content_hash does not match its shards. Restore"
            " the file"
        )
    return card


def _sizes(values: Mapping[str, Any]) -> TeamSizes:
    image = values.get("image")
    return TeamSizes(**{**values, "image": None if image is None else tuple(image)})


def _hash_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values of a card, independent of the file's layout."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong_value(card: Card) -> str | None:
    """Describes the first invalid value of a card; None if all are valid."""
    for shard in card.shards:
        if wrong := _wrong_shard(shard):
            return wrong
    files = [shard.file for shard in card.shards]
    sizes, returns = card.sizes, card.returns
    numbers = (sizes.num_agents, sizes.num_actions, sizes.obs_size, sizes.state_size)
    rules: dict[str, bool] = {
        "shards: there must be at least one, and their names must differ": bool(files)
        and len(set(files)) == len(files),
        "sizes: must be whole numbers, with at least one agent and one action": all(
            _is_count(n, 0) for n in numbers
        )
        and min(sizes.num_agents, sizes.num_actions) > 0,
        "sizes: image must hold height, width and channels, and obs_size their"
        " product": sizes.image is None
        or (
            len(sizes.image) == 3
            and all(_is_count(n, 1) for n in sizes.image)
            and math.prod(sizes.image) == sizes.obs_size
        ),
        "agents: must be different names, one per agent in sizes": all(
            isinstance(name, str) for name in card.agents
        )
        and len(set(card.agents)) == len(card.agents) == sizes.num_agents,
        "env: must be a text or null": card.env is None or isinstance(card.env, str),
        "env_config, behaviour: must be objects": isinstance(card.env_config, Mapping)
        and isinstance(card.behaviour, Mapping),
        "seed: must be a whole number or null": card.seed is None
        or _is_count(card.seed, 0),
        "num_episodes, num_steps: must be the sums over the shards": (
            card.num_episodes == sum(shard.episodes for shard in card.shards)
            and card.num_steps == sum(shard.rows for shard in card.shards)
        ),
        f"returns: must hold finite numbers {', '.join(_RETURNS)}": all(
            _is_finite(returns.get(name)) for name in _RETURNS
        ),
    }
    return next((text for text, kept in rules.items() if not kept), None)


def _wrong_shard(shard: Shard) -> str | None:
    """Describes the first invalid value of a shard; None if all are valid."""
    name = shard.file
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+", name):
        return (
            f"shards: {name!r} is no name of a file in the folder; files outside of it"
            " are not read"
        )
    if name in (".", ".."):
        return f"shards: {name!r} is no name of a file"
    if not (_is_count(shard.episodes, 1) and _is_count(shard.rows, shard.episodes)):
        return f"shards: {name} must have at least one row per episode"
    if not re.fullmatch(r"[0-9a-f]{64}", shard.sha256):
        return f"shards: {name} must have a SHA-256"
    return None


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < math.inf


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
