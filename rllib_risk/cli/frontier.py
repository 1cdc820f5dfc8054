"""``rllib plot frontier``: the best mean and CVaR of a game, and trained teams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli import output
from rllib_risk.cli.option_groups import RayOptions
from rllib_risk.cli.options import (
    EnvConfigOption,
    EvaluationSeedOption,
    ImportOption,
    ShowRayOption,
    TrustCodeOption,
)
from rllib_risk.cli.output import note
from rllib_risk.config.schema import MOST_EPISODES, ConfigError, suggest

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.game_tables import GameTables
    from rllib_risk.evaluation.frontier_report import FrontierResults
    from rllib_risk.evaluation.frontier_runs import TeamRisk

FRONTIER_HELP = """Draw the exact frontier of mean and CVaR, with trained teams.

\b
    rllib plot frontier --env risky_two_step
    rllib plot frontier CHECKPOINT CHECKPOINT --label nested --label static
    rllib plot frontier --env macn \\
        --env-config '{"wind_probability": 0.01, "cliff_reward": -15}'

For each risk level alpha: the best CVaR of the return that a team can have, the mean
that goes with it, and the best nested CVaR (risk taken again at every step). They are
exact, for environments whose rules are tables. Trained teams are exact there too,
unless they have a memory and the game too many histories; then, and in all other
environments, --episodes greedy episodes are played, and intervals are 95 % bootstrap
intervals over them. The numbers go to a .csv file beside the figure.

Returns are not discounted. The environment is that of the first checkpoint.
"""

# Fewer say little of the worst twentieth.
_FEWEST_EPISODES = 1000


@dataclass(frozen=True)
class FrontierOptions:
    """What the command line says.

    Attributes:
        out: The figure.
        env: The environment, where there is no checkpoint.
        env_config: Its arguments, or keys to change in a checkpoint's, as JSON.
        label: Names of the checkpoints.
        episodes: Episodes of a team that is sampled.
        seed: Of these episodes.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import first.
        verbose: 0, 1 or 2.
    """

    out: Annotated[
        Path, typer.Option("--out", help="The figure (.png, .pdf, .svg).")
    ] = Path("frontier.png")
    env: Annotated[
        str | None,
        typer.Option("--env", help="The environment, where no checkpoint names it."),
    ] = None
    env_config: EnvConfigOption = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="Name of a checkpoint, once for each in their order."
        ),
    ] = None
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes",
            min=_FEWEST_EPISODES,
            max=MOST_EPISODES,
            help="Episodes of a team that cannot be evaluated exactly.",
        ),
    ] = _FEWEST_EPISODES
    seed: EvaluationSeedOption = None
    trust_code: TrustCodeOption = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0


@dataclass(frozen=True)
class _Game:
    """The game that a figure is about.

    Attributes:
        env: Its name.
        env_config: Its arguments, without the adapter's keys.
        tables: Its rules; None where they are not known.
    """

    env: str
    env_config: Mapping[str, Any]
    tables: GameTables | None

    @property
    def title(self) -> str:
        """Name and arguments."""
        keys = ", ".join(f"{key} {value}" for key, value in self.env_config.items())
        return f"{self.env} ({keys})" if keys else self.env

    def is_like(self, other: _Game) -> bool:
        """Whether both are one game, whatever the agents see of it."""
        if self.tables is None or other.tables is None:
            mine, theirs = (self.env, self.env_config), (other.env, other.env_config)
            return self.tables is other.tables and mine == theirs
        return self.tables.is_same_game(other.tables)


def plot_frontier(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CHECKPOINT]...",
            help="Folders of checkpoints, or of trials or experiments, whose"
            " best checkpoint is taken.",
            show_default=False,
        ),
    ] = None,
    *,
    options: FrontierOptions,
) -> None:
    """Draws a frontier and prints its numbers."""
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
    """Refuses options that do not go together, before anything starts."""
    out = options.out
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"there is no folder {out.resolve().parent}.")
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--out: {out.name} must end in .png, .pdf or .svg.")
    if bool(checkpoints) == (options.env is not None):
        raise ConfigError(
            "name an environment with --env, or give checkpoints, whose environment"
            " it is then: one of both."
        )
    if options.label and len(options.label) != len(checkpoints):
        raise ConfigError(
            f"--label: give one per checkpoint: {len(checkpoints)}, not"
            f" {len(options.label)}."
        )


def _results(checkpoints: Sequence[Path], options: FrontierOptions) -> FrontierResults:
    """The frontier, and the teams on it."""
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
            note(f"There is no exact frontier of {game.title}: {error}")
    return FrontierResults(game.title, LEVELS, best, tuple(teams))


def _named_game(env: str, env_config: Mapping[str, Any]) -> _Game:
    """The game that --env names; it must have tables."""
    from rllib_risk.env_wrappers.errors import EnvConfigError
    from rllib_risk.env_wrappers.game_tables import tables_of
    from rllib_risk.env_wrappers.registry import ENVS

    if env not in ENVS:
        raise ConfigError(
            f"--env: there is no {env!r}.{suggest(env, ENVS)} Known: {', '.join(ENVS)}."
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
    """Evaluates all checkpoints on the game of the first."""
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import ray_session, register_all
    from rllib_risk.cli.shift import made_up_labels
    from rllib_risk.evaluation.frontier_runs import team_risk
    from rllib_risk.ops.frontier import LEVELS

    folders = [verified(checkpoint, "this figure") for checkpoint in checkpoints]
    labels = options.label or made_up_labels(folders)
    games: list[_Game] = []
    teams: list[TeamRisk] = []
    register_all()
    ray = RayOptions(num_cpus=1, verbose=options.verbose)
    with ray_session(ray, options.imports or ()):
        for folder, label in zip(folders, labels, strict=True):
            with opened(
                folder, trust_code=options.trust_code, env_config=env_config
            ) as algorithm:
                algorithm.require_env()
                games.append(_game_of(algorithm.evaluation_config))
                if not games[-1].is_like(games[0]):
                    raise ConfigError(
                        f"{folder} plays {games[-1].title}, and {folders[0]}"
                        f" {games[0].title}: one figure is for one game."
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
    """The game that a checkpoint plays in its evaluation."""
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
