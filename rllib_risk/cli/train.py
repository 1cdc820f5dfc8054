"""The commands ``rllib train`` and ``rllib train file``."""

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

_TRAIN_HELP = """Train an algorithm on an environment, from options or from a file.

\b
    rllib train --algo RMIX --env macn --stop '{"time_total_s": 300}'
    rllib train --algo PPO --env CartPole-v1 --config '{"lr": 0.0003}'

These options need no file. A training file is usually better, because it
keeps a record of what was run: see 'rllib train file --help'.
"""
_FILE_HELP = """Train the experiments of a file.

\b
    rllib train file tuned_examples/rmix/macn-4x7.yaml
    rllib train file my.yaml --seed 3 --num-samples 4 --name try-3

A YAML file holds one or more experiments. A Python file sets 'config' to an
AlgorithmConfig and may set 'stop'. The command looks for the file in the
working directory first, then among the tuned examples.
"""


@dataclass(frozen=True)
class _NewExperiment:
    """Options that describe an experiment without a file."""

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
            help="Configuration of the algorithm; values may be search spaces.",
        ),
    ] = None
    imports: o.ImportOption = None
    scheduler: o.SchedulerOption = None
    scheduler_config: o.SchedulerConfigOption = None
    resources_per_trial: o.ResourcesOption = None

    def document(self, changes: g.Changes) -> Document:
        """Returns the experiment in the form of a training file."""
        from rllib_risk.config.inheritance import Section, document_of, merge
        from rllib_risk.config.loading import parse_json

        if self.algo is None or self.env is None:
            raise ConfigError(
                "--algo or --env is missing. Give both, or train a file with"
                " 'rllib train file PATH'. See 'rllib train --help'."
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
        str | None,
        typer.Option("--env", help="Environment that replaces the file's."),
    ] = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Train in this process, for a debugger: no Tune, no checkpoints.",
        ),
    ] = False,
    show_config: Annotated[
        bool,
        typer.Option(
            "--show-config",
            help="Print every value and where it is set, check that the keys are"
            " compatible, and exit without training.",
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
    """Loads a training file and applies the changes of the command line.

    Args:
        path: The file.
        changes: The changes.
        env: Name of an env that replaces the file's; None: the file's env.

    Returns:
        The checked experiments.

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
            raise ConfigError(
                f"--name: {file} has {len(sections)} experiments, and --name renames"
                " only one. Leave --name out, or use a file with one experiment."
            )
        sections = {name: next(iter(sections.values()))}
    own = changes.section(env=env)
    for name, section in sections.items():
        if isinstance(section.data, dict):  # parse_document refuses other types
            replaced = drop(section, [(key,) for key in ("stop",) if key in own.data])
            merged = merge(replaced, own)
            # `merge` marks the file's own values as inherited, which they are not.
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
