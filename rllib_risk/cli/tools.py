"""The commands ``rllib check-env`` and ``rllib plot``; see also ``frontier.py``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from rllib_risk.cli import output
from rllib_risk.cli.frontier import FRONTIER_HELP, plot_frontier
from rllib_risk.cli.leaderboard import LEADERBOARD_HELP, plot_leaderboard
from rllib_risk.cli.option_groups import grouped
from rllib_risk.cli.options import (
    AxisOption,
    EnvConfigOption,
    EvaluationSeedOption,
    ImportOption,
    MetricOption,
    ShowRayOption,
    ThresholdOption,
    TrustCodeOption,
)
from rllib_risk.cli.output import EXIT_FAILED, note, say
from rllib_risk.cli.status import playing
from rllib_risk.config.schema import ConfigError, suggest

if TYPE_CHECKING:
    from rllib_risk.evaluation.episode_trace import EpisodeTrace

CHECK_ENV_HELP = """Check that an environment can be trained on.

\b
    rllib check-env macn --env-config '{"width": 12}'
    rllib check-env my_package.my_env:parallel_env

The command plays random episodes through the adapter that training uses, and
prints what is right and wrong. The exit code is 0 if the environment can be
trained on, and 1 if there is an error.
"""
PLOT_HELP = """Draw learning curves, an episode, a risk frontier, or a leaderboard.

\b
    rllib plot ~/ray_results/rmix-macn ~/ray_results/qmix-macn --out curves.png
    rllib plot episode CHECKPOINT --agent agent_1 --steps 0,5,9
    rllib plot frontier CHECKPOINT CHECKPOINT
    rllib plot leaderboard a/results.json b/results.json

'rllib plot FOLDER ...' is short for 'rllib plot curves FOLDER ...'.
"""
CURVES_HELP = """Draw learning curves from result folders: IQM with 95 % intervals.

\b
    rllib plot ~/ray_results/rmix-macn ~/ray_results/qmix-macn --out curves.png

Trials of one experiment that differ only in their seed form one curve. A .csv
file next to the figure holds the numbers, a .md and a .tex file the table.
"""
EPISODE_HELP = """Draw one greedy episode: rewards, risk levels, and atoms of one agent.

\b
    rllib plot episode CHECKPOINT
    rllib plot episode CHECKPOINT --agent agent_1 --steps 0,5,9 --out episode.pdf

Heat maps show the return atoms: one row per action, the worst atom on the
left. Atoms that do not count at the agent's risk level are pale. A .csv file
next to the figure holds the numbers. The episode is one of the evaluation,
and the same seed gives the same episode.
"""


def check_env(
    env: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FACTORY",
            help="Registered name or factory, such as 'pkg.module:parallel_env'.",
        ),
    ],
    env_config: EnvConfigOption = None,
) -> None:
    """Checks an environment and prints a report."""
    note(f"Checking {env} ...")
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import parse_json
    from rllib_risk.env_wrappers.checking.check_env import check_env as run_checks

    prepare(0)  # puts the working directory on the path
    settings: dict[str, Any] = {}
    if env_config:
        settings = parse_json(env_config, "--env-config").data
    with playing():
        report = run_checks(env, settings)
    say(str(report))
    if not report.ok:
        raise typer.Exit(EXIT_FAILED)


class _PlotGroup(typer.core.TyperGroup):
    """Command group that runs ``curves`` if the first word is no subcommand."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Overrides the method of click."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["curves", *args]
        return super().parse_args(ctx, args)


plot_app = typer.Typer(cls=_PlotGroup, help=PLOT_HELP, no_args_is_help=True)
plot_app.command("frontier", help=FRONTIER_HELP)(grouped(plot_frontier))
plot_app.command("leaderboard", help=LEADERBOARD_HELP)(plot_leaderboard)


@plot_app.command("curves", help=CURVES_HELP)
def plot(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of experiments or trials.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File of the figure (.png, .pdf or .svg).")
    ],
    metric: MetricOption = None,
    x: AxisOption = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Title of the figure.")
    ] = None,
    y_min: Annotated[
        float | None, typer.Option("--y-min", help="Lower end of the y axis.")
    ] = None,
    threshold: ThresholdOption = None,
) -> None:
    """Draws a figure and prints its table."""
    paths = [folder.expanduser() for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: this folder does not exist. Check the path.")
    from rllib_risk.evaluation.plots import run_plot_command
    from rllib_risk.evaluation.results import ResultsError

    try:
        run_plot_command(paths, out, output.out, metric, x, title, y_min, threshold)
    except ResultsError as error:
        raise ConfigError(str(error)) from error


@dataclass(frozen=True)
class _Episode:
    """Options that select the episode to draw.

    Attributes:
        number: Index of the episode in the evaluation.
        seed: Seed of the evaluation; None: as in the training.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import before the run.
        verbose: Number of ``-v`` flags: 0, 1 or 2.
    """

    number: Annotated[
        int,
        typer.Option(
            "--episode", min=0, help="Index of the episode in the evaluation, from 0."
        ),
    ] = 0
    seed: EvaluationSeedOption = None
    trust_code: TrustCodeOption = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0


@plot_app.command("episode", help=EPISODE_HELP)
@grouped
def plot_episode(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.")],
    out: Annotated[
        Path, typer.Option("--out", help="File of the figure (.png, .pdf or .svg).")
    ] = Path("episode.png"),
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent", help="Agent whose atoms are drawn (default: the first one)."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="N,N,...",
            help="Steps whose atoms are drawn, counted from 0 (default: four steps).",
        ),
    ] = None,
    *,
    episode: _Episode,
) -> None:
    """Draws an episode of a checkpoint."""
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import import_modules
    from rllib_risk.evaluation.episode_plot import draw_episode, write_episode

    if not out.resolve().parent.is_dir():
        raise ConfigError(f"there is no folder {out.resolve().parent}.")
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out: {out.name} must end in .png, .pdf or .svg.")
    chosen = None if steps is None else _numbers(steps)
    with output.stdout_to_stderr():
        prepare(episode.verbose)
        import_modules(episode.imports)
        name, trace = _trace(checkpoint, episode)
    index = 0 if agent is None else _index_of(agent, trace)
    length, total = len(trace.rewards), trace.rewards.sum()
    title = f"{name}: return {total:.2f} in {length} steps"
    draw_episode(trace, out, index, _checked_steps(chosen, length), title)
    write_episode(trace, out.with_suffix(".csv"))
    say(f"return {total:.4f}, {length} steps")
    for key, value in trace.metrics.items():
        say(f"{key} {value:g}")
    note(f"Wrote {out} and {out.with_suffix('.csv')}")


def _index_of(agent: str, trace: EpisodeTrace) -> int:
    if agent not in trace.agents:
        raise ConfigError(
            f"--agent: the environment has no agent {agent!r}."
            f"{suggest(agent, trace.agents)} Its agents: {', '.join(trace.agents)}."
        )
    return trace.agents.index(agent)


def _checked_steps(steps: list[int] | None, length: int) -> list[int]:
    """Returns the steps to draw in an episode of ``length`` steps."""
    from rllib_risk.evaluation.episode_plot import default_steps

    if steps is None:
        return list(default_steps(length))
    if max(steps) >= length:
        raise ConfigError(
            f"--steps: step {max(steps)} is beyond the end of the episode, which has"
            f" {length} steps. Choose steps from 0 to {length - 1}."
        )
    return steps


def _numbers(text: str) -> list[int]:
    """Reads step numbers from the command line."""
    from rllib_risk.evaluation.episode_plot import MAX_STEPS

    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 0:
        raise ConfigError(f"--steps: write numbers such as 0,5,9, not {text!r}.")
    if len(numbers) > MAX_STEPS:
        raise ConfigError(
            f"--steps: a figure shows at most {MAX_STEPS} steps, not {len(numbers)}."
        )
    return numbers


def _trace(checkpoint: Path, episode: _Episode) -> tuple[str, EpisodeTrace]:
    """Plays an episode of a checkpoint; returns the title of the figure and a trace."""
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import register_all
    from rllib_risk.evaluation.trace_runs import trace_episode

    folder = verified(checkpoint, "this figure")
    register_all()
    with opened(folder, trust_code=episode.trust_code) as algorithm:
        algorithm.require_env()
        config = algorithm.evaluation_config
        seed = algorithm.config.seed if episode.seed is None else episode.seed
        trace = trace_episode(algorithm.team_policy, config, seed, episode.number)
        return f"{type(algorithm).__name__} on {config.env}", trace
