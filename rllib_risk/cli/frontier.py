"""The command ``rllib plot frontier``: best mean and CVaR, and trained teams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli import output
from rllib_risk.cli.options import (
    EnvConfigOption,
    EvaluationSeedOption,
    ImportOption,
    ShowRayOption,
    TrustCodeOption,
)
from rllib_risk.cli.output import note
from rllib_risk.config.schema import MAX_EPISODES, ConfigError, suggest

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.game_tables import GameTables
    from rllib_risk.evaluation.frontier_report import FrontierResults
    from rllib_risk.evaluation.frontier_runs import TeamRisk

FRONTIER_HELP = """Draw the exact mean-CVaR frontier and the trained teams on it.

\b
    rllib plot frontier --env risky_two_step
    rllib plot frontier CHECKPOINT CHECKPOINT --label nested --label static
    rllib plot frontier --env macn \\
        --env-config '{"wind_probability": 0.01, "cliff_reward": -15}'

For each risk level alpha, the figure shows the best CVaR of the return that
any team can reach, the mean of that team, and the best nested CVaR (CVaR
applied at every step). These numbers are exact. They need an environment
whose rules are known as tables.

Trained teams are evaluated exactly in such an environment. The exception is a
recurrent team in a game with too many histories. In that case, and in all
other environments, the command plays --episodes greedy episodes and shows 95
% bootstrap intervals.

Returns are not discounted. The environment is that of the first checkpoint. A
.csv file next to the figure holds the numbers.
"""

# With fewer episodes the estimate of the worst 5 % is too noisy.
_FEWEST_EPISODES = 1000


@dataclass(frozen=True)
class FrontierOptions:
    """Options of ``rllib plot frontier``.

    Attributes:
        out: File of the figure.
        env: Name of the environment, if there is no checkpoint.
        env_config: Arguments of the environment as JSON; with a checkpoint, the keys to
            change.
        label: Names of the checkpoints.
        episodes: Number of episodes for a team that is not evaluated exactly.
        seed: Seed of these episodes.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import before the run.
        verbose: Number of ``-v`` flags: 0, 1 or 2.
    """

    out: Annotated[
        Path, typer.Option("--out", help="File of the figure (.png, .pdf or .svg).")
    ] = Path("frontier.png")
    env: Annotated[
        str | None,
        typer.Option(
            "--env", help="Name of the environment, if no checkpoint is given."
        ),
    ] = None
    env_config: EnvConfigOption = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="Name of a checkpoint in the figure. Repeat it once per checkpoint, in"
            " the same order (default: the algorithm).",
        ),
    ] = None
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes",
            min=_FEWEST_EPISODES,
            max=MAX_EPISODES,
            help="Number of episodes for each team that cannot be evaluated exactly.",
        ),
    ] = _FEWEST_EPISODES
    seed: EvaluationSeedOption = None
    trust_code: TrustCodeOption = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0


@dataclass(frozen=True)
class _Game:
    """The game of a figure.

    Attributes:
        env: Name of the environment.
        env_config: Arguments of the environment, without the adapter's keys.
        tables: Rules of the game as tables; None if they are unknown.
    """

    env: str
    env_config: Mapping[str, Any]
    tables: GameTables | None

    @property
    def title(self) -> str:
        """Name and arguments of the environment."""
        keys = ", ".join(f"{key} {value}" for key, value in self.env_config.items())
        return f"{self.env} ({keys})" if keys else self.env

    def is_like(self, other: _Game) -> bool:
        """Returns whether both have the same rules; observations may differ."""
        if self.tables is None or other.tables is None:
            mine, theirs = (self.env, self.env_config), (other.env, other.env_config)
            return self.tables is other.tables and mine == theirs
        return self.tables.is_same_game(other.tables)


def plot_frontier(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CHECKPOINT]...",
            help="Folders of checkpoints, or of trials or experiments, whose best"
            " checkpoint is used.",
            show_default=False,
        ),
    ] = None,
    *,
    options: FrontierOptions,
) -> None:
    """Draws a mean-CVaR frontier and prints its numbers."""
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import import_modules
    from rllib_risk.evaluation.frontier_plot import draw_frontier
    from rllib_risk.evaluation.frontier_report import print_frontier, write_frontier

    _check(checkpoints or [], options)
    with output.stdout_to_stderr():
        prepare(options.verbose)
        import_modules(options.imports)
        results = _results(checkpoints or [], options)
    draw_frontier(results, options.out)
    write_frontier(results, options.out.with_suffix(".csv"))
    print_frontier(results, output.out)
    note(f"Wrote {options.out} and {options.out.with_suffix('.csv')}")


def _check(checkpoints: Sequence[Path], options: FrontierOptions) -> None:
    """Refuses incompatible options before any computation."""
    out = options.out
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"there is no folder {out.resolve().parent}.")
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out: {out.name} must end in .png, .pdf or .svg.")
    if bool(checkpoints) == (options.env is not None):
        raise ConfigError(
            "give either --env or checkpoints. With checkpoints, the environment is"
            " that of the first one."
        )
    if options.label and len(options.label) != len(checkpoints):
        raise ConfigError(
            f"--label: {len(options.label)} labels for {len(checkpoints)} checkpoints."
            " Give one label per checkpoint."
        )


def _results(checkpoints: Sequence[Path], options: FrontierOptions) -> FrontierResults:
    """Computes the frontier and evaluates the teams."""
    from rllib_risk.config.loading import parse_json
    from rllib_risk.evaluation.frontier_report import FrontierResults
    from rllib_risk.ops.frontier import LEVELS, exact_frontier
    from rllib_risk.ops.static_risk import TooManyReturnsError

    text = options.env_config
    env_config = parse_json(text, "--env-config").data if text else {}
    teams: list[TeamRisk] = []
    if options.env is not None:
        game = _named_game(options.env, env_config)
    else:
        game, teams = _teams(checkpoints, env_config, options)
    best = None
    if game.tables is not None:
        note(f"Computing the exact frontier of {game.title} ...")
        try:
            best = tuple(
                exact_frontier(game.tables.mdp, step_limit=game.tables.step_limit)
            )
        except TooManyReturnsError as error:
            if not teams:
                raise ConfigError(f"{game.title}: {error}") from error
            note(f"The exact frontier of {game.title} cannot be computed: {error}")
    return FrontierResults(game.title, LEVELS, best, tuple(teams))


def _named_game(env: str, env_config: Mapping[str, Any]) -> _Game:
    """Returns the game of ``--env``, whose rules must be known as tables."""
    from rllib_risk.env_wrappers.errors import EnvConfigError
    from rllib_risk.env_wrappers.game_tables import tables_of
    from rllib_risk.env_wrappers.registry import ENVS

    if env not in ENVS:
        raise ConfigError(
            f"--env: unknown environment {env!r}.{suggest(env, ENVS)} Known:"
            f" {', '.join(ENVS)}."
        )
    try:
        return _Game(env, env_config, tables_of(env, env_config))
    except EnvConfigError as error:
        raise ConfigError(f"--env: {str(error).rstrip('.')}.") from error


def _teams(
    checkpoints: Sequence[Path],
    env_config: Mapping[str, Any],
    options: FrontierOptions,
) -> tuple[_Game, list[TeamRisk]]:
    """Evaluates all checkpoints, which must play the game of the first one."""
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import register_all
    from rllib_risk.cli.shift import made_up_labels
    from rllib_risk.evaluation.frontier_runs import team_risk
    from rllib_risk.ops.frontier import LEVELS

    folders = [verified(checkpoint, "this figure") for checkpoint in checkpoints]
    labels = options.label or made_up_labels(folders)
    games: list[_Game] = []
    teams: list[TeamRisk] = []
    register_all()
    for folder, label in zip(folders, labels, strict=True):
        with opened(
            folder, trust_code=options.trust_code, env_config=env_config
        ) as algorithm:
            algorithm.require_env()
            games.append(_game_of(algorithm.evaluation_config))
            if not games[-1].is_like(games[0]):
                raise ConfigError(
                    f"{folder} plays {games[-1].title}, but {folders[0]} plays"
                    f" {games[0].title}. One figure can show only one game."
                )
            team = team_risk(
                algorithm,
                games[-1].tables,
                LEVELS,
                label=label,
                source=str(folder),
                episodes=options.episodes,
                seed=options.seed,
            )
        note(f"{label}: {team.how}")
        teams.append(team)
    return games[0], teams


def _game_of(config: Any) -> _Game:
    """Returns the game that a checkpoint plays in its evaluation."""
    from rllib_risk.env_wrappers.errors import EnvConfigError
    from rllib_risk.env_wrappers.game_tables import tables_of
    from rllib_risk.env_wrappers.registry import ADAPTER_DEFAULTS, ENVS

    env, keys = str(config.env), dict(config.env_config)
    shown = {key: value for key, value in keys.items() if key not in ADAPTER_DEFAULTS}
    if env not in ENVS:
        return _Game(env, keys, None)
    try:
        if config.env_variants:
            raise EnvConfigError("env_variants are several games")
        return _Game(env, shown, tables_of(env, keys))
    except EnvConfigError as error:
        note(f"No exact numbers: {str(error).rstrip('.')}.")
        return _Game(env, keys, None)
