"""The threshold of objective ``static``: learned for all, chosen for one level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from rllib_risk.config.schema import ConfigError
from rllib_risk.ops.shortfall import threshold_values
from rllib_risk.parts.objectives.static import Static

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.data.dataset import Dataset

# First word of the random stream of the episodes that thresholds are chosen by.
_CHOICE_STREAM = 7


@dataclass(frozen=True)
class ChosenThreshold:
    """What an evaluation is for.

    Attributes:
        alpha: The level.
        threshold: The best threshold for it.
    """

    alpha: float
    threshold: float


def choose_threshold(
    algorithm: TeamAlgorithm, seed: int, alpha: float | None = None
) -> ChosenThreshold | None:
    """Chooses the threshold ``b`` by greedy episodes, and keeps it.

    ``argmax_b b + E[min(R_b - b, 0)] / alpha`` over evenly spread candidates, each of
    which plays the same episodes; these are never those of an evaluation.

    Args:
        algorithm: Whose team plays.
        seed: Of the evaluation.
        alpha: The level; None: the configuration's.

    Returns:
        What was chosen; None: the objective has no thresholds.

    Raises:
        ConfigError: If a level is given where none has a meaning, or it is none.
    """
    objective = algorithm.team_policy.network.objective
    if not isinstance(objective, Static):
        if alpha is not None:
            raise ConfigError(
                "--alpha: one team serves all levels with objective: static only, and"
                f" this one was trained with objective: {algorithm.config.objective}."
                " Leave it out, or train once for each level."
            )
        return None
    level = cast("float", objective.options.alpha) if alpha is None else alpha
    if not 0.0 < level <= 1.0:
        raise ConfigError(f"--alpha: must be above 0 and at most 1, not {level}.")
    candidates = objective.candidates()
    episodes = algorithm.play_greedily(
        len(candidates) * objective.options.threshold_episodes,
        int(np.random.default_rng((seed, _CHOICE_STREAM)).integers(2**31)),
        candidates.tolist(),
    )
    gamma = algorithm.config.gamma
    returns = np.array([episode.discounted_return(gamma) for episode in episodes])
    values = threshold_values(returns.reshape(-1, len(candidates)).T, candidates, level)
    best = float(candidates[values.argmax()])
    objective.choose(best)
    return ChosenThreshold(level, best)


def observe_dataset(objective: Static, dataset: Dataset, gamma: float) -> None:
    """Takes the range of thresholds from a dataset.

    Args:
        objective: The objective.
        dataset: The dataset. With a discount of 1 its card says the returns; otherwise
            it is read once.
        gamma: Discount of the return.
    """
    if objective.options.threshold_range is not None:
        return
    if gamma == 1.0:
        returns = dataset.card.returns
        objective.observe([returns["min"], returns["max"]])
        return
    objective.observe(e.discounted_return(gamma) for e in dataset.episodes())
