"""``rllib compare``: the command line and the file of a comparison."""

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

COMPARE_HELP = """Compare algorithms on one env, with several seeds each.

\b
    rllib compare tuned_examples/compare/macn-4x7.yaml
    rllib compare my.yaml --algo QMIX,RMIX --seeds 0-2 --out try-3
    rllib compare --env two_step --algo QMIX,VDN --stop '{"time_total_s": 60}'

All trials of all algorithms share the cores. A table (interquartile means with 95 %
intervals over seeds, CVaR, env steps to a threshold) and a figure go to the folder of
the results.
"""


@dataclass(frozen=True)
class _Chosen:
    """What the command line says of a comparison; the options win over a file.

    Attributes:
        algo: Names of algorithms, each separated by commas; of a file: labels.
        env: Name of the env, without a file.
        config: Keys that all share as JSON, without a file.
        stop: Stop criteria as JSON.
        seeds: Seeds, such as ``0-4``.
        threshold: Return whose env steps the table tells.
        out: Folder for everything.
        max_concurrent: Trials at the same time.
        resume: Continue the comparison where it stopped.
        imports: Modules to import first.
    """

    algo: Annotated[
        list[str] | None,
        typer.Option(
            "--algo",
            metavar="NAMES",
            help="Algorithms, as 'QMIX,VDN'; of a file: only these labels.",
        ),
    ] = None
    env: Annotated[
        str | None, typer.Option("--env", help="Name of the env, without a file.")
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="JSON", help="Keys that all share, without a file."
        ),
    ] = None
    stop: o.StopOption = None
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Such as '0-4' (the default) or '0,3'."),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Return whose env steps the table tells."),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for everything (default: one in ~/ray_results)."
        ),
    ] = None
    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", min=1, help="Trials at the same time."),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the comparison where it stopped."),
    ] = False
    imports: o.ImportOption = None

    @property
    def names(self) -> list[str]:
        """The names under ``--algo``, one by one."""
        return [name.strip() for part in self.algo or [] for name in part.split(",")]

    def changes(self) -> Section:
        """What replaces keys of the file, each with its option as its place."""
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
        typer.Argument(metavar="FILE", help="A .yaml file: env, algorithms, seeds."),
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
        raise ConfigError("--env and --config are for a comparison without a file.")
    file = find_file(path)
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: a comparison is a .yaml file.")
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
    """Checks a comparison with what the command line changes in it."""
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.session import register_all
    from rllib_risk.config.comparison import parse_comparison

    register_all()
    if isinstance(document.data, dict):  # the checks refuse what is none
        file = Section(document.data, document.places)
        changed = merge(file, chosen.changes(), depth=1)
        document = replace(document, data=changed.data, places=changed.places)
    return parse_comparison(document, RLlibCatalog())
