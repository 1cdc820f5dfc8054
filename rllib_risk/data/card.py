"""The card of a dataset: what it is of, who acted, and what its files look like.

The card holds a hash of every file. Its ``card_hash`` is the SHA-256 of its other
values as JSON, with sorted keys and no spaces. Cards of format 1 (version 0.1 of this
package) have no ``card_hash``. They are read, and only their files are covered.
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
# The last format without a hash of the card.
_WITHOUT_HASH = 1
_RETURNS = ("mean", "std", "min", "max")


@dataclass(frozen=True)
class Shard:
    """One file of a dataset.

    Attributes:
        file: Its name.
        rows: Env steps in it.
        episodes: Whole episodes in it.
        sha256: Of its bytes.
    """

    file: str
    rows: int
    episodes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """What ``dataset.json`` says.

    Attributes:
        env: Name of the environment; None if it is unknown.
        env_config: Its arguments.
        agents: Names of the agents, in the order of all lists.
        sizes: Sizes of the team, as the contract pads them.
        behaviour: Who acted: ``policy``, and what belongs to it (checkpoint, epsilon,
            preset, ...).
        seed: Of the recording; None if there was none.
        num_episodes: How many.
        num_steps: Env steps of all of them.
        returns: ``mean``, ``std``, ``min`` and ``max`` of the undiscounted returns.
        shards: The files, in order.
        reward: What the reward is, in words.
        version: Of this format.
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
        """SHA-256 over the shards' hashes: equal data have equal ones."""
        text = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_hashed(self) -> bool:
        """Whether the card holds a hash of itself."""
        return self.version > _WITHOUT_HASH

    def write(self, folder: Path) -> None:
        """Writes ``dataset.json``, the last file of a dataset to appear.

        Args:
            folder: The dataset.

        Raises:
            DatasetError: If it holds values that JSON cannot hold, or that cannot be.
        """
        if wrong := _wrong_value(self):
            raise DatasetError(f"{folder / CARD}: {wrong}")
        try:
            # As they are read: lists for tuples, texts for keys.
            values = json.loads(json.dumps(asdict(self), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"{folder / CARD} cannot hold env_config or behaviour: {error}"
            ) from error
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
        folder: The dataset.

    Returns:
        The card.

    Raises:
        DatasetError: If there is none, it is not whole, it was changed, or it names
            files outside of the folder.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{folder} is no dataset: it holds no {CARD}. rllib record writes one,"
            " rllib dataset import makes one of other formats"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    try:
        version = values["version"]
        known = (_WITHOUT_HASH, FORMAT_VERSION)
        if not _is_count(version, 1) or version not in known:
            raise DatasetError(
                f"{path} has format {version}, and this version reads formats"
                f" {_WITHOUT_HASH} and {FORMAT_VERSION}"
            )
        if version > _WITHOUT_HASH and values.pop("card_hash") != _hash_of(values):
            raise DatasetError(
                f"{path} was changed or is damaged: its card_hash is not that of its"
                " other values"
            )
        stated = values.pop("content_hash")
        card = Card(
            **values
            | {
                "agents": tuple(values["agents"]),
                "sizes": TeamSizes(**values["sizes"]),
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
            f"{path} was changed: its content_hash is not that of its shards"
        )
    return card


def _hash_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values of a card, however its file is laid out."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong_value(card: Card) -> str | None:
    """Says which value of a card cannot be; None if all can."""
    for shard in card.shards:
        if wrong := _wrong_shard(shard):
            return wrong
    files = [shard.file for shard in card.shards]
    sizes, returns = card.sizes, card.returns
    numbers = (sizes.num_agents, sizes.num_actions, sizes.obs_size, sizes.state_size)
    rules: dict[str, bool] = {
        "shards: there must be at least one, each with a name of its own": bool(files)
        and len(set(files)) == len(files),
        "sizes: must be whole numbers; at least one agent and one action": all(
            _is_count(n, 0) for n in numbers
        )
        and min(sizes.num_agents, sizes.num_actions) > 0,
        "agents: must be different names, one for each agent of sizes": all(
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
    """Says what of a shard cannot be; None if all can."""
    name = shard.file
    if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+", name):
        return (
            f"shards: {name!r} is no name of a file in the folder; files outside of it"
            " are not read"
        )
    if name in (".", ".."):
        return f"shards: {name!r} is no name of a file"
    if not (_is_count(shard.episodes, 1) and _is_count(shard.rows, shard.episodes)):
        return f"shards: {name} must have at least one row for each of its episodes"
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
