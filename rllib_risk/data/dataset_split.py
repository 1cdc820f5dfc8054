"""Splits a dataset into episodes to learn from and held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.rows import DatasetError

# Seed word of the random stream that chooses the held-out episodes.
_HOLDOUT_STREAM = 6


@dataclass(frozen=True)
class Split:
    """A split of the episodes of a dataset, in the order of its files.

    Attributes:
        learned: Whether each episode is learned from, bool ``[num_episodes]``.
        held_out: Whether each episode is held out, bool ``[num_episodes]``. Episodes
            that are dropped for their low return are in neither set.
        num_steps: Number of env steps of the episodes to learn from.
    """

    learned: np.ndarray
    held_out: np.ndarray
    num_steps: int

    @property
    def num_episodes(self) -> int:
        """Number of episodes to learn from."""
        return int(self.learned.sum())


def num_held_out(number: int, holdout: float) -> int:
    """Computes the number of episodes to hold out.

    Args:
        number: Number of episodes of the dataset.
        holdout: Fraction of episodes to hold out, in [0, 1).

    Returns:
        0 if ``holdout`` is 0, else at least 1 and at most ``number - 1``.
    """
    return min(max(round(holdout * number), 1), number - 1) if holdout > 0.0 else 0


def split_dataset(
    dataset: Dataset, seed: int, holdout: float = 0.0, top_share: float = 1.0
) -> Split:
    """Splits the episodes of a dataset.

    The held-out episodes depend only on the seed and the number of episodes. Of the
    rest, the episodes with the highest undiscounted returns are learned from; among
    equal returns the first ones. The dataset is read once, unless all of it is learned
    from.

    Args:
        dataset: The dataset.
        seed: Seed of the held-out episodes.
        holdout: Fraction of episodes to hold out, in [0, 1). Above 0, at least one
            episode is held out and at least one is not.
        top_share: Fraction of the remaining episodes to learn from, in (0, 1]; at least
            one episode.

    Returns:
        The split.

    Raises:
        DatasetError: If the only episode would be held out, or the dataset is damaged.
    """
    number = dataset.card.num_episodes
    learned, held_out = np.ones(number, bool), np.zeros(number, bool)
    if holdout == 0.0 and top_share == 1.0:
        return Split(learned, held_out, dataset.card.num_steps)
    if holdout > 0.0:
        if number < 2:
            raise DatasetError(
                f"{dataset.folder} has one episode, so none can be held out; set"
                " dataset_holdout: 0"
            )
        order = np.random.default_rng((seed, _HOLDOUT_STREAM)).permutation(number)
        held_out[order[: num_held_out(number, holdout)]] = True
        learned &= ~held_out
    facts = np.array([(len(e), e.episode_return) for e in dataset.episodes()])
    if top_share < 1.0:
        places = np.flatnonzero(learned)
        best = np.argsort(-facts[places, 1], kind="stable")
        keep = max(round(top_share * len(places)), 1)
        learned[places[best[keep:]]] = False
    return Split(learned, held_out, int(facts[learned, 0].sum()))
