"""Choice of the threshold of objective ``static`` for one risk level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from rllib_risk.config.schema import ConfigError
from rllib_risk.ops.shortfall import threshold_values
from rllib_risk.parts.objectives.base import Objective
from rllib_risk.parts.objectives.static import Static

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.data.dataset import Dataset

# Seed word of the random stream of the episodes that choose a threshold.
_CHOICE_STREAM = 7


@dataclass(frozen=True)
class ChosenThreshold:
    """The threshold of an evaluation.

    Attributes:
        alpha: Risk level.
        threshold: Best threshold at this level.
    """

    alpha: float
    threshold: float


def choose_threshold(
    algorithm: TeamAlgorithm, seed: int, alpha: float | None = None
) -> ChosenThreshold | None:
    """Chooses the threshold ``b`` by greedy episodes, and sets it in the objective.

    It is ``argmax_b b + E[min(R_b - b, 0)] / alpha`` over evenly spaced candidates. All
    candidates play the same environment seeds, which are not those of the evaluation.

    Args:
        algorithm: Algorithm whose team plays.
        seed: Seed of the evaluation.
        alpha: Risk level. None: the level of the configuration.

    Returns:
        The choice; None if the objective has no thresholds.

    Raises:
        ConfigError: If ``alpha`` is given without objective ``static``, or is not in
            (0, 1]; or if the run has no environment.
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
    if algorithm.config.env is None:
        raise ConfigError(
            "--alpha: this run learned from a dataset and knows no environment in which"
            " to choose a threshold. Choose it with rllib evaluate CHECKPOINT --env"
            " NAME --alpha LEVEL, and give it with --static-threshold NUMBER."
        )
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


def settle_threshold(objective: Objective, given: float | None, source: Path) -> None:
    """Sets a given threshold of objective ``static``, or checks that one was chosen.

    Args:
        objective: Objective of the team.
        given: The threshold ``b``. None: the chosen one.
        source: Checkpoint of the team, for the message.

    Raises:
        ConfigError: If a threshold is given for another objective or is not finite, or
            if none is given or chosen.
    """
    if not isinstance(objective, Static):
        if given is not None:
            raise ConfigError(
                "--static-threshold: only teams of objective: static have a threshold,"
                f" and {source} was trained with another objective. Leave it out."
            )
        return
    if given is not None:
        # NaN is refused too.
        if not abs(given) <= float(np.finfo(np.float32).max):
            raise ConfigError(
                f"--static-threshold: must be a finite number, not {given}."
            )
        objective.choose(given)
    objective.chosen_threshold()


def observe_dataset(objective: Static, dataset: Dataset, gamma: float) -> None:
    """Sets the range of thresholds from the returns of a dataset, unless configured.

    Args:
        objective: The objective.
        dataset: The dataset. With a discount of 1 its card gives the returns; otherwise
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
