"""The command ``rllib plot leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_risk.cli import output
from rllib_risk.config.schema import ConfigError

LEADERBOARD_HELP = """Draw results of several comparisons, machines or programs by task.

\b
    rllib plot leaderboard a/results.json b/results.json --out board
    rllib plot leaderboard results.json epymarl.json --metric success_rate

Reads the results.json of 'rllib compare' and files in the JSON form of
marl-eval. Runs of the same algorithm on the same task count together. Every
task gets a figure (IQM over seeds, 95 % intervals) and a table. Several tasks
also get a performance profile and an aggregate score.
"""


def plot_leaderboard(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files results.json of 'rllib compare', or in marl-eval's form."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for figures and tables."),
    ] = Path("leaderboard"),
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="Metric of the evaluations, such as success_rate (default: the"
            " return).",
        ),
    ] = None,
) -> None:
    """Draws the figures and prints the tables."""
    from rllib_risk.evaluation.leaderboard import write_leaderboard
    from rllib_risk.evaluation.results import ResultsError

    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} must be a folder.")
    try:
        paths = [file.expanduser() for file in files]
        write_leaderboard(paths, out, output.out, metric)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
