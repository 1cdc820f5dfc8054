"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from rllib_risk.config.schema import ConfigError

_RAY = "Ray"
_RUN = "Run"
_CHECKPOINTS = "Checkpoints"
_SEARCH = "Search"
_TRACKING = "Weights & Biases"

StopOption = Annotated[
    str | None,
    typer.Option(
        "--stop",
        metavar="JSON",
        help="When to stop, such as '{\"time_total_s\": 600}'.",
        rich_help_panel=_RUN,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of the result folder. Where NAME holds an earlier run, the results"
        " go to NAME-2, NAME-3 and so on.",
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Random seed of the run.", rich_help_panel=_RUN),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage-path",
        help="Folder for results (default: ~/ray_results).",
        rich_help_panel=_RUN,
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the newest run of this name where it stopped. Changes of"
        " 'stop' are taken over; other changes are refused.",
        rich_help_panel=_RUN,
    ),
]
TimeBudgetOption = Annotated[
    float | None,
    typer.Option(
        "--time-budget-s",
        min=1.0,
        help="Seconds after which every trial saves a checkpoint and the command ends;"
        " --resume continues (default: no limit).",
        rich_help_panel=_RUN,
    ),
]
RestoreOption = Annotated[
    Path | None,
    typer.Option(
        "--restore",
        help="Checkpoint to start every trial from.",
        rich_help_panel=_RUN,
    ),
]
ImportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Import this first: a module that registers envs (may be repeated).",
        rich_help_panel=_RUN,
    ),
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="-v: Tune's tables and the workers' output; -vv: RLlib's log as well.",
        rich_help_panel=_RUN,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--num-samples",
        min=1,
        help="Times to draw from the search space.",
        rich_help_panel=_SEARCH,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Tune scheduler: fifo, asha, hyperband, median_stopping, pbt or pb2.",
        rich_help_panel=_SEARCH,
    ),
]
SchedulerConfigOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler-config",
        metavar="JSON",
        help="Its arguments.",
        rich_help_panel=_SEARCH,
    ),
]
ResourcesOption = Annotated[
    str | None,
    typer.Option(
        "--resources-per-trial",
        metavar="JSON",
        help="Overrides RLlib's own request, such as '{\"cpu\": 2}'.",
        rich_help_panel=_SEARCH,
    ),
]
CheckpointFreqOption = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-freq",
        min=0,
        help="Iterations between checkpoints (default: 0, none).",
        rich_help_panel=_CHECKPOINTS,
    ),
]
CheckpointAtEndOption = Annotated[
    bool | None,
    typer.Option(
        "--checkpoint-at-end/--no-checkpoint-at-end",
        help="A checkpoint when a trial ends (default: yes).",
        rich_help_panel=_CHECKPOINTS,
    ),
]
KeepOption = Annotated[
    int | None,
    typer.Option(
        "--keep-checkpoints-num",
        min=1,
        help="Keep only the best so many.",
        rich_help_panel=_CHECKPOINTS,
    ),
]
ScoreOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-score-attr",
        help="The result that says which are best; 'min-' before it: less is better.",
        rich_help_panel=_CHECKPOINTS,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        help="Join a running cluster ('auto' or host:port).",
        rich_help_panel=_RAY,
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        "--ray-num-cpus",
        min=0,
        help="CPUs (per emulated node, if there are any).",
        rich_help_panel=_RAY,
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option("--ray-num-gpus", min=0, help="GPUs (same).", rich_help_panel=_RAY),
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        "--ray-num-nodes",
        min=1,
        help="Emulate a cluster of so many nodes on this machine.",
        rich_help_panel=_RAY,
    ),
]
ObjectStoreOption = Annotated[
    int | None,
    typer.Option(
        "--ray-object-store-memory",
        min=78_643_200,  # Ray's own minimum
        help="Bytes of Ray's object store.",
        rich_help_panel=_RAY,
    ),
]
DashboardOption = Annotated[
    bool,
    typer.Option(
        "--ray-dashboard", help="Start Ray's dashboard.", rich_help_panel=_RAY
    ),
]
WandbProjectOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-project",
        help="Log to this project; without a key, offline into the result folder.",
        rich_help_panel=_TRACKING,
    ),
]
WandbKeyOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-key",
        help="API key. Better: set WANDB_API_KEY, or run 'wandb login' once.",
        rich_help_panel=_TRACKING,
    ),
]
WandbRunNameOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-run-name", help="Name of the run.", rich_help_panel=_TRACKING
    ),
]


@dataclass(frozen=True)
class RayOptions:
    """How to start Ray; the fields are those of the ``--ray-...`` options."""

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    num_nodes: int | None = None
    object_store_memory: int | None = None
    dashboard: bool = False
    verbose: int = 0


@dataclass(frozen=True)
class WandbOptions:
    """Where to log; nothing is logged without a project.

    Raises:
        ConfigError: If the package of W&B is not installed.
    """

    project: str | None = None
    key: str | None = None
    run_name: str | None = None

    def __post_init__(self) -> None:
        """Checks that W&B can be used, before anything starts."""
        if self.project and find_spec("wandb") is None:
            raise ConfigError(
                "--wandb-project: the package wandb is not installed. Install it with"
                " 'pip install wandb', or leave the option out."
            )


@dataclass(frozen=True)
class RunOptions:
    """What a command line changes in the experiments of a file.

    Attributes:
        resume: Continue the experiments where they stopped.
        verbose: 0, 1 or 2.
        command: The command to print for continuing an interrupted run.
        time_budget_s: Seconds after which the whole command ends; None: no limit.
    """

    resume: bool = False
    verbose: int = 0
    command: str = "rllib train"
    time_budget_s: float | None = None
