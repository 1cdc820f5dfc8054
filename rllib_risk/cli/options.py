"""Command line options that several commands share.

``option_groups.py`` combines them into groups. The help of a command lists the options
of a panel in the order of this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
        help="Stop criteria, such as '{\"time_total_s\": 600}' (default: those of the"
        " file).",
        rich_help_panel=_RUN,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of the result folder (default: the experiment's name). If the folder"
        " NAME holds an earlier run, results go to NAME-2, NAME-3 and so on.",
        rich_help_panel=_RUN,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Random seed of the run (default: the seed in the configuration).",
        rich_help_panel=_RUN,
    ),
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
        help="Continue the newest run of this name from its last checkpoints. Changed"
        " stop criteria take effect; most other changes are refused.",
        rich_help_panel=_RUN,
    ),
]
TimeBudgetOption = Annotated[
    float | None,
    typer.Option(
        "--time-budget-s",
        min=1.0,
        help="Time limit of the command in seconds (default: no limit). At the limit"
        " every trial saves a checkpoint; --resume continues the run.",
        rich_help_panel=_RUN,
    ),
]
RestoreOption = Annotated[
    Path | None,
    typer.Option(
        "--restore",
        help="Folder of a checkpoint from which every trial starts.",
        rich_help_panel=_RUN,
    ),
]
ImportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Module to import before the run, such as one that registers environments"
        " (may be repeated).",
        rich_help_panel=_RUN,
    ),
]
ProfileOption = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Print a table at the end that says where the time went.",
        rich_help_panel=_RUN,
    ),
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="-v: show Tune's tables and the workers' output; -vv: show RLlib's log as"
        " well.",
        rich_help_panel=_RUN,
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        "--num-samples",
        min=1,
        help="Number of times to sample the search space (default: the file's number,"
        " or 1).",
        rich_help_panel=_SEARCH,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="Tune scheduler: fifo, asha, hyperband, median_stopping, pbt or pb2"
        " (default: fifo).",
        rich_help_panel=_SEARCH,
    ),
]
SchedulerConfigOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler-config",
        metavar="JSON",
        help="Arguments of the scheduler.",
        rich_help_panel=_SEARCH,
    ),
]
ResourcesOption = Annotated[
    str | None,
    typer.Option(
        "--resources-per-trial",
        metavar="JSON",
        help="Resources of each trial, such as '{\"cpu\": 2}' (default: what RLlib"
        " requests).",
        rich_help_panel=_SEARCH,
    ),
]
CheckpointFreqOption = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-freq",
        min=0,
        help="Number of iterations between checkpoints (default: 0, no checkpoints"
        " before the end).",
        rich_help_panel=_CHECKPOINTS,
    ),
]
CheckpointAtEndOption = Annotated[
    bool | None,
    typer.Option(
        "--checkpoint-at-end/--no-checkpoint-at-end",
        help="Whether to save a checkpoint when a trial ends (default: yes).",
        rich_help_panel=_CHECKPOINTS,
    ),
]
KeepOption = Annotated[
    int | None,
    typer.Option(
        "--keep-checkpoints-num",
        min=1,
        help="Number of best checkpoints to keep per trial (default: all).",
        rich_help_panel=_CHECKPOINTS,
    ),
]
ScoreOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-score-attr",
        help="Name of the result that ranks checkpoints, such as"
        " evaluation/return_mean. Put 'min-' in front if lower is better.",
        rich_help_panel=_CHECKPOINTS,
    ),
]
WandbProjectOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-project",
        help="W&B project to log to (default: no logging). Without an API key, runs are"
        " logged offline into the result folder.",
        rich_help_panel=_TRACKING,
    ),
]
WandbKeyOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-key",
        help="API key of W&B. Safer: set WANDB_API_KEY, or run 'wandb login' once.",
        rich_help_panel=_TRACKING,
    ),
]
WandbRunNameOption = Annotated[
    str | None,
    typer.Option(
        "--wandb-run-name",
        help="Name of the W&B run (default: the name of the trial).",
        rich_help_panel=_TRACKING,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        help="Address of a running Ray cluster to join: 'auto' or host:port.",
        rich_help_panel=_RAY,
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        "--ray-num-cpus",
        min=0,
        help="Number of CPUs that Ray uses (default: all). With --ray-num-nodes: per"
        " emulated node (default: 1).",
        rich_help_panel=_RAY,
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--ray-num-gpus",
        min=0,
        help="Number of GPUs that Ray uses (default: all). With --ray-num-nodes: per"
        " emulated node (default: 0).",
        rich_help_panel=_RAY,
    ),
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        "--ray-num-nodes",
        min=1,
        help="Number of nodes of a cluster that is emulated on this machine (default:"
        " no emulation).",
        rich_help_panel=_RAY,
    ),
]
ObjectStoreOption = Annotated[
    int | None,
    typer.Option(
        "--ray-object-store-memory",
        min=78_643_200,  # Ray's own minimum
        help="Size of Ray's object store in bytes (default: chosen by Ray).",
        rich_help_panel=_RAY,
    ),
]
DashboardOption = Annotated[
    bool,
    typer.Option(
        "--ray-dashboard", help="Start Ray's dashboard.", rich_help_panel=_RAY
    ),
]

# Options without a panel, for `rllib record`, `rllib evaluate` and `rllib plot`.
EnvConfigOption = Annotated[
    str | None,
    typer.Option(
        "--env-config",
        metavar="JSON",
        help="Arguments of the environment, such as '{\"width\": 12}'.",
    ),
]
EvaluationSeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Random seed of the evaluation (default: as in the training).",
    ),
]
LevelOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Risk level between 0 and 1, for a team trained with objective: static."
        " Episodes choose its threshold for this level (default: as in the training).",
    ),
]


def static_threshold_option(panel: str | None = None) -> Any:
    """Returns the option ``--static-threshold``.

    Args:
        panel: Its panel in the help; None: that of all options without one.
    """
    return typer.Option(
        "--static-threshold",
        metavar="NUMBER",
        help="Threshold, in units of return, of a team trained with objective: static"
        " (default: the one that the last evaluation chose).",
        rich_help_panel=panel,
    )


TrustCodeOption = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Import the environment, mixer or risk measure that a checkpoint names."
        " Importing runs code, so use it only for checkpoints that you trust.",
    ),
]
ShowRayOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Show Ray's output.")
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Result to show (default: evaluation/return_mean; for runs without an"
        " environment, their error on held-out episodes, or on the episodes learned"
        " from).",
    ),
]
AxisOption = Annotated[
    str | None,
    typer.Option(
        "--x",
        help="Result on the x axis (default: env steps; for runs that learned from a"
        " dataset, updates).",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Value of the metric: the table counts the runs that reach it.",
    ),
]
