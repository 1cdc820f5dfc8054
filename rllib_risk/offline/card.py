"""The card of a dataset: what it is of, who acted, and what its files look like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rllib_risk.models.sizes import TeamSizes
from rllib_risk.offline.rows import DatasetError

CARD = "dataset.json"
FORMAT_VERSION = 1


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
        env: Name of the environment; None if nobody knows.
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

    def write(self, folder: Path) -> None:
        """Writes ``dataset.json``, the last file of a dataset to appear."""
        values = asdict(self) | {"content_hash": self.content_hash}
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (folder / CARD).write_text(text)


def read_card(folder: Path) -> Card:
    """Reads and checks ``dataset.json``.

    Args:
        folder: The dataset.

    Returns:
        The card.

    Raises:
        DatasetError: If there is none, or it is not whole.
    """
    path = folder / CARD
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(
            f"{folder} is no dataset: it holds no {CARD}. rllib record writes one,"
            " rllib dataset import makes one of other formats"
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    try:
        version, stated = values.pop("version"), values.pop("content_hash")
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"{path} has format {version}, and this version reads {FORMAT_VERSION}"
            )
        card = Card(
            **values
            | {
                "agents": tuple(values["agents"]),
                "sizes": TeamSizes(**values["sizes"]),
                "shards": tuple(Shard(**shard) for shard in values["shards"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is not whole: {error}") from error
    if card.content_hash != stated:
        raise DatasetError(
            f"{path} was changed: its content_hash is not that of its shards"
        )
    return card


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
