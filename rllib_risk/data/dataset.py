"""Writes and reads datasets: a folder of Parquet files and a card.

A reader streams: it holds one group of rows and the episode that it is putting
together, however large the dataset is. ``ray.data.read_parquet(folder)`` opens the same
files for everything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_risk.data.card import CARD, Card, Shard, file_hash, read_card
from rllib_risk.data.episodes import Episode
from rllib_risk.data.rows import (
    EPISODE,
    DatasetError,
    episodes_of,
    schema,
    sizes_of,
    to_table,
)
from rllib_risk.data.segments import bytes_per_row
from rllib_risk.data.sizes import TeamSizes

ROWS_PER_SHARD = 50_000
# A shard of large observations has fewer rows: about these bytes before compression.
BYTES_PER_SHARD = 2**27
# What is read at once: a part of a file that is compressed on its own.
BYTES_PER_GROUP = 2**21


def write_dataset(
    folder: str | Path,
    episodes: Iterable[Episode],
    *,
    agents: Iterable[str] | None = None,
    env: str | None = None,
    env_config: Mapping[str, Any] | None = None,
    behaviour: Mapping[str, Any] | None = None,
    seed: int | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Card:
    """Writes episodes as they come.

    The card appears last: a folder without one was cut short. What was written is
    removed again if something fails.

    Args:
        folder: Where to; made if it does not exist, and refused if it is not empty.
        episodes: What to write, such as :func:`.arrays.make_episode` makes of arrays;
            one shard of them is held at a time.
        agents: Names of the agents, in the order of the arrays; None: ``agent_0`` and
            so on.
        env: Name of the environment; None: not known.
        env_config: Its arguments.
        behaviour: Who acted, such as ``{"policy": "shift plan of 2025"}``.
        seed: Of the recording; None: there was none.
        rows_per_shard: Env steps of a file, or a few more: episodes are not split.

    Returns:
        The card.

    Raises:
        DatasetError: If the folder is taken or cannot be written to, there is not one
            episode, or an episode holds values that cannot be.
    """
    folder = Path(folder)
    if isinstance(agents, str):
        raise DatasetError(f"agents must be a list of names, not {agents!r}")
    with _written_whole(folder):
        return _write(
            folder,
            episodes,
            rows_per_shard,
            None if agents is None else tuple(agents),
            env=env,
            env_config=dict(env_config or {}),
            behaviour=dict(behaviour or {"policy": "not known"}),
            seed=seed,
        )


@contextlib.contextmanager
def _written_whole(folder: Path) -> Iterator[None]:
    """Makes an empty folder, and removes what is in it if writing fails."""
    with _writing(folder):
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    if taken:
        raise DatasetError(f"{folder} is not empty: choose another folder")
    try:
        yield
    except BaseException:
        for path in (*folder.glob("part-*.parquet"), *folder.glob(f"*{CARD}*")):
            path.unlink()
        if new:
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()
        raise


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turns what a full disk and the like raise into a DatasetError."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written to: {error}") from error


def _write(
    folder: Path,
    episodes: Iterable[Episode],
    rows_per_shard: int,
    agents: tuple[str, ...] | None,
    **facts: Any,
) -> Card:
    """Writes shards and the card; ``facts`` are values of the card."""
    shards: list[Shard] = []
    returns: list[float] = []
    pending: list[Episode] = []
    sizes: TeamSizes | None = None
    rows = size = 0  # pending

    def flush() -> None:
        ids = range(len(returns) - len(pending), len(returns))
        table = to_table(pending, [f"{number:08d}" for number in ids])
        path = folder / f"part-{len(shards):05d}.parquet"
        group = max(BYTES_PER_GROUP * len(table) // max(table.nbytes, 1), 1)
        with _writing(folder):
            pq.write_table(table, path, compression="zstd", row_group_size=group)
            digest = file_hash(path)
        shards.append(Shard(path.name, len(table), len(pending), digest))
        pending.clear()

    for episode in episodes:
        found = sizes_of(episode)  # refuses what is no episode
        if sizes is None:
            sizes = found
            if agents is None:
                agents = tuple(f"agent_{i}" for i in range(sizes.num_agents))
            if len(agents) != sizes.num_agents:
                raise DatasetError(
                    f"agents names {len(agents)}, and the episodes are of"
                    f" {sizes.num_agents}"
                )
        pending.append(episode)
        returns.append(episode.episode_return)
        rows += len(episode)
        size += len(episode) * bytes_per_row(episode)
        if rows >= rows_per_shard or size >= BYTES_PER_SHARD:
            flush()
            rows = size = 0
    if pending:
        flush()
    if sizes is None:
        raise DatasetError(f"there is no episode to write to {folder}")
    card = Card(
        **facts,
        agents=agents or (),
        sizes=sizes,
        num_episodes=len(returns),
        num_steps=sum(shard.rows for shard in shards),
        returns=returns_of(returns),
        shards=tuple(shards),
    )
    with _writing(folder):
        card.write(folder)
    return card


class Dataset:
    """A dataset on disk.

    Attributes:
        folder: Where it is.
        card: What it says of itself.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a dataset; its files are looked at, and read when they are needed.

        Args:
            folder: Where it is.

        Raises:
            DatasetError: If it is none, or a file is missing, cut short or of another
                shape than the card says.
        """
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(f"there is no dataset at {self.folder}")
        self.card = read_card(self.folder)
        self._verified: set[str] = set()
        wanted = schema(self.card.sizes)
        for shard in self.card.shards:
            path = self._path(shard)
            try:
                found = pq.ParquetFile(path)
            except Exception as error:  # the footer of a damaged file raises all kinds
                raise DatasetError(f"{path} is cut short or broken: {error}") from error
            with found:
                if found.metadata.num_rows != shard.rows:
                    raise DatasetError(
                        f"{path} holds {found.metadata.num_rows} rows, and the card"
                        f" says {shard.rows}"
                    )
                if not found.schema_arrow.equals(wanted):
                    raise DatasetError(
                        f"{path} has other columns or shapes than the card says; files"
                        " of different environments do not mix"
                    )

    def _path(self, shard: Shard) -> Path:
        """The file of a shard, which must be in the folder itself."""
        path = self.folder / shard.file
        if not path.is_file():
            raise DatasetError(f"{path} is missing; the card names it")
        if path.resolve().parent != self.folder.resolve():
            raise DatasetError(
                f"{path} is a link to {path.resolve()}, outside of the folder; put the"
                " file itself there"
            )
        return path

    def episodes(self, shards: Iterable[int] | None = None) -> Iterator[Episode]:
        """Reads episodes, one after the other.

        Args:
            shards: Which files, in which order; None: all, as they are.

        Yields:
            Episodes; their number of the file's order is not kept.

        Raises:
            DatasetError: If a file's hash is not the card's, or its rows make no
                episodes.
        """
        order = range(len(self.card.shards)) if shards is None else shards
        for index in order:
            for _, episode in self._named(index):
                yield episode

    def _named(self, index: int) -> Iterator[tuple[str, Episode]]:
        shard = self.card.shards[index]
        path = self._path(shard)
        if shard.file not in self._verified:
            if file_hash(path) != shard.sha256:
                raise DatasetError(
                    f"{path} was changed or is damaged: its hash is not the one in"
                    f" {CARD}"
                )
            self._verified.add(shard.file)
        with pq.ParquetFile(path) as file:
            tables = (file.read_row_group(n) for n in range(file.num_row_groups))
            found = 0
            try:
                for named in episodes_of(tables):
                    yield named
                    found += 1
            except DatasetError as error:
                raise DatasetError(f"{path}: {error}") from None
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{path} cannot be read: {error}") from error
        if found != shard.episodes:
            raise DatasetError(
                f"{path} holds {found} episodes, and the card says {shard.episodes}"
            )

    def check(self) -> None:
        """Reads every row, and compares what is read with the card.

        Raises:
            DatasetError: See :meth:`episodes`; or if two episodes have one name, the
                card's statistics are wrong, or the folder holds other Parquet files.
        """
        named = {shard.file for shard in self.card.shards}
        others = sorted({p.name for p in self.folder.glob("*.parquet")} - named)
        if others:
            raise DatasetError(
                f"{self.folder / others[0]} is not named by the card; a reader of the"
                " whole folder would take it for a part of the dataset"
            )
        names: set[str] = set()
        returns: list[float] = []
        for index, shard in enumerate(self.card.shards):
            for name, episode in self._named(index):
                if name in names:
                    raise DatasetError(
                        f"{self.folder / shard.file}, column {EPISODE}: {name!r} is the"
                        " name of two episodes"
                    )
                names.add(name)
                returns.append(episode.episode_return)
        for key, value in returns_of(returns).items():
            stated = self.card.returns[key]
            if not np.isclose(value, stated):
                raise DatasetError(
                    f"{self.folder}: {key} of the returns is {value:.4f}, and the card"
                    f" says {stated:.4f}"
                )


def returns_of(returns: list[float]) -> dict[str, float]:
    """Statistics of the returns of episodes, as a card holds them."""
    return {
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "min": min(returns),
        "max": max(returns),
    }
