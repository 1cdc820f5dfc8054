"""``rllib check-env`` and ``rllib plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_risk.cli import output
from rllib_risk.cli.output import EXIT_FAILED, say
from rllib_risk.config.schema import ConfigError

CHECK_ENV_HELP = """Check an environment, in plain words, before training on it.

\b
    rllib check-env macn --env-config '{"width": 12}'
    rllib check-env my_package.my_env:parallel_env

The exit code is 0 if it can be trained on, and 1 if there is an error.
"""
PLOT_HELP = """Draw learning curves from result folders, as IQM with 95 % intervals.

\b
    rllib plot ~/ray_results/rmix-macn ~/ray_results/qmix-macn --out curves.png

Trials of one experiment that differ in their seed only form one curve. The numbers go
to a .csv and a .md file beside the figure.
"""


def check_env(
    env: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FACTORY", help="Registered name or 'pkg.module:parallel_env'."
        ),
    ],
    env_config: Annotated[
        str | None,
        typer.Option("--env-config", metavar="JSON", help="Arguments of the env."),
    ] = None,
) -> None:
    """Prints what is right and wrong with an environment."""
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import parse_json
    from rllib_risk.env_wrappers.check_env import check_env as run_checks

    prepare(0)  # puts the working directory on the path
    settings: dict[str, Any] = {}
    if env_config:
        settings = parse_json(env_config, "--env-config").data
    report = run_checks(env, settings)
    say(str(report))
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


def plot(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of experiments or trials.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The figure (.png, .pdf, .svg).")],
    metric: Annotated[
        str, typer.Option("--metric", help="What to draw.")
    ] = "evaluation/return_mean",
    x: Annotated[
        str | None,
        typer.Option(
            "--x",
            help="What to draw it over (default: env steps; updates, where runs learned"
            " from a dataset).",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Title of the figure.")
    ] = None,
    y_min: Annotated[
        float | None, typer.Option("--y-min", help="Lower end of the y axis.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Count the runs that reach this value."),
    ] = None,
) -> None:
    """Draws a figure and prints its table."""
    paths = [folder.expanduser() for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: there is no such folder.")
    from rllib_risk.evaluation.plots import run_plot_command
    from rllib_risk.evaluation.results import ResultsError

    try:
        run_plot_command(paths, out, output.out, metric, x, title, y_min, threshold)
    except ResultsError as error:
        raise ConfigError(str(error)) from error
