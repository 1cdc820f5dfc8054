"""The numbers of ``rllib plot frontier``, on the terminal and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_risk.evaluation.fitted_table import print_fitted_table
from rllib_risk.evaluation.frontier_runs import Estimate, TeamRisk
from rllib_risk.ops.frontier import FrontierPoint

if TYPE_CHECKING:
    from rich.console import Console

_HEADER = ("name", "how", "alpha", "quantity", "value", "ci95_low", "ci95_high")


@dataclass(frozen=True)
class FrontierResults:
    """The contents of a frontier figure.

    Attributes:
        title: The env with its arguments.
        alphas: Risk levels in descending order, from 1.
        best: Exact best values at each level; None if the env has no tables.
        teams: Results of the trained teams.
    """

    title: str
    alphas: tuple[float, ...]
    best: tuple[FrontierPoint, ...] | None
    teams: tuple[TeamRisk, ...]


def print_frontier(results: FrontierResults, console: Console) -> None:
    """Prints one table per quantity, with a row per team and a column per level.

    Args:
        results: The results to print.
        console: Console to print on.
    """
    levels = [f"{alpha:g}" for alpha in results.alphas]
    for title, rows in _tables(results):
        lines = [[name, *values] for name, values in rows]
        print_fitted_table(console, ["alpha", *levels], lines, title=title)
        console.print()
    for team in results.teams:
        console.print(f"{team.label}: {team.how}", highlight=False, soft_wrap=True)


def write_frontier(results: FrontierResults, out: Path) -> None:
    """Writes every number as CSV, one per line.

    Args:
        results: The results to write.
        out: The CSV file.
    """
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for point in results.best or ():
            for quantity, value in (
                ("cvar", point.cvar),
                ("mean_with_best_cvar", point.mean),
                ("threshold", point.threshold),
                ("nested", point.nested),
            ):
                numbers = [f"{number:.10g}" for number in (point.alpha, value)]
                writer.writerow(["best", "exact", numbers[0], quantity, numbers[1]])
        for team in results.teams:
            for alpha, quantity, estimate in _numbers(team, results.alphas):
                ends = [f"{end:.10g}" for end in (estimate.low, estimate.high)]
                writer.writerow(
                    [
                        *(team.label, team.how, f"{alpha:g}", quantity),
                        f"{estimate.value:.10g}",
                        *(["", ""] if team.exact else ends),
                    ]
                )


def _numbers(
    team: TeamRisk, alphas: Sequence[float]
) -> list[tuple[float, str, Estimate]]:
    """Lists level, quantity and estimate of all numbers of a team."""
    quantities = {"mean": team.mean, "cvar": team.cvar, "nested": team.nested or ()}
    if team.thresholds is not None:
        quantities["threshold"] = tuple(Estimate(b, b, b) for b in team.thresholds)
    return [
        (alpha, quantity, estimate)
        for quantity, estimates in quantities.items()
        for alpha, estimate in zip(alphas, estimates, strict=False)
    ]


def _tables(
    results: FrontierResults,
) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Builds the title and the rows of each table."""
    best, teams = results.best or (), results.teams
    # Other teams have one mean, which is their CVaR at level 1.
    mean = [(t.label, [_text(e) for e in t.mean]) for t in teams if t.thresholds]
    cvar = [(t.label, [_text(e) for e in t.cvar]) for t in teams]
    nested = [(t.label, [_text(e) for e in t.nested]) for t in teams if t.nested]
    if best:
        cvar.insert(0, ("best", [f"{p.cvar:.4f}" for p in best]))
        cvar.insert(1, ("mean with it", [f"{p.mean:.4f}" for p in best]))
        nested.insert(0, ("best", [f"{p.nested:.4f}" for p in best]))
    tables = [(f"CVaR of the return, {results.title}", cvar)]
    if mean:
        tables.append(("Mean return with the threshold of the level", mean))
    if nested:
        tables.append(("Nested CVaR", nested))
    return tables


def _text(estimate: Estimate) -> str:
    if estimate.low == estimate.high:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
