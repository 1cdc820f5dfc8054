"""The command ``rllib evaluate``: plays greedy episodes of a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_risk.cli.off_policy import OffPolicyOptions, evaluate_off_policy
from rllib_risk.cli.option_groups import RayOptions, grouped
from rllib_risk.cli.options import (
    EvaluationSeedOption,
    ImportOption,
    LevelOption,
    ShowRayOption,
    TrustCodeOption,
)
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.cli.result_lines import print_table, write_drawing
from rllib_risk.cli.status import playing, status_lines
from rllib_risk.config.schema import MAX_EPISODES, ConfigError

EVALUATE_HELP = """Evaluate a checkpoint with greedy episodes, or from a dataset.

\b
    rllib evaluate ~/ray_results/my-run/RMIX_macn_0/checkpoint_000009
    rllib evaluate CHECKPOINT --episodes 100 --seed 1 --json
    rllib evaluate ~/ray_results/my-run
    rllib evaluate CHECKPOINT --render-out episode.gif
    rllib evaluate CHECKPOINT --env-config '{"width": 12}'
    rllib evaluate CHECKPOINT --alpha 0.1
    rllib evaluate CHECKPOINT CHECKPOINT \\
        --shift tuned_examples/shift/macn-cliff.yaml
    rllib evaluate CHECKPOINT CHECKPOINT --dataset DATA --method fqe,wis,dr

Without --episodes and --seed, the command repeats the last evaluation of the
training exactly. For the folder of a trial or an experiment, it uses the best
checkpoint. An exported team (rllib export) can be evaluated too, except with
--shift and --dataset.

With --shift, one or more checkpoints play a grid of environments that differ
from the training environment. Tables (mean, worst cell, CVaR over cells) and
a heat map go to the folder --out (default: shift-GRID).

With --dataset, no episodes are played. The command estimates the return of
one or more checkpoints from a dataset that other policies recorded. A table,
a figure and a summary sentence go to the folder --out (default:
off-policy-DATA).

A checkpoint of this package's algorithms contains no code. A checkpoint of
RLlib's own algorithms consists of Python pickles, which run code when they
are loaded. Evaluate one only if you trust it, and name its algorithm with
--algo.
"""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of ``rllib evaluate``.

    Attributes:
        algo: Name of the algorithm, for a checkpoint of RLlib's own algorithms.
        episodes: Number of episodes to play; None: as in the training or the grid.
        seed: Seed of the evaluation; None: as in the training or the grid.
        level: Risk level ``alpha`` to evaluate at; None: as in the training.
        env: Environment to play in, for a run that learned without one.
        env_config: Keys of ``env_config`` to change, as JSON.
        as_json: Whether to print JSON instead of a table.
        out: File of the results; with ``shift`` a folder.
        render: Whether to draw the first episode.
        render_out: File of the drawing.
        shift: File of a grid; None: play the training environment.
        label: Names of the checkpoints.
        no_references: Whether to leave out scripted policies in a grid.
        trust_code: Whether code that a checkpoint names may be imported.
        imports: Modules to import before the run.
        verbose: Number of ``-v`` flags: 0, 1 or 2.
    """

    algo: Annotated[
        str | None,
        typer.Option(
            "--algo",
            "--run",
            help="Name of the algorithm; needed only for checkpoints of RLlib's own"
            " algorithms.",
        ),
    ] = None
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes",
            min=1,
            max=MAX_EPISODES,
            help="Number of episodes (default: as in the training; with --dataset: all"
            " episodes of the dataset).",
        ),
    ] = None
    seed: EvaluationSeedOption = None
    level: LevelOption = None
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            help="Name of the env to play in, for a run that learned from a dataset"
            " without one.",
        ),
    ] = None
    env_config: Annotated[
        str | None,
        typer.Option(
            "--env-config",
            metavar="JSON",
            help="Keys of env_config to change in this evaluation.",
        ),
    ] = None
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the result as one JSON object on stdout."),
    ] = False
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File for the result as JSON; with --shift or --dataset: folder for"
            " the results.",
        ),
    ] = None
    render: Annotated[
        bool,
        typer.Option("--render", help="Draw the first episode to episode.gif."),
    ] = False
    render_out: Annotated[
        Path | None,
        typer.Option(
            "--render-out", help="Draw the first episode to this file (.gif or .png)."
        ),
    ] = None
    shift: Annotated[
        str | None,
        typer.Option(
            "--shift",
            metavar="FILE",
            help="A .yaml file with a grid of environments to play.",
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="With --shift or --dataset: name of a checkpoint. Repeat it once per"
            " checkpoint, in the same order. In a grid, checkpoints with the same name"
            " count as seeds of one policy.",
        ),
    ] = None
    no_references: Annotated[
        bool,
        typer.Option(
            "--no-references",
            help="With --shift: do not play the environment's scripted policies.",
        ),
    ] = False
    trust_code: TrustCodeOption = False
    imports: ImportOption = None
    verbose: ShowRayOption = 0

    @property
    def figure(self) -> Path | None:
        """File for the drawing of the first episode; None: no drawing."""
        return self.render_out or (Path("episode.gif") if self.render else None)


@grouped
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Folder of a checkpoint or an exported team, or of a trial or"
            " experiment, whose best checkpoint is used. Several checkpoints are"
            " allowed with --shift and --dataset.",
        ),
    ],
    options: EvaluationOptions,
    off_policy: OffPolicyOptions,
) -> None:
    """Evaluates checkpoints and prints the result."""
    if off_policy.data is not None:
        evaluate_off_policy(checkpoints, off_policy.data, options, off_policy)
        return
    if off_policy.given:
        raise ConfigError(
            f"{', '.join(off_policy.given)}: allowed only with --dataset."
        )
    if options.shift is not None:
        if options.algo is not None or options.figure is not None:
            raise ConfigError(
                "--algo and --render cannot be combined with --shift. Leave them out."
            )
        if options.env is not None:
            raise ConfigError("--env: the grid of --shift names the env. Leave it out.")
        if options.env_config is not None:
            raise ConfigError(
                "--env-config cannot be combined with --shift. Write the keys under"
                " 'env_config' in the file of the grid."
            )
        _evaluate_shift(checkpoints, options.shift, options)
        return
    if len(checkpoints) > 1:
        raise ConfigError(
            "several checkpoints are allowed only with --shift or --dataset. Give one"
            " checkpoint."
        )
    if options.label or options.no_references:
        raise ConfigError(
            "--label is allowed only with --shift or --dataset, and --no-references"
            " only with --shift."
        )
    _evaluate_one(checkpoints[0], options)


def _evaluate_one(checkpoint: Path, options: EvaluationOptions) -> None:
    """Evaluates a checkpoint on the environment of its training."""
    note(f"Loading {checkpoint} ...")
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import import_modules, parse_json

    text, figure = options.env_config, options.figure
    env_config = parse_json(text, "--env-config").data if text else {}
    check_outputs(options.out, figure)
    with stdout_to_stderr():
        prepare(options.verbose)
        import_modules(options.imports)
        result, frames = run_evaluation(checkpoint, env_config, options)
    text = json.dumps(json_safe(result), indent=2)
    if options.out is not None:
        options.out.write_text(text + "\n")
        note(f"Wrote {options.out}")
    if figure is not None:
        write_drawing(frames, figure)
    if options.as_json:
        say(text)
    else:
        print_table(result)


def _evaluate_shift(
    checkpoints: Sequence[Path], file: str, options: EvaluationOptions
) -> None:
    """Evaluates checkpoints over a grid of shifted environments."""
    note(f"Loading {file} ...")
    from rllib_risk.cli import output
    from rllib_risk.cli.session import prepare
    from rllib_risk.cli.shift import ShiftOptions, load_grid, results_folder, run_shift
    from rllib_risk.config.loading import import_modules
    from rllib_risk.evaluation.shift_report import print_shift, write_shift

    with stdout_to_stderr():
        prepare(options.verbose)
        import_modules(options.imports)
        shift_options = ShiftOptions(
            labels=tuple(options.label or ()),
            level=options.level,
            episodes=options.episodes,
            seed=options.seed,
            references=not options.no_references,
            trust_code=options.trust_code,
        )
        grid = load_grid(file, shift_options)
        folder = results_folder(options.out, grid)
        with playing():
            results = run_shift(checkpoints, grid, shift_options)
    folder.mkdir(exist_ok=True)
    files = write_shift(results, folder)
    if options.as_json:
        say((folder / "shift.json").read_text(encoding="utf-8").rstrip("\n"))
    else:
        print_shift(results, output.out)
    for written in files:
        note(f"Wrote {written}")


def check_outputs(out: Path | None, render_out: Path | None) -> None:
    """Raises a ConfigError if a file cannot be written to where it should go.

    Args:
        out: File of the results.
        render_out: File of the drawing.
    """
    # Checked here, because the evaluation may take minutes.
    for path in (out, render_out):
        if path is not None and not path.resolve().parent.is_dir():
            raise ConfigError(f"there is no folder {path.resolve().parent}.")
    if render_out is not None and render_out.suffix not in (".gif", ".png"):
        raise ConfigError(f"--render-out: {render_out.name} must end in .gif or .png.")


def run_evaluation(
    checkpoint: Path, env_config: Mapping[str, Any], options: EvaluationOptions
) -> tuple[dict[str, Any], list[Any]]:
    """Evaluates a checkpoint or an exported team.

    Args:
        checkpoint: Folder of the checkpoint or the team.
        env_config: Keys of ``env_config`` to change.
        options: Options of the command.

    Returns:
        The result, and the frames of the first episode (empty without rendering).

    Raises:
        ConfigError: If the checkpoint does not exist or needs ``--algo``, or the env
            lacks a key of ``env_config``.
        CheckpointError: If the checkpoint is incomplete or was changed.
        ArtefactError: If the exported team is damaged or of a later version.
    """
    from rllib_risk.cli.checkpoints import find_checkpoint, is_foreign, opened, verified
    from rllib_risk.cli.exported import evaluate_exported, is_exported
    from rllib_risk.cli.foreign import evaluate_foreign
    from rllib_risk.cli.session import ray_session, register_all
    from rllib_risk.core.envs import env_name

    if is_exported(checkpoint):
        with playing():
            return evaluate_exported(checkpoint, env_config, options)
    checkpoint = find_checkpoint(checkpoint, "Evaluating")
    foreign = is_foreign(checkpoint)
    algo, render = options.algo, options.figure is not None
    if not foreign:
        verified(checkpoint, "an evaluation")
    elif render:
        raise ConfigError(
            "--render: checkpoints of RLlib's own algorithms cannot be rendered. Leave"
            " the option out."
        )
    elif algo is None:
        raise ConfigError(
            f"{checkpoint} is a checkpoint of RLlib's own algorithms. Loading it runs"
            " the code in it. If you trust it, name its algorithm with --algo."
        )
    register_all()
    episodes, seed = options.episodes, options.seed
    if foreign:
        for name, value in {"--alpha": options.level, "--env": options.env}.items():
            if value is not None:
                raise ConfigError(f"{name}: does not apply to RLlib's algorithms.")
        # They are first built with all env runners of the training. Ray would wait
        # forever if it counted fewer CPUs than they ask for.
        ray = RayOptions(num_cpus=1000, verbose=options.verbose)
        with (
            ray_session(ray, options.imports or ()),
            status_lines(lambda: "evaluating"),
        ):
            return evaluate_foreign(
                checkpoint, str(algo), episodes, seed, env_config
            ), []
    frames: list[Any] = []
    with (
        playing(),
        opened(
            checkpoint,
            trust_code=options.trust_code,
            env=options.env,
            env_config=env_config,
        ) as algorithm,
    ):
        algorithm.require_env()
        note(f"Playing env '{env_name(algorithm.evaluation_config)}' ...")
        result = algorithm.evaluate_episodes(
            episodes or algorithm.config.evaluation_duration,
            seed=seed,
            frames=frames if render else None,
            alpha=options.level,
        )
    return result, frames


def json_safe(value: Any) -> Any:
    """Returns plain JSON values. NaN, which JSON lacks, becomes null."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if hasattr(value, "tolist"):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
