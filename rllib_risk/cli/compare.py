"""The command ``rllib compare``: reads the options and the file of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli import option_groups as g
from rllib_risk.cli import options as o
from rllib_risk.cli.output import note
from rllib_risk.config.inheritance import Section, merge
from rllib_risk.config.loading import parse_json
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import Document

if TYPE_CHECKING:
    from rllib_risk.config.comparison import Comparison

COMPARE_HELP = """Compare algorithms on one environment, with several seeds each.

\b
    rllib compare tuned_examples/compare/macn-4x7.yaml
    rllib compare my.yaml --algo QMIX,RMIX --seeds 0-2 --out try-3
    rllib compare --env two_step --algo QMIX,VDN --stop '{"time_total_s": 60}'

Trials of all algorithms run in parallel and share the CPU cores. The folder
of the results receives a table and a figure. The table shows interquartile
means with 95 % intervals over seeds, CVaR, and the env steps to a threshold.
"""


@dataclass(frozen=True)
class _Chosen:
    """Options of a comparison. They override the file.

    Attributes:
        algo: Names of algorithms, separated by commas. With a file: labels to run.
        env: Name of the environment, if there is no file.
        config: Configuration of all algorithms as JSON, if there is no file.
        stop: Stop criteria as JSON.
        seeds: Seeds, such as ``0-4``.
        threshold: Return threshold: the table reports the env steps to reach it.
        out: Folder for all results.
        max_concurrent: Maximum number of trials at the same time.
        resume: Whether to continue a comparison that stopped earlier.
        imports: Modules to import before the run.
    """

    algo: Annotated[
        list[str] | None,
        typer.Option(
            "--algo",
            metavar="NAMES",
            help="Algorithms to compare, such as 'QMIX,VDN'. With a file: labels to run"
            " (default: all).",
        ),
    ] = None
    env: Annotated[
        str | None,
        typer.Option("--env", help="Name of the environment, if there is no file."),
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="JSON",
            help="Configuration that all algorithms share, if there is no file.",
        ),
    ] = None
    stop: o.StopOption = None
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            help="Seeds of every algorithm, such as '0-4' or '0,3' (default: the file's"
            " seeds, or 0-4).",
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Return threshold: the table reports the env steps needed to reach it"
            " (default: the file's, or none).",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for all results (default: compare-NAME in ~/ray_results).",
        ),
    ] = None
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            "--max-concurrent",
            min=1,
            help="Maximum number of trials at the same time (default: as many as the"
            " CPUs allow).",
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the stopped comparison in the folder --out."
        ),
    ] = False
    imports: o.ImportOption = None

    @property
    def names(self) -> list[str]:
        """Names given with ``--algo``, split at commas."""
        return [name.strip() for part in self.algo or [] for name in part.split(",")]

    def changes(self) -> Section:
        """Returns the keys that replace those of the file.

        Messages about a changed key name the option that changed it.
        """
        from rllib_risk.config.comparison import parse_seeds

        given: dict[str, tuple[str, Any]] = {
            "stop": ("--stop", self.stop and parse_json(self.stop, "--stop").data),
            "seeds": ("--seeds", self.seeds and parse_seeds(self.seeds)),
            "threshold": ("--threshold", self.threshold),
            "max_concurrent_trials": ("--max-concurrent", self.max_concurrent),
            "imports": ("--import", self.imports),
        }
        given = {key: pair for key, pair in given.items() if pair[1] is not None}
        return Section(
            {key: value for key, (_, value) in given.items()},
            {(key,): option for key, (option, _) in given.items()},
        )


@g.grouped
def compare(
    chosen: _Chosen,
    ray: g.RayOptions,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="A .yaml file with env, algorithms and seeds."
        ),
    ] = None,
    time_budget_s: o.TimeBudgetOption = None,
    project: o.WandbProjectOption = None,
    key: o.WandbKeyOption = None,
) -> None:
    """Loads, checks and runs a comparison."""
    from rllib_risk.cli.comparing import run_comparison
    from rllib_risk.cli.session import prepare

    prepare(ray.verbose)
    note(f"Checking {path or chosen.env or 'the options'} ...")
    wandb = g.WandbOptions(project, key)
    comparison, name = (
        _from_options(chosen) if path is None else _from_file(path, chosen)
    )
    options = g.RunOptions(chosen.resume, ray.verbose, time_budget_s)
    raise typer.Exit(run_comparison(comparison, chosen.out, name, options, ray, wandb))


def _from_file(path: str, chosen: _Chosen) -> tuple[Comparison, str]:
    """Loads a file; returns the comparison and its name."""
    from rllib_risk.config.loading import find_file
    from rllib_risk.config.yaml_reader import read_yaml

    if chosen.env is not None or chosen.config is not None:
        raise ConfigError(
            "--env and --config are only for a comparison without a file. Write them"
            " into the file instead."
        )
    file = find_file(path)
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: the file of a comparison must end in .yaml.")
    comparison = _parse(read_yaml(file), chosen)
    labels = chosen.names
    return comparison.select(labels) if labels else comparison, file.stem


def _from_options(chosen: _Chosen) -> tuple[Comparison, str]:
    """Makes a comparison from options; returns it and its name."""
    config = parse_json(chosen.config, "--config").data if chosen.config else {}
    dataset = str(config.get("dataset") or "")
    if not chosen.names or not (chosen.env or dataset):
        raise ConfigError(
            "give a file; or --algo and --env, or --algo and a dataset in --config. See"
            " 'rllib compare --help'."
        )
    data = {"config": config, "algorithms": dict.fromkeys(chosen.names)}
    if chosen.env:
        data["env"] = chosen.env
    document = Document(data, "command line")
    name = chosen.env or Path(dataset.replace("{seed}", "seed")).name
    return _parse(document, chosen), name.replace("/", "-")


def _parse(document: Document, chosen: _Chosen) -> Comparison:
    """Checks a comparison after the command line has changed it."""
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.session import register_all
    from rllib_risk.config.comparison import parse_comparison

    register_all()
    if isinstance(document.data, dict):  # parse_comparison refuses other types
        file = Section(document.data, document.places)
        changed = merge(file, chosen.changes(), depth=1)
        document = replace(document, data=changed.data, places=changed.places)
    return parse_comparison(document, RLlibCatalog())
