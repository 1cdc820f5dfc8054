"""Writes and reads datasets. A dataset is a folder of Parquet files and a card.

A reader streams. For a dataset of any size it holds one group of rows and one
incomplete episode in memory. Other tools can read the files with
``ray.data.read_parquet(folder)``.
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
    ACTION_MASK,
    EPISODE,
    DatasetError,
    episodes_of,
    masks_of,
    schema,
    sizes_of,
    to_table,
)
from rllib_risk.data.segments import bytes_per_row
from rllib_risk.data.sizes import ImageShape, TeamSizes

ROWS_PER_SHARD = 50_000
# Maximum size of a shard before compression; shards of large observations have fewer
# rows.
BYTES_PER_SHARD = 2**27
# Size of a row group, the part of a file that is read at once.
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
    image: ImageShape | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Card:
    """Writes a stream of episodes as a dataset.

    The card is written last, so a folder without a card is incomplete. If writing
    fails, the files written so far are removed.

    Args:
        folder: Folder of the dataset. It is created, or must be empty.
        episodes: The episodes, such as those from :func:`.arrays.make_episode`. One
            shard of them is held in memory.
        agents: Names of the agents, in the order of the arrays. None: ``agent_0`` and
            so on.
        env: Name of the environment; None if unknown.
        env_config: Arguments of the environment.
        behaviour: Description of the behaviour policy, such as ``{"policy": "shift plan
            of 2025"}``.
        seed: Seed of the recording; None if there was none.
        image: Shape (H, W, C) of every agent's observation, if observations are flat
            uint8 images. They are then stored as bytes.
        rows_per_shard: Env steps per file. A file may have a few more, because episodes
            are not split.

    Returns:
        The card.

    Raises:
        DatasetError: If the folder is not empty or not writable, there is no episode,
            or an episode contains invalid values.
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
            image,
            env=env,
            env_config=dict(env_config or {}),
            behaviour=dict(behaviour or {"policy": "not known"}),
            seed=seed,
        )


@contextlib.contextmanager
def _written_whole(folder: Path) -> Iterator[None]:
    """Checks that a folder can be created; removes its contents if writing fails.

    The folder is created with its first file, because the code that makes the episodes
    may end this process.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        _remove_empty(new)
    if taken:
        raise DatasetError(f"{folder} is not empty: choose another folder")
    try:
        yield
    except BaseException:
        for path in (*folder.glob("part-*.parquet"), *folder.glob(f"*{CARD}*")):
            path.unlink()
        _remove_empty(new)
        raise


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it contains other files
            folder.rmdir()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Converts an OSError, such as that of a full disk, to a DatasetError."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written to: {error}") from error


def _write(
    folder: Path,
    episodes: Iterable[Episode],
    rows_per_shard: int,
    agents: tuple[str, ...] | None,
    image: ImageShape | None,
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
        table = to_table(pending, [f"{number:08d}" for number in ids], image)
        path = folder / f"part-{len(shards):05d}.parquet"
        group = max(BYTES_PER_GROUP * len(table) // max(table.nbytes, 1), 1)
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, compression="zstd", row_group_size=group)
            digest = file_hash(path)
        shards.append(Shard(path.name, len(table), len(pending), digest))
        pending.clear()

    for episode in episodes:
        found = sizes_of(episode, image)  # raises if it is no episode
        if sizes is None:
            sizes = found
            if agents is None:
                agents = tuple(f"agent_{i}" for i in range(sizes.num_agents))
            if len(agents) != sizes.num_agents:
                raise DatasetError(
                    f"agents has {len(agents)} names, but the episodes have"
                    f" {sizes.num_agents} agents"
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
        folder: Folder of the dataset.
        card: Card of the dataset.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a dataset and checks the headers of its files.

        Args:
            folder: Folder of the dataset.

        Raises:
            DatasetError: If the folder is no dataset, or a file is missing, incomplete
                or does not match the card.
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
            except Exception as error:  # a damaged footer can raise any exception
                raise DatasetError(f"{path} is cut short or broken: {error}") from error
            with found:
                if found.metadata.num_rows != shard.rows:
                    raise DatasetError(
                        f"{path} holds {found.metadata.num_rows} rows, but the card"
                        f" says {shard.rows}"
                    )
                if not found.schema_arrow.equals(wanted):
                    raise DatasetError(
                        f"{path} has other columns or shapes than the card says; files"
                        " of different environments cannot be mixed"
                    )

    def _path(self, shard: Shard) -> Path:
        """Returns the file of a shard, which must be in the folder itself."""
        path = self.folder / shard.file
        if not path.is_file():
            raise DatasetError(f"{path} is missing, but the card names it")
        if path.resolve().parent != self.folder.resolve():
            raise DatasetError(
                f"{path} is a link to {path.resolve()}, outside of the folder; put the"
                " file itself there"
            )
        return path

    def episodes(self, shards: Iterable[int] | None = None) -> Iterator[Episode]:
        """Reads the episodes one by one.

        Args:
            shards: Indices of the files to read, in this order. None: all files.

        Yields:
            Episodes, without their names.

        Raises:
            DatasetError: If a file's hash differs from the card, or its rows do not
                form episodes.
        """
        order = range(len(self.card.shards)) if shards is None else shards
        for index in order:
            for _, episode in self._named(index):
                yield episode

    def availability(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads the action masks of all steps.

        Returns:
            Whether each agent's action was available in any step, and in every step;
            both bool ``[N, A]``.

        Raises:
            DatasetError: If a file's hash differs from the card, or it cannot be read.
        """
        shape = (self.card.sizes.num_agents, self.card.sizes.num_actions)
        ever, always = np.zeros(shape, bool), np.ones(shape, bool)
        for shard in self.card.shards:
            path = self._verified_path(shard)
            try:
                with pq.ParquetFile(path) as file:
                    for n in range(file.num_row_groups):
                        masks = masks_of(file.read_row_group(n, columns=[ACTION_MASK]))
                        ever |= masks.any(0)
                        always &= masks.all(0)
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{path} cannot be read: {error}") from error
        return ever, always

    def _verified_path(self, shard: Shard) -> Path:
        """Returns the file of a shard, whose hash is compared once."""
        path = self._path(shard)
        if shard.file not in self._verified:
            if file_hash(path) != shard.sha256:
                raise DatasetError(
                    f"{path} was changed or is damaged: its hash differs from the one"
                    f" in {CARD}"
                )
            self._verified.add(shard.file)
        return path

    def _named(self, index: int) -> Iterator[tuple[str, Episode]]:
        shard = self.card.shards[index]
        path = self._verified_path(shard)
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
                f"{path} holds {found} episodes, but the card says {shard.episodes}"
            )

    def check(self) -> None:
        """Reads every row and compares the dataset with the card.

        Raises:
            DatasetError: See :meth:`episodes`. Also if two episodes have the same name,
                the card's statistics are wrong, or the folder contains other Parquet
                files.
        """
        named = {shard.file for shard in self.card.shards}
        others = sorted({p.name for p in self.folder.glob("*.parquet")} - named)
        if others:
            raise DatasetError(
                f"{self.folder / others[0]} is not named by the card, but a reader of"
                " the whole folder would read it too; remove the file"
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
                    f"{self.folder}: {key} of the returns is {value:.4f}, but the card"
                    f" says {stated:.4f}"
                )


def returns_of(returns: list[float]) -> dict[str, float]:
    """Computes the statistics of returns that a card contains."""
    return {
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "min": min(returns),
        "max": max(returns),
    }
