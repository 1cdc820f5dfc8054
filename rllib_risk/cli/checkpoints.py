"""Opens checkpoints for commands that play with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm


def existing(checkpoint: Path) -> Path:
    """The absolute folder of a checkpoint; a ConfigError if there is none."""
    folder = checkpoint.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder.")
    return folder


def is_foreign(folder: Path) -> bool:
    """Whether this is a checkpoint of RLlib's own algorithms."""
    return (folder / "rllib_checkpoint.json").is_file()


def verified(checkpoint: Path, purpose: str) -> Path:
    """Checks that a folder is a whole checkpoint of this package.

    Another checkpoint than the one asked for is never taken instead.

    Args:
        checkpoint: The folder.
        purpose: What it is wanted for, for the message.

    Returns:
        The absolute folder.

    Raises:
        ConfigError: If there is no such folder, or it is RLlib's.
        CheckpointError: If the checkpoint was cut short or changed.
    """
    from rllib_risk.core.checkpoint import verify_checkpoint

    folder = existing(checkpoint)
    if is_foreign(folder):
        raise ConfigError(
            f"{folder} is a checkpoint of RLlib's own algorithms: {purpose} is for"
            " those of this package."
        )
    verify_checkpoint(folder)
    return folder


@contextlib.contextmanager
def opened(folder: Path, *, trust_code: bool) -> Iterator[TeamAlgorithm]:
    """Builds the algorithm of a checkpoint for as long as it is needed; Ray must be up.

    All episodes are then played in this process: one batch of environments is as fast
    as several processes for the few that such commands need.

    Args:
        folder: A verified checkpoint.
        trust_code: Whether to import the code that it names.

    Yields:
        The algorithm.
    """
    from rllib_risk.core.algorithm import TeamAlgorithm

    algorithm = TeamAlgorithm.from_checkpoint(
        folder,
        trust_code=trust_code,
        num_env_runners=0,
        evaluation_num_env_runners=0,
    )
    try:
        yield algorithm
    finally:
        algorithm.stop()
