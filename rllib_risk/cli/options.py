"""Options that several commands share, each stated once.

Groups of them are in ``option_groups.py``. Help shows the options of a panel in the
order of this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_RAY = "Ray"
_RUN = "Run"
_CHECKPOINTS = "Checkpoints"
_SEARCH = "Search"
_TRACKING = "Weights & Biases"
PANELS = (_RUN, _SEARCH, _CHECKPOINTS, _TRACKING, _RAY)

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
        help="Number of best checkpoints to keep.",
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
        help="Emulate a cluster with this number of nodes on this machine.",
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

# Options without a panel: of `rllib record`, `rllib evaluate` and the like.
EnvConfigOption = Annotated[
    str | None,
    typer.Option("--env-config", metavar="JSON", help="Arguments of the env."),
]
EvaluationSeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, help="Of the evaluation (default: as in the training)."
    ),
]
TrustCodeOption = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Import the environment, mixer or measure that it names."
    ),
]
ShowRayOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show Ray's output.")
]
