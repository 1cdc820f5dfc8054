"""Groups of command line options: a command takes a group as one parameter.

A group is a dataclass whose fields are options::

    @app.command("file")
    @grouped
    def train_file(path: PathArgument, run: RunOptions, ray: RayOptions) -> None: ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import typer

from rllib_risk.cli import options as o
from rllib_risk.config.inheritance import Section
from rllib_risk.config.loading import parse_json
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import KeyPath


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Decorates a command whose parameters may be groups of options.

    Args:
        command: A function with typer's annotations. A parameter that is annotated with
            a dataclass stands for the options among the dataclass's fields. Two groups
            may have the same option; its value goes to both.

    Returns:
        The same command with one parameter per option, for typer to register. The
        options of a panel have the order of ``options.py``.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if not dataclasses.is_dataclass(hint):
            parameters[parameter.name] = parameter.replace(annotation=hint)
            continue
        assert isinstance(hint, type)
        options = _options_of(hint)
        groups[parameter.name] = (hint, [option.name for option in options])
        for option in options:
            same = parameters.setdefault(option.name, option)
            assert same == option, f"two options are named {option.name}"
    flat = sorted(parameters.values(), key=_position)

    @functools.wraps(command)
    def with_groups(**values: Any) -> None:
        made = {
            name: group(**{key: values[key] for key in keys})
            for name, (group, keys) in groups.items()
        }
        own = {name: values[name] for name in hints if name in parameters}
        command(**own, **made)

    signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in flat])
    with_groups.__signature__ = signature  # type: ignore[attr-defined]
    with_groups.__annotations__ = {p.name: p.annotation for p in flat}
    return with_groups


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            member.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=member.default,
            annotation=hints[member.name],
        )
        for member in dataclasses.fields(group)
        if _option_in(hints[member.name]) is not None
    ]


def _option_in(hint: Any) -> Any:
    return next(iter(getattr(hint, "__metadata__", ())), None)


def _position(parameter: inspect.Parameter) -> int:
    """Returns the sort key: arguments, then options without a panel, then panels."""
    option = _option_in(parameter.annotation)
    if isinstance(option, typer.models.ArgumentInfo):
        return -1
    if getattr(option, "rich_help_panel", None) not in o.PANELS:
        return 0
    return next(
        index
        for index, hint in enumerate(vars(o).values(), 1)
        if _option_in(hint) is option
    )


def command_line() -> str:
    """Returns the command line of this process without --resume."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["rllib", *arguments])


@dataclass(frozen=True)
class RayOptions:
    """Options for starting Ray: ``--ray-...`` and ``--verbose``."""

    address: o.AddressOption = None
    num_cpus: o.CpusOption = None
    num_gpus: o.GpusOption = None
    num_nodes: o.NodesOption = None
    object_store_memory: o.ObjectStoreOption = None
    dashboard: o.DashboardOption = False
    verbose: o.VerboseOption = 0


@dataclass(frozen=True)
class WandbOptions:
    """Options for logging to Weights & Biases. Without a project nothing is logged.

    Raises:
        ConfigError: If the package of W&B is not installed, or the project is missing.
    """

    project: o.WandbProjectOption = None
    key: o.WandbKeyOption = None
    run_name: o.WandbRunNameOption = None

    def __post_init__(self) -> None:
        """Checks before the run that W&B can be used."""
        if not self.project:
            if self.key or self.run_name:
                given = "--wandb-key" if self.key else "--wandb-run-name"
                raise ConfigError(
                    f"{given} needs --wandb-project. Add --wandb-project NAME, or leave"
                    f" {given} out."
                )
        elif find_spec("wandb") is None:
            raise ConfigError(
                "--wandb-project: the package wandb is not installed. Install it with"
                " 'pip install wandb', or leave the option out."
            )


@dataclass(frozen=True)
class RunOptions:
    """Options for running experiments.

    Attributes:
        resume: Whether to continue experiments that stopped earlier.
        verbose: Number of ``-v`` flags: 0, 1 or 2.
        time_budget_s: Time limit of the command in seconds; None: no limit.
        profile: Whether to print a table of where the time went.
        command: The command line, printed as the way to continue an interrupted run.
    """

    resume: o.ResumeOption = False
    verbose: o.VerboseOption = 0
    time_budget_s: o.TimeBudgetOption = None
    profile: o.ProfileOption = False
    command: str = field(default_factory=command_line)


@dataclass(frozen=True)
class CommonChanges:
    """Options that change the experiments of a file.

    Attributes:
        stop: JSON that replaces the file's stop criteria.
        seed: Seed that replaces the file's seed, or its search space over seeds.
        storage_path: Folder for results.
        num_samples: Number of times to sample the search space.
    """

    stop: o.StopOption = None
    seed: o.SeedOption = None
    storage_path: o.StorageOption = None
    num_samples: o.SamplesOption = None

    def section(self, **more: Any) -> Section:
        """Returns the changes as a section to merge into an experiment.

        Messages about a changed key name the option that changed it.

        Args:
            **more: Other keys of the experiment; None: not changed.

        Returns:
            The changed keys and values.

        Raises:
            ConfigError: If ``--stop`` is not JSON.
        """
        given = {name: getattr(self, name) for name in _names_of(self)} | more
        for name in ("name", "seed", "stop"):
            given.pop(name, None)
        data = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in given.items()
            if value is not None
        }
        places: dict[KeyPath, str] = {(key,): _spelled(key) for key in data}
        if self.stop:
            data["stop"] = parse_json(self.stop, "--stop").data
            places[("stop",)] = "--stop"
        if self.seed is not None:
            data["config"] = {"seed": self.seed}
            places[("config", "seed")] = "--seed"
        return Section(data, places)


@dataclass(frozen=True)
class Changes(CommonChanges):
    """Further changes that ``rllib train`` and ``rllib train file`` offer.

    Attributes:
        name: Name that replaces the experiment's name.
        restore: Folder of a checkpoint from which every trial starts.
        checkpoint_freq: Number of iterations between checkpoints.
        checkpoint_at_end: Whether a trial that ends saves a checkpoint.
        keep_checkpoints_num: Number of best checkpoints to keep per trial.
        checkpoint_score_attr: Name of the result that ranks checkpoints.
    """

    name: o.NameOption = None
    restore: o.RestoreOption = None
    checkpoint_freq: o.CheckpointFreqOption = None
    checkpoint_at_end: o.CheckpointAtEndOption = None
    keep_checkpoints_num: o.KeepOption = None
    checkpoint_score_attr: o.ScoreOption = None


def _names_of(group: Any) -> list[str]:
    return [member.name for member in dataclasses.fields(group)]


def _spelled(key: str) -> str:
    return f"--{key.replace('_', '-')}"
