"""``rllib dataset``: describes, checks and imports datasets."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli.output import note, say
from rllib_risk.cli.status import status_lines
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.data.card import Card

app = typer.Typer(
    no_args_is_help=True,
    help="Look at datasets, check them, and import them from elsewhere.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_IMPORT_HELP = """Import logs of a team as a dataset.

\b
    rllib dataset import --infer log.csv --map map.yaml    writes a first map
    rllib dataset import DATA log.csv --map map.yaml
    rllib dataset import DATA 'logs/*.parquet' --map map.yaml --env uav
    rllib dataset import DATA authors.csv --format uav-csv
    rllib dataset import DATA vault/Good --format og-marl --env smac

OUT is a new or empty folder. FILES are CSV, JSON lines (both also with .gz),
Parquet, NPZ or HDF5; a folder of them; or a pattern in quotes. The map says which
columns are what: docs/data_import.md. HDF5 needs 'rllib-risk\\[hdf5]'.

'uav-csv' is the form of MA-CQR's authors; its sizes follow from --env-config of
'uav'. 'og-marl' is a Flashbax vault and needs 'rllib-risk\\[og-marl]'.
"""
_FORMATS = ("map", "uav-csv", "og-marl")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the dataset.")]


@app.command("info")
def info(
    folder: FolderArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the dataset's card as JSON.")
    ] = False,
) -> None:
    """Print a dataset's env, agents, behaviour, size and returns."""
    card = _open(folder).card
    if as_json:
        say(json.dumps(asdict(card), indent=2, sort_keys=True))
    else:
        describe(folder, card)


@app.command("check")
def check(folder: FolderArgument) -> None:
    """Read every row and check hashes, order and values, and the card."""
    note(f"Checking {folder} ...")
    from rllib_risk.data.rows import DatasetError

    with status_lines(lambda: f"checking {folder}"):
        dataset = _open(folder)
        try:
            dataset.check()
        except DatasetError as error:
            raise ConfigError(f"{error}.") from error
    card = dataset.card
    say(
        f"{folder} is complete and undamaged: {card.num_episodes:,} episodes,"
        f" {card.num_steps:,} env steps in {len(card.shards)} file(s)."
    )
    if not card.is_hashed:
        note(
            "The card was written by version 0.1 and has no checksum of its own, so a"
            " changed env, env_config, agents or behaviour cannot be detected."
        )


@app.command("import", help=_IMPORT_HELP)
def import_dataset(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="OUT FILES",
            help="Folder to write to, and the files to import. With --infer: FILES"
            " only.",
        ),
    ],
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="The map, a YAML file. With --infer: file to write (default:"
            " map.yaml).",
        ),
    ] = None,
    infer: Annotated[
        bool,
        typer.Option(
            "--infer", help="Write a first map from the files' columns; import nothing."
        ),
    ] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="map, uav-csv or og-marl (default map, with --map)."
        ),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="Name of the env of the data.")
    ] = None,
    env_config: Annotated[
        str | None,
        typer.Option("--env-config", metavar="JSON", help="Arguments of that env."),
    ] = None,
    team_reward: Annotated[
        str,
        typer.Option(
            "--team-reward",
            help="With og-marl: how the team reward follows from the agents' rewards:"
            " shared (all are equal, which is checked), sum or mean.",
        ),
    ] = "shared",
) -> None:
    """Imports a dataset."""
    if infer:
        note(f"Reading {', '.join(paths)} ...")
        with status_lines(lambda: "reading the files"):
            _infer(paths, map_file)
        return
    form, out, files = _what_to_import(paths, form, map_file)
    note(f"Importing {', '.join(files)} ...")
    from rllib_risk.config.loading import parse_json
    from rllib_risk.data.rows import DatasetError

    settings: dict[str, Any] = {}
    if env_config:
        settings = parse_json(env_config, "--env-config").data
    if form == "map" and map_file is None:
        raise ConfigError(
            "--map is missing: the map says what each column holds. --infer writes a"
            " first map."
        )
    try:
        with status_lines(lambda: f"importing to {out}"):
            if map_file is not None:
                card = _import_files(out, files, map_file, env, settings)
            else:
                card = _import_foreign(form, out, files, env, settings, team_reward)
    except DatasetError as error:
        raise ConfigError(f"{error}.") from error
    describe(out, card)


def _what_to_import(
    paths: list[str], form: str | None, map_file: Path | None
) -> tuple[str, Path, list[str]]:
    """Returns the format, the folder to write to, and the files."""
    if paths[0] in _FORMATS[1:] and form is None and map_file is None:
        # The form of version 0.1: FORMAT SOURCE OUT.
        if len(paths) != 3:
            raise ConfigError(
                f"give 'OUT FILE --format {paths[0]}', or '{paths[0]} FILE OUT'."
            )
        return paths[0], Path(paths[2]), paths[1:2]
    if form not in (None, *_FORMATS):
        raise ConfigError(f"--format: must be one of {', '.join(_FORMATS)}.")
    if len(paths) < 2:
        raise ConfigError("give a folder to write to, OUT, and FILES to import.")
    if form in _FORMATS[1:] and (map_file is not None or len(paths) > 2):
        raise ConfigError(f"--format {form}: takes one file and no --map.")
    return form or "map", Path(paths[0]), paths[1:]


def _infer(paths: list[str], map_file: Path | None) -> None:
    """Writes a first map and prints the guesses in it."""
    from rllib_risk.data.importing.inference import infer_map
    from rllib_risk.data.rows import DatasetError

    target = Path("map.yaml") if map_file is None else map_file.expanduser()
    if target.exists():
        raise ConfigError(f"{target} exists already. Choose another file with --map.")
    try:
        guess = infer_map(paths)
    except DatasetError as error:
        raise ConfigError(f"{error}.") from error
    target.write_text(guess.text, encoding="utf-8")
    for line in guess.notes:
        say(line)
    say(f"Wrote {target}. Check it before you import.")


def _import_files(
    out: Path, files: list[str], map_file: Path, env: str | None, settings: Any
) -> Card:
    """Imports files by a map and prints which information they lack."""
    from rllib_risk.data.importing.importer import import_files

    card, report = import_files(out, files, map_file, env=env, env_config=settings)
    if report.unflagged:
        note(
            f"{report.unflagged:,} episode(s) end without a flag. They count as cut"
            " off."
        )
    if report.shortened:
        note(
            f"{report.shortened:,} episode(s) were cut off, and the files do not hold"
            " the observation after the last step. That step is left out."
        )
    if report.left_out:
        note(
            f"{report.left_out:,} episode(s) of one step are left out for the same"
            " reason."
        )
    return card


def _import_foreign(
    form: str,
    out: Path,
    files: list[str],
    env: str | None,
    settings: Any,
    team_reward: str,
) -> Card:
    """Imports the formats that need no map."""
    from rllib_risk.data.og_marl import import_vault
    from rllib_risk.env_wrappers.team_env import TEAM_REWARDS
    from rllib_risk.env_wrappers.uav.csv_log import import_csv

    (source,) = map(Path, files)
    if form == "og-marl":
        if team_reward not in TEAM_REWARDS:
            raise ConfigError(
                f"--team-reward: must be one of {', '.join(TEAM_REWARDS)}."
            )
        return import_vault(source, out, env, settings, team_reward)
    if env not in (None, "uav"):
        raise ConfigError("--env: files of format uav-csv belong to env 'uav'.")
    return import_csv(source, out, settings)


def describe(folder: Path, card: Card) -> None:
    """Prints the contents of a dataset's card.

    Args:
        folder: Folder of the dataset.
        card: The card of the dataset.
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
