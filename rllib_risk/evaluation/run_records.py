"""Records of single runs: the common form of all files of results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_risk.evaluation.results import ResultsError

# Names of the return of an evaluation: in this package's files, then in those of
# marl-eval, Mava, EPyMARL and JaxMARL.
RETURNS = (
    "return_mean",
    "return",
    "mean_episode_return",
    "episode_return",
    "test_return_mean",
    "returned_episode_returns",
)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run.

    Attributes:
        env_steps: Env steps of training before the evaluation.
        metrics: Numbers by name: one for the whole evaluation, or one per episode.
        seconds: Seconds of training before the evaluation; None if unknown.
    """

    env_steps: float
    metrics: Mapping[str, Sequence[float]]
    seconds: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """Evaluations of one run.

    Attributes:
        environment: Name of the environment.
        task: Name of the task within it.
        algorithm: Label of the algorithm.
        name: The seed; the name of the run in files of other programs.
        evaluations: The evaluations, by increasing env steps.
        file: The file that holds the run.
        metric: Name of the metric that the file's own comparison used, or None.
        config_hash: Hash of the configuration without seed and resources; None if
            unknown.
    """

    environment: str
    task: str
    algorithm: str
    name: str
    evaluations: Sequence[Evaluation]
    file: Path
    metric: str | None = None
    config_hash: str | None = None

    @property
    def place(self) -> str:
        """Location of the run, for messages."""
        return (
            f"{self.file}: {self.environment}/{self.task}/{self.algorithm}/{self.name}"
        )

    def metric_name(self, wanted: str | None) -> str:
        """Returns the name of the metric to show for this run.

        Args:
            wanted: Name of the metric that the user chose; None: the return.

        Raises:
            ResultsError: If an evaluation does not have it.
        """
        known = set.intersection(*(set(e.metrics) for e in self.evaluations))
        names = (wanted,) if wanted else (*RETURNS, self.metric or "")
        for name in names:
            if name in known:
                return name
        what = f"metric {wanted!r}" if wanted else "return"
        raise ResultsError(
            f"{self.place}: there is no {what} in every evaluation. Choose another"
            f" --metric; there are: {', '.join(sorted(known)) or 'none'}."
        )


def check_evaluations(
    evaluations: Sequence[Evaluation], place: str
) -> list[Evaluation]:
    """Checks the evaluations of a run and sorts them by env steps.

    Args:
        evaluations: The evaluations in any order.
        place: Location of the evaluations, for messages.

    Raises:
        ResultsError: If there are none, or two have the same number of env steps.
    """
    if not evaluations:
        raise ResultsError(f"{place}: there is no evaluation.")
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.env_steps)
    for first, second in itertools.pairwise(ordered):
        if first.env_steps == second.env_steps:
            raise ResultsError(
                f"{place}: two evaluations have {first.env_steps:g} env steps."
            )
    return ordered


def finite_number(value: Any, place: str) -> float:
    """Checks that a value is a finite number.

    Args:
        value: A value of a JSON file.
        place: Location of the value, for messages.

    Raises:
        ResultsError: If it is something else.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) < 1e100:
        raise ResultsError(f"{place}: {value!r} is not a finite number.")
    return float(value)
