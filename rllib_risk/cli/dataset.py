"""``rllib dataset``: what is in a dataset, whether it is whole, and imports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli.output import note, say
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.data.card import Card

app = typer.Typer(
    no_args_is_help=True,
    help="Look at datasets, check them, and import them from elsewhere.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_IMPORT_HELP = """Import a dataset from another format.

\b
    rllib dataset import uav-csv dataset.csv OUT
    rllib dataset import og-marl vault/Good OUT --env smac

'uav-csv' is the form of MA-CQR's authors: an index and unnamed columns; the
sizes follow from --env-config of 'uav'. 'og-marl' is a Flashbax vault, which needs:
pip install 'rllib-risk\\[og-marl]'.
"""

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the dataset.")]


@app.command("info")
def info(
    folder: FolderArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print its card as JSON.")
    ] = False,
) -> None:
    """Say what a dataset is of, who acted, and how well."""
    card = _open(folder).card
    if as_json:
        say(json.dumps(asdict(card), indent=2, sort_keys=True))
    else:
        describe(folder, card)


@app.command("check")
def check(folder: FolderArgument) -> None:
    """Read every row: hashes, order, values, and whether the card is right."""
    from rllib_risk.data.rows import DatasetError

    dataset = _open(folder)
    card = dataset.card
    try:
        dataset.check()
    except DatasetError as error:
        raise ConfigError(f"{error}.") from error
    say(
        f"{folder} is whole: {card.num_episodes:,} episodes, {card.num_steps:,} env"
        f" steps in {len(card.shards)} file(s)."
    )
    if not card.is_hashed:
        note(
            "Its card is of version 0.1 and has no hash of itself: a change of env,"
            " env_config, agents or behaviour cannot be seen."
        )


@app.command("import", help=_IMPORT_HELP)
def import_dataset(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="uav-csv or og-marl.")],
    source: Annotated[Path, typer.Argument(help="What to import.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")],
    env: Annotated[
        str | None, typer.Option("--env", help="What it is of (og-marl).")
    ] = None,
    env_config: Annotated[
        str | None,
        typer.Option("--env-config", metavar="JSON", help="Arguments of that env."),
    ] = None,
    team_reward: Annotated[
        str,
        typer.Option(
            "--team-reward",
            help="Of agents' rewards (og-marl): shared, which is checked, sum or mean.",
        ),
    ] = "shared",
) -> None:
    """Imports a dataset."""
    from rllib_risk.config.loading import parse_json
    from rllib_risk.data.og_marl import import_vault
    from rllib_risk.data.rows import DatasetError
    from rllib_risk.env_wrappers.team_env import TEAM_REWARDS
    from rllib_risk.env_wrappers.uav.csv_log import import_csv

    if team_reward not in TEAM_REWARDS:
        raise ConfigError(f"--team-reward: must be one of {', '.join(TEAM_REWARDS)}.")
    settings: dict[str, Any] = {}
    if env_config:
        settings = parse_json(env_config, "--env-config").data
    note(f"Importing {source} ...")
    try:
        if form == "uav-csv":
            if env not in (None, "uav"):
                raise ConfigError("--env: uav-csv is of env 'uav'.")
            card = import_csv(source, out, settings)
        elif form == "og-marl":
            card = import_vault(source, out, env, settings, team_reward)
        else:
            raise ConfigError(f"FORMAT: must be uav-csv or og-marl, not '{form}'.")
    except DatasetError as error:
        raise ConfigError(f"{error}.") from error
    describe(out, card)


def describe(folder: Path, card: Card) -> None:
    """Prints what a card says.

    Args:
        folder: Where the dataset is.
        card: Its card.
    """
    sizes, returns = card.sizes, card.returns
    settings = json.dumps(dict(card.env_config)) if card.env_config else ""
    rows = {
        "dataset": str(folder),
        "env": f"{card.env or 'not known'} {settings}".rstrip(),
        "agents": ", ".join(card.agents),
        "sizes": f"{sizes.num_actions} actions, observations of {sizes.obs_size},"
        f" state of {sizes.state_size}",
        "behaviour": ", ".join(f"{k} {v}" for k, v in card.behaviour.items()),
        "seed": "-" if card.seed is None else str(card.seed),
        "episodes": f"{card.num_episodes:,} ({card.num_steps:,} env steps,"
        f" {len(card.shards)} file(s))",
        "return": f"mean {returns['mean']:.2f}, std {returns['std']:.2f},"
        f" min {returns['min']:.2f}, max {returns['max']:.2f}",
        "content hash": card.content_hash,
    }
    for name, value in rows.items():
        say(f"{name:<13} {value}")


def _open(folder: Path) -> Any:
    from rllib_risk.data.dataset import Dataset
    from rllib_risk.data.rows import DatasetError

    try:
        return Dataset(folder.expanduser())
    except DatasetError as error:
        raise ConfigError(f"{error}.") from error
