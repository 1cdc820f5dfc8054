"""Reports where the time of a run went: a line, and a table with ``--profile``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rllib_risk.cli import output
from rllib_risk.cli.output import say
from rllib_risk.cli.status import duration
from rllib_risk.cli.time_advice import advice
from rllib_risk.core import stopwatch as sw
from rllib_risk.core.profile import PROFILE, RUNNERS

UPDATE = "update"
# Parts that the line shows as one number: their names in results, by label.
GROUPS: dict[str, tuple[str, ...]] = {
    "environment": (sw.ENVIRONMENT,),
    "acting": (sw.ACTING,),
    "waiting for runners": (sw.WAITING,),
    "replay and batches": (sw.REPLAY,),
    UPDATE: (sw.FORWARD, sw.BACKWARD, sw.OPTIMIZER, sw.LEARNERS),
    "evaluation": (sw.EVALUATION,),
    "checkpoints": (sw.CHECKPOINTS,),
    "starting": (sw.STARTING,),
    "rest": (sw.REST,),
}
_LABELS = {sw.LEARNERS: "waiting for learners", sw.FORWARD: "forward and losses"}
# Smaller shares are left out of the line.
_SMALLEST = 0.01


@dataclass(frozen=True)
class TimeSpent:
    """Where the time of one or more trials went.

    Attributes:
        seconds: Seconds of the trials' own processes by part, summed over trials.
        runners: Seconds of remote env runners by part, summed over them; empty if there
            are none.
        updates: Number of updates in that time.
        trials: Number of trials.
    """

    seconds: Mapping[str, float]
    runners: Mapping[str, float]
    updates: int
    trials: int

    @classmethod
    def of(cls, results: Sequence[Mapping[str, Any]]) -> TimeSpent | None:
        """Sums up the last results of trials; None if no result has a profile.

        Args:
            results: The last result of each trial.
        """
        profiles = [result[PROFILE] for result in results if PROFILE in result]
        if not profiles:
            return None
        seconds: Counter[str] = Counter()
        runners: Counter[str] = Counter()
        for profile in profiles:
            seconds.update(_parts(profile))
            runners.update(_parts(profile.get(RUNNERS, {})))
        updates = sum(int(profile["updates"]) for profile in profiles)
        return cls(seconds, runners, updates, len(profiles))

    def shares(self) -> dict[str, float]:
        """Returns the share of each label of :data:`GROUPS`; they add up to 1."""
        total = math.fsum(self.seconds.values()) or 1.0
        return {
            label: math.fsum(self.seconds.get(part, 0.0) for part in parts) / total
            for label, parts in GROUPS.items()
        }

    def runner_shares(self) -> dict[str, float]:
        """Returns the share of each part of the runners' time; they add up to 1."""
        total = math.fsum(self.runners.values()) or 1.0
        return {part: value / total for part, value in self.runners.items()}


def report_time(trials: Sequence[Any], config: Any, *, table: bool) -> None:
    """Prints where the time went and what to change.

    Args:
        trials: Tune's trials.
        config: The validated ``AlgorithmConfig`` of the first trial.
        table: Whether to print a table of all parts too.
    """
    spent = TimeSpent.of([trial.last_result or {} for trial in trials])
    if spent is None:  # an algorithm of RLlib, or no result
        return
    if table:
        output.out.print(profile_table(spent))
    say(time_line(spent))
    shares, mean_s = spent.shares(), 0.0
    if spent.updates:
        total = math.fsum(spent.seconds.values())
        mean_s = shares[UPDATE] * total / spent.updates
    say(advice(shares, spent.runner_shares(), mean_s, config))


def time_line(spent: TimeSpent) -> str:
    """Formats the shares as a line, the largest first."""
    total = math.fsum(spent.seconds.values())
    trials = f" of {spent.trials} trials" if spent.trials > 1 else ""
    line = f"Time{trials}, {duration(total)}: {_list(spent.shares(), total)}."
    if spent.runners:
        line += f" Within the runners: {_list(spent.runner_shares())}."
    return line


def profile_table(spent: TimeSpent) -> Table:
    """Makes a table of all parts with seconds and shares."""
    table = Table("part", "seconds", "share", title="Where the time went")
    total = math.fsum(spent.seconds.values())
    for label, parts in GROUPS.items():
        share = spent.shares()[label]
        if share:
            _add(table, label, share * total, share)
        for part in parts if label == UPDATE else ():
            if value := spent.seconds.get(part):
                _add(table, f"  {_LABELS.get(part, part)}", value, value / total)
    _add(table, "all", total, 1.0)
    for part, share in spent.runner_shares().items():
        _add(table, f"runners: {part}", spent.runners[part], share)
    return table


def _add(table: Table, label: str, seconds: float, share: float) -> None:
    table.add_row(label, f"{seconds:.2f}", f"{share:.1%}")


def _list(shares: Mapping[str, float], total: float | None = None) -> str:
    shown: Iterator[tuple[float, str]] = (
        (share, label) for label, share in shares.items() if share >= _SMALLEST
    )
    return ", ".join(
        f"{label} {share:.0%}"
        if total is None
        else f"{label} {share * total:.1f} s ({share:.0%})"
        for share, label in sorted(shown, reverse=True)
    )


def _parts(profile: Mapping[str, Any]) -> dict[str, float]:
    return {key[:-2]: value for key, value in profile.items() if key.endswith("_s")}
