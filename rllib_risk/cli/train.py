"""``rllib train`` and ``rllib train file``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import Annotated, Any

import typer

from rllib_risk.cli import options as o
from rllib_risk.cli.output import note
from rllib_risk.config.schema import ConfigError

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


@app.callback(help=_TRAIN_HELP)
def train(
    context: typer.Context,
    algo: Annotated[
        str | None,
        typer.Option("--algo", "--run", help="Name of the algorithm."),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="Name of the environment.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="JSON",
            help="Keys of the configuration, search spaces included.",
        ),
    ] = None,
    stop: o.StopOption = None,
    name: o.NameOption = None,
    seed: o.SeedOption = None,
    storage_path: o.StorageOption = None,
    resume: o.ResumeOption = False,
    time_budget_s: o.TimeBudgetOption = None,
    restore: o.RestoreOption = None,
    imports: o.ImportOption = None,
    verbose: o.VerboseOption = 0,
    num_samples: o.SamplesOption = None,
    scheduler: o.SchedulerOption = None,
    scheduler_config: o.SchedulerConfigOption = None,
    resources_per_trial: o.ResourcesOption = None,
    checkpoint_freq: o.CheckpointFreqOption = None,
    checkpoint_at_end: o.CheckpointAtEndOption = None,
    keep_checkpoints_num: o.KeepOption = None,
    checkpoint_score_attr: o.ScoreOption = None,
    ray_address: o.AddressOption = None,
    ray_num_cpus: o.CpusOption = None,
    ray_num_gpus: o.GpusOption = None,
    ray_num_nodes: o.NodesOption = None,
    ray_object_store_memory: o.ObjectStoreOption = None,
    ray_dashboard: o.DashboardOption = False,
) -> None:
    """Builds an experiment from the options and runs it."""
    if context.invoked_subcommand is not None:
        return
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.runner import run_experiments
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import parse_document, parse_json
    from rllib_risk.config.yaml_reader import Document

    if algo is None or env is None:
        raise ConfigError(
            "give --algo and --env, or a file: 'rllib train file PATH'. See"
            " 'rllib train --help'."
        )
    prepare(verbose)
    note(f"Checking {algo} on {env} ...")
    section: dict[str, Any] = {
        "run": algo,
        "env": env,
        "num_samples": num_samples,
        "storage_path": storage_path,
        "restore": str(restore) if restore else None,
        "imports": imports,
        "scheduler": scheduler,
        "checkpoint_freq": checkpoint_freq,
        "checkpoint_at_end": checkpoint_at_end,
        "keep_checkpoints_num": keep_checkpoints_num,
        "checkpoint_score_attr": checkpoint_score_attr,
        "config": parse_json(config, "--config").data if config else {},
        "stop": parse_json(stop, "--stop").data if stop else {},
    }
    for key, text in (
        ("scheduler_config", scheduler_config),
        ("resources_per_trial", resources_per_trial),
    ):
        if text:
            option = f"--{key.replace('_', '-')}"
            section[key] = parse_json(text, option).data
    if seed is not None:
        section["config"]["seed"] = seed
    section = {key: value for key, value in section.items() if value is not None}
    name = name or f"{algo.rpartition('.')[2].replace(':', '-')}-{env}".replace(
        "/", "-"
    )
    document = Document({name: section}, "command line")
    specs = parse_document(document, RLlibCatalog())
    code = run_experiments(
        specs,
        o.RunOptions(resume, verbose, command_line(), time_budget_s),
        o.RayOptions(
            ray_address,
            ray_num_cpus,
            ray_num_gpus,
            ray_num_nodes,
            ray_object_store_memory,
            ray_dashboard,
            verbose,
        ),
        o.WandbOptions(),
    )
    raise typer.Exit(code)


@app.command("file", help=_FILE_HELP)
def train_file(
    path: Annotated[str, typer.Argument(help="A .yaml or .py file.")],
    env: Annotated[
        str | None, typer.Option("--env", help="Another env than the file's.")
    ] = None,
    stop: o.StopOption = None,
    name: o.NameOption = None,
    seed: o.SeedOption = None,
    storage_path: o.StorageOption = None,
    resume: o.ResumeOption = False,
    time_budget_s: o.TimeBudgetOption = None,
    restore: o.RestoreOption = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Train in this process, without Tune and checkpoints."
        ),
    ] = False,
    verbose: o.VerboseOption = 0,
    num_samples: o.SamplesOption = None,
    checkpoint_freq: o.CheckpointFreqOption = None,
    checkpoint_at_end: o.CheckpointAtEndOption = None,
    keep_checkpoints_num: o.KeepOption = None,
    checkpoint_score_attr: o.ScoreOption = None,
    wandb_project: o.WandbProjectOption = None,
    wandb_key: o.WandbKeyOption = None,
    wandb_run_name: o.WandbRunNameOption = None,
    ray_address: o.AddressOption = None,
    ray_num_cpus: o.CpusOption = None,
    ray_num_gpus: o.GpusOption = None,
    ray_num_nodes: o.NodesOption = None,
    ray_object_store_memory: o.ObjectStoreOption = None,
    ray_dashboard: o.DashboardOption = False,
) -> None:
    """Loads, checks and runs the experiments of a file."""
    from rllib_risk.cli.session import prepare

    prepare(verbose)
    note(f"Checking {path} ...")
    changes = {
        "env": env,
        "num_samples": num_samples,
        "storage_path": storage_path,
        "restore": str(restore) if restore else None,
        "checkpoint_freq": checkpoint_freq,
        "checkpoint_at_end": checkpoint_at_end,
        "keep_checkpoints_num": keep_checkpoints_num,
        "checkpoint_score_attr": checkpoint_score_attr,
    }
    specs = load_changed(path, changes, stop, seed, name)
    ray_options = o.RayOptions(
        ray_address,
        ray_num_cpus,
        ray_num_gpus,
        ray_num_nodes,
        ray_object_store_memory,
        ray_dashboard,
        verbose,
    )
    if (wandb_key or wandb_run_name) and not wandb_project:
        raise ConfigError("--wandb-key and --wandb-run-name need --wandb-project.")
    if debug:
        from rllib_risk.cli.debug import run_debug

        raise typer.Exit(run_debug(specs, ray_options))
    from rllib_risk.cli.runner import run_experiments

    code = run_experiments(
        specs,
        o.RunOptions(resume, verbose, command_line(), time_budget_s),
        ray_options,
        o.WandbOptions(wandb_project, wandb_key, wandb_run_name),
    )
    raise typer.Exit(code)


def load_changed(
    path: str,
    changes: dict[str, Any],
    stop: str | None,
    seed: int | None,
    name: str | None,
) -> list[Any]:
    """Loads a training file with what the command line changes in it.

    Args:
        path: The file.
        changes: Keys of an experiment; None: not changed.
        stop: JSON that replaces the file's stop criteria.
        seed: Replaces the file's seed, a search space over seeds included.
        name: Replaces the experiment's name.

    Returns:
        The experiments, checked.

    Raises:
        ConfigError: If the file or a change is wrong.
    """
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.cli.session import register_all
    from rllib_risk.config.loading import (
        find_file,
        load_python,
        parse_document,
        parse_json,
    )
    from rllib_risk.config.yaml_reader import read_yaml

    file = find_file(path)
    register_all()
    catalog = RLlibCatalog()
    stop_data = parse_json(stop, "--stop").data if stop else None
    changes = {key: value for key, value in changes.items() if value is not None}
    if file.suffix == ".py":
        return [_changed_python(load_python(file), changes, stop_data, seed, name)]
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: must be a .yaml or a .py file.")
    document = read_yaml(file)
    data = document.data
    if isinstance(data, dict):
        if name is not None and len(data) == 1:
            document = replace(
                document,
                data={name: next(iter(data.values()))},
                lines={(name, *key[1:]): line for key, line in document.lines.items()},
            )
            data = document.data
        elif name is not None:
            raise ConfigError(f"--name: {file} has several experiments.")
        for section in data.values():
            _change_section(section, changes, stop_data, seed)
    return parse_document(document, catalog)


def _change_section(
    section: Any, changes: dict[str, Any], stop: Any, seed: int | None
) -> None:
    """Changes one experiment in place; what is malformed is left to the checks."""
    if not isinstance(section, dict):
        return
    section.update(changes)
    if stop is not None:
        section["stop"] = stop
    config = section.setdefault("config", {})
    if seed is not None and isinstance(config, dict):
        config["seed"] = seed
    if "env" in changes and isinstance(config, dict):
        config.pop("env", None)


def _changed_python(
    spec: Any, changes: dict[str, Any], stop: Any, seed: int | None, name: str | None
) -> Any:
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.config.experiments import check_name, check_stop, parse_checkpoint
    from rllib_risk.config.yaml_reader import Document

    catalog = RLlibCatalog()
    metrics = catalog.metrics(spec.algorithm)
    if "env" in changes:
        spec.config["env"] = changes["env"]
    if seed is not None:
        spec.config["seed"] = seed
    if name is not None:
        spec.name = check_name(name)
    place = Document(None, "--stop") if stop is not None else spec.document
    spec.stop = check_stop(spec.stop if stop is None else stop, place, (), metrics)
    for key in ("num_samples", "storage_path", "restore"):
        if key in changes:
            setattr(spec, key, changes[key])
    spec.checkpoint = parse_checkpoint(changes, spec.document, (), metrics)
    return spec


def command_line() -> str:
    """Returns the command line that was given, for continuing with --resume."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["rllib", *arguments])
