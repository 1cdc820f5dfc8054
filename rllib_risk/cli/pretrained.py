"""The command ``rllib example play``: the trained teams inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_risk.cli.evaluate import EvaluationOptions, check_outputs
from rllib_risk.cli.output import out, say, stdout_to_stderr
from rllib_risk.cli.result_lines import print_table, write_drawing
from rllib_risk.config.schema import ConfigError, suggest

PLAY_HELP = """Play a trained team of this package; without NAME: list the teams.

\b
    rllib example play
    rllib example play rmix/macn-4x7 --render-out episode.gif

The command repeats the last evaluation of the team's training. The team was
trained by the example of the same name. It is an exported team:
'rllib evaluate' plays it with other seeds and in other environments, and
rllib_risk.deploy acts with it in Python.
"""


def play(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of the team (default: list all teams)."),
    ] = None,
    render_out: Annotated[
        Path | None,
        typer.Option(
            "--render-out", help="Draw the first episode to this file (.gif or .png)."
        ),
    ] = None,
) -> None:
    """Plays a team, or lists all."""
    from rllib_risk.cli.exported import evaluate_exported
    from rllib_risk.cli.session import prepare
    from rllib_risk.deploy.files import read_policy

    root, names = pretrained_root(), pretrained_teams()
    if name is None:
        _print_list({each: read_policy(root / each)[1] for each in names})
        return
    if name not in names:
        raise ConfigError(
            f"there is no trained team {name!r}.{suggest(name, names)} Known:"
            f" {', '.join(names)}."
        )
    check_outputs(None, render_out)
    folder, policy = read_policy(root / name)
    say(f"{name}: {_trained(policy)}")
    say(f"folder: {folder}")
    with stdout_to_stderr():
        prepare(0)
        options = EvaluationOptions(render_out=render_out)
        result, frames = evaluate_exported(folder, {}, options)
    if render_out is not None:
        write_drawing(frames, render_out)
    print_table(result)
    reported = policy["provenance"]["last_evaluation"]["return_mean"]
    say(f"At the end of the training, return_mean was {reported:.4f}.")


def pretrained_root() -> Path:
    """Returns the folder of the trained teams inside the package."""
    import rllib_risk

    return Path(rllib_risk.__file__).parent / "pretrained"


def pretrained_teams() -> list[str]:
    """Returns the names of the trained teams, such as ``rmix/macn-4x7``."""
    root = pretrained_root()
    files = root.rglob("policy.json")
    return sorted(file.parent.relative_to(root).as_posix() for file in files)


def _print_list(policies: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table("team", "training", "return", box=None, pad_edge=False)
    for name, policy in policies.items():
        mean = policy["provenance"]["last_evaluation"]["return_mean"]
        table.add_row(name, _trained(policy), f"{mean:.2f}")
    out.print(table)
    say("\nPlay a team with: rllib example play NAME --render-out episode.gif")


def _trained(policy: Mapping[str, Any]) -> str:
    """Describes the training of a team in a few words."""
    provenance = policy["provenance"]
    dataset, seed = provenance["dataset"], provenance["seeds"]["training"]
    if dataset is not None:
        return f"{policy['algorithm']} on {provenance['env']}, from a log, seed {seed}"
    return (
        f"{policy['algorithm']} on {provenance['env']}, {provenance['env_steps']:,} env"
        f" steps, seed {seed}"
    )
