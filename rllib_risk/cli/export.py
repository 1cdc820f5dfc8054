"""The command ``rllib export``: writes a trained team that acts without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_risk.cli.options import (
    ImportOption,
    LevelOption,
    ShowRayOption,
    TrustCodeOption,
    static_threshold_option,
)
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.config.schema import ConfigError, suggest

EXPORT_HELP = """Export a team, to act without Ray and PyTorch.

\b
    rllib export CHECKPOINT --out my-team
    rllib export CHECKPOINT --out my-team --format onnx
    rllib export CHECKPOINT --out my-team --alpha 0.1

Of the folder of a trial or an experiment the best checkpoint is taken. The folder that
is written holds policy.json (what the team sees and does, and where it comes from), the
networks as policy.safetensors or .onnx files, and a checksum of each file. It holds no
code. In Python:

\b
    from rllib_risk.deploy import Team
    team = Team.load("my-team")
    actions = team.act(observations)
"""


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of a checkpoint, trial or experiment."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; new, or empty.")],
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="safetensors, which needs NumPy alone, or onnx (default:"
            " safetensors).",
            show_default=False,
        ),
    ] = "safetensors",
    level: LevelOption = None,
    static_threshold: Annotated[float | None, static_threshold_option()] = None,
    trust_code: TrustCodeOption = False,
    imports: ImportOption = None,
    verbose: ShowRayOption = 0,
) -> None:
    """Exports a team and prints a summary."""
    from rllib_risk.cli.checkpoints import opened, verified
    from rllib_risk.cli.session import prepare, register_all
    from rllib_risk.config.loading import import_modules
    from rllib_risk.core.export import FORMATS, export_team
    from rllib_risk.core.thresholds import choose_threshold, settle_threshold

    if file_format not in FORMATS:
        raise ConfigError(
            f"--format: there is no {file_format!r}.{suggest(file_format, FORMATS)}"
            f" Known: {', '.join(FORMATS)}."
        )
    if level is not None and static_threshold is not None:
        raise ConfigError(
            "--static-threshold: with --alpha episodes choose the threshold. Give one"
            " of the two."
        )
    out = out.expanduser()
    with stdout_to_stderr():
        prepare(verbose)
        note(f"Loading {checkpoint} ...")
        import_modules(imports)
        folder = verified(checkpoint, "an export")
        register_all()
        with opened(folder, trust_code=trust_code) as algorithm:
            if level is not None:
                note(f"Choosing the threshold for level {level:g} ...")
                choose_threshold(algorithm, algorithm.config.seed, level)
            objective = algorithm.team_policy.network.objective
            settle_threshold(objective, static_threshold, folder)
            record = export_team(algorithm, out, file_format, alpha=level)
    contract = record["contract"]
    masks = "needed" if contract["needs_mask"] else "not needed"
    say(f"algorithm {record['algorithm']}; risk: {record['risk']['means']}")
    say(
        f"{len(contract['agents'])} agents, {contract['obs_size']} numbers each,"
        f" {contract['num_actions']} actions; action masks are {masks}"
    )
    note(f"Wrote {out}")
