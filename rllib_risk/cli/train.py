"""``rllib train`` and ``rllib train file``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli import option_groups as g
from rllib_risk.cli import options as o
from rllib_risk.cli.output import note, say
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.config.experiments import ExperimentSpec
    from rllib_risk.config.yaml_reader import Document

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TRAIN_HELP = """Train one algorithm on one environment, from options alone.

\b
    rllib train --algo RMIX --env macn --stop '{"time_total_s": 300}'
    rllib train --algo PPO --env CartPole-v1 --config '{"lr": 0.0003}'

Usually a file is better, since it keeps what was run: see 'rllib train file --help'.
"""
_FILE_HELP = """Train what a file says: a YAML file with experiments, or a Python file
with 'config' (an AlgorithmConfig) and, if wanted, 'stop'.

\b
    rllib train file tuned_examples/rmix/macn-4x7.yaml
    rllib train file my.yaml --seed 3 --num-samples 4 --name try-3

The file is looked up in the working directory, then among the tuned examples.
"""


@dataclass(frozen=True)
class _NewExperiment:
    """The options that make an experiment without a file."""

    algo: Annotated[
        str | None,
        typer.Option("--algo", "--run", help="Name of the algorithm."),
    ] = None
    env: Annotated[
        str | None, typer.Option("--env", help="Name of the environment.")
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="JSON",
            help="Keys of the configuration, search spaces included.",
        ),
    ] = None
    imports: o.ImportOption = None
    scheduler: o.SchedulerOption = None
    scheduler_config: o.SchedulerConfigOption = None
    resources_per_trial: o.ResourcesOption = None

    def document(self, changes: g.Changes) -> Document:
        """The experiment as a training file would hold it."""
        from rllib_risk.config.inheritance import Section, document_of, merge
        from rllib_risk.config.loading import parse_json

        if self.algo is None or self.env is None:
            raise ConfigError(
                "give --algo and --env, or a file: 'rllib train file PATH'. See"
                " 'rllib train --help'."
            )
        section: dict[str, Any] = {
            "run": self.algo,
            "env": self.env,
            "imports": self.imports,
            "scheduler": self.scheduler,
        }
        for key in ("config", "scheduler_config", "resources_per_trial"):
            if text := getattr(self, key):
                section[key] = parse_json(text, f"--{key.replace('_', '-')}").data
        section = {key: value for key, value in section.items() if value is not None}
        algorithm = self.algo.rpartition(".")[2].replace(":", "-")
        name = changes.name or f"{algorithm}-{self.env}".replace("/", "-")
        merged = merge(Section(section), changes.section())
        return document_of({name: merged}, "command line")


@app.callback(help=_TRAIN_HELP)
@g.grouped
def train(
    context: typer.Context,
    experiment: _NewExperiment,
    changes: g.Changes,
    run: g.RunOptions,
    ray: g.RayOptions,
) -> None:
    """Builds an experiment from the options and runs it."""
    if context.invoked_subcommand is not None:
        return
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.runner import run_experiments
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import parse_document

    document = experiment.document(changes)
    prepare(run.verbose)
    note(f"Checking {experiment.algo} on {experiment.env} ...")
    specs = parse_document(document, RLlibCatalog())
    raise typer.Exit(run_experiments(specs, run, ray, g.WandbOptions()))


@app.command("file", help=_FILE_HELP)
@g.grouped
def train_file(
    path: Annotated[str, typer.Argument(help="A .yaml or .py file.")],
    changes: g.Changes,
    run: g.RunOptions,
    wandb: g.WandbOptions,
    ray: g.RayOptions,
    env: Annotated[
        str | None, typer.Option("--env", help="Another env than the file's.")
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Train in this process, without Tune and checkpoints."
        ),
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help="Print every value with the place that it comes from, check that the"
            " keys go together, and stop.",
        ),
    ] = False,
) -> None:
    """Loads, checks and runs the experiments of a file."""
    from rllib_risk.cli.session import prepare

    prepare(run.verbose)
    note(f"Checking {path} ...")
    specs = load_changed(path, changes, env)
    if show_config:
        from rllib_risk.cli.preflight import check_combinations
        from rllib_risk.cli.show_config import configuration_text

        say(configuration_text(specs))
        for spec in specs:
            check_combinations(spec)
        return
    if debug:
        from rllib_risk.cli.debug import run_debug

        raise typer.Exit(run_debug(specs, ray))
    from rllib_risk.cli.runner import run_experiments

    raise typer.Exit(run_experiments(specs, run, ray, wandb))


def load_changed(
    path: str, changes: g.CommonChanges, env: str | None = None
) -> list[ExperimentSpec]:
    """Loads a training file with what the command line changes in it.

    Args:
        path: The file.
        changes: What the command line changes.
        env: Replaces the file's env.

    Returns:
        The experiments, checked.

    Raises:
        ConfigError: If the file or a change is wrong.
    """
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.session import register_all
    from rllib_risk.config.inheritance import document_of, drop, merge, sections_of
    from rllib_risk.config.loading import (
        find_file,
        load_python,
        parse_document,
        read_training_file,
        resolve_document,
    )

    file = find_file(path)
    register_all()
    if file.suffix == ".py":
        return [_changed_python(load_python(file), changes, env)]
    document = resolve_document(read_training_file(file))
    sections = sections_of(document)
    name = getattr(changes, "name", None)
    if name is not None:
        if len(sections) > 1:
            raise ConfigError(f"--name: {file} has several experiments.")
        sections = {name: next(iter(sections.values()))}
    own = changes.section(env=env)
    for name, section in sections.items():
        if isinstance(section.data, dict):  # the checks refuse what is none
            replaced = drop(section, [(key,) for key in ("stop",) if key in own.data])
            merged = merge(replaced, own)
            # The file's own values are not taken over from anywhere.
            sections[name] = replace(merged, inherited=replaced.inherited)
    return parse_document(document_of(sections, document.source), RLlibCatalog())


def _changed_python(
    spec: ExperimentSpec, changes: g.CommonChanges, env: str | None
) -> ExperimentSpec:
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.config.experiments import check_name, check_stop, parse_checkpoint
    from rllib_risk.config.yaml_reader import Document

    section = dict(changes.section().data)
    metrics = RLlibCatalog().metrics(spec.algorithm)
    place = spec.document or Document(None, "command line")
    more = {"env": env, "seed": changes.seed}
    spec.config |= {key: value for key, value in more.items() if value is not None}
    name = getattr(changes, "name", None)
    spec = replace(spec, name=spec.name if name is None else check_name(name))
    stop = section.get("stop", spec.stop)
    of_stop = Document(None, "--stop") if "stop" in section else place
    spec.stop = check_stop(stop, of_stop, (), metrics)
    for key in ("num_samples", "storage_path", "restore"):
        if key in section:
            setattr(spec, key, section[key])
    spec.checkpoint = parse_checkpoint(section, place, (), metrics)
    return spec
