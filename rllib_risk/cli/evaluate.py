"""``rllib evaluate``: greedy episodes of a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_risk.cli.options import ImportOption, RayOptions
from rllib_risk.cli.output import note, say, stdout_to_stderr
from rllib_risk.config.schema import MOST_EPISODES, ConfigError

if TYPE_CHECKING:
    from rllib_risk.cli.shift import ShiftOptions

EVALUATE_HELP = """Evaluate a checkpoint with greedy episodes.

\b
    rllib evaluate ~/ray_results/my-run/RMIX_macn_0/checkpoint_000009
    rllib evaluate CHECKPOINT --episodes 100 --seed 1 --json
    rllib evaluate ~/ray_results/my-run
    rllib evaluate CHECKPOINT --render-out episode.gif
    rllib evaluate CHECKPOINT --env-config '{"width": 12}'
    rllib evaluate CHECKPOINT CHECKPOINT --shift tuned_examples/shift/macn-cliff.yaml

Without --episodes and --seed, the last evaluation of the training is repeated exactly.
Of the folder of a trial or an experiment the best checkpoint is taken.

With --shift one or more checkpoints play a grid of environments that differ from the
one of the training. Tables (mean, worst cell, CVaR over cells) and a heat map go to
--out, by default the folder shift-GRID.

A checkpoint of this package's algorithms holds no code. One of RLlib's own algorithms
is a set of Python pickles, which run code when they are loaded: evaluate only those
that you trust, and name the algorithm with --algo.
"""


def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Folder of a checkpoint, or of a trial or an experiment, of which the"
            " best checkpoint is taken; with --shift several.",
        ),
    ],
    algo: Annotated[
        str | None,
        typer.Option(
            "--algo", "--run", help="Needed for RLlib's own checkpoints only."
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes",
            min=1,
            max=MOST_EPISODES,
            help="How many (default: as in the training).",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="Of the evaluation (default: as in the training)."
        ),
    ] = None,
    env_config: Annotated[
        str | None,
        typer.Option(
            "--env-config",
            metavar="JSON",
            help="Keys of env_config to change for this evaluation.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the JSON object to a file; with --shift: folder."
        ),
    ] = None,
    render: Annotated[
        bool,
        typer.Option("--render", help="Render the first episode to episode.gif."),
    ] = False,
    render_out: Annotated[
        Path | None,
        typer.Option("--render-out", help="Render it to this file (.gif or .png)."),
    ] = None,
    shift: Annotated[
        str | None,
        typer.Option(
            "--shift", metavar="FILE", help="A .yaml file: the grid to play instead."
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="With --shift: name of a checkpoint, once for each in their order;"
            " checkpoints of the same name count as seeds of one policy.",
        ),
    ] = None,
    no_references: Annotated[
        bool,
        typer.Option(
            "--no-references",
            help="With --shift: leave out the environment's scripted policies.",
        ),
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code",
            help="Import the environment, mixer or measure that it names.",
        ),
    ] = False,
    imports: ImportOption = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show Ray's output.")
    ] = 0,
) -> None:
    """Evaluates checkpoints and prints the result."""
    render_out = render_out or (Path("episode.gif") if render else None)
    if shift is not None:
        if algo is not None or render_out is not None:
            raise ConfigError("--algo and --render are not for --shift.")
        if env_config is not None:
            raise ConfigError(
                "--env-config is not for --shift: the grid says what changes. A key"
                " with one value is an axis of it, too."
            )
        from rllib_risk.cli.shift import ShiftOptions

        options = ShiftOptions(
            tuple(label or ()),
            episodes,
            seed,
            not no_references,
            trust_code,
            (),
            verbose,
        )
        _evaluate_shift(checkpoints, shift, out, imports, options, as_json)
        return
    if len(checkpoints) > 1:
        raise ConfigError("several checkpoints are for --shift only; give one.")
    if label or no_references:
        raise ConfigError("--label and --no-references are for --shift only.")
    from rllib_risk.config.loading import parse_json

    _evaluate_one(
        checkpoints[0],
        algo,
        episodes,
        seed,
        env_config=parse_json(env_config, "--env-config").data if env_config else {},
        as_json=as_json,
        out=out,
        render_out=render_out,
        trust_code=trust_code,
        imports=imports,
        verbose=verbose,
    )


def _evaluate_one(
    checkpoint: Path,
    algo: str | None,
    episodes: int | None,
    seed: int | None,
    *,
    env_config: dict[str, Any],
    as_json: bool,
    out: Path | None,
    render_out: Path | None,
    trust_code: bool,
    imports: list[str] | None,
    verbose: int,
) -> None:
    """Evaluates a checkpoint on the environment of its training."""
    from rllib_risk.cli.session import prepare
    from rllib_risk.config.loading import import_modules

    _check_outputs(out, render_out)
    with stdout_to_stderr():
        prepare(verbose)
        note(f"Loading {checkpoint} ...")
        modules = import_modules(imports)
        result, frames = run_evaluation(
            checkpoint,
            algo,
            episodes,
            seed,
            env_config=env_config,
            render=render_out is not None,
            trust_code=trust_code,
            imports=modules,
            verbose=verbose,
        )
    text = json.dumps(json_safe(result), indent=2)
    if out is not None:
        out.write_text(text + "\n")
        note(f"Wrote {out}")
    if render_out is not None:
        from rllib_risk.evaluation.rendering import save_frames

        save_frames(frames, render_out)
        note(f"Wrote {render_out} ({len(frames)} frames)")
    if as_json:
        say(text)
    else:
        print_table(result)


def _evaluate_shift(
    checkpoints: Sequence[Path],
    file: str,
    out: Path | None,
    imports: list[str] | None,
    options: ShiftOptions,
    as_json: bool,
) -> None:
    """Evaluates checkpoints over a grid of shifted environments."""
    from rllib_risk.cli import output
    from rllib_risk.cli.session import prepare
    from rllib_risk.cli.shift import load_grid, results_folder, run_shift
    from rllib_risk.config.loading import import_modules
    from rllib_risk.evaluation.shift_report import print_shift, write_shift

    with stdout_to_stderr():
        prepare(options.verbose)
        note(f"Loading {file} ...")
        options = replace(options, imports=import_modules(imports))
        grid = load_grid(file, options)
        folder = results_folder(out, grid)
        results = run_shift(checkpoints, grid, options)
    folder.mkdir(exist_ok=True)
    files = write_shift(results, folder)
    if as_json:
        say((folder / "shift.json").read_text(encoding="utf-8").rstrip("\n"))
    else:
        print_shift(results, output.out)
    for written in files:
        note(f"Wrote {written}")


def _check_outputs(out: Path | None, render_out: Path | None) -> None:
    # Before minutes of evaluation rather than after them.
    for path in (out, render_out):
        if path is not None and not path.resolve().parent.is_dir():
            raise ConfigError(f"there is no folder {path.resolve().parent}.")
    if render_out is not None and render_out.suffix not in (".gif", ".png"):
        raise ConfigError(f"--render-out: {render_out.name} must end in .gif or .png.")


def run_evaluation(
    checkpoint: Path,
    algo: str | None,
    episodes: int | None,
    seed: int | None,
    *,
    env_config: Mapping[str, Any],
    render: bool,
    trust_code: bool,
    imports: Sequence[str],
    verbose: int,
) -> tuple[dict[str, Any], list[Any]]:
    """Evaluates a checkpoint; see :func:`evaluate` for the arguments.

    Returns:
        The result and, if asked for, the frames of the first episode.

    Raises:
        ConfigError: If there is no such checkpoint, it needs --algo, or the env has no
            such key.
        CheckpointError: If the checkpoint was cut short or changed.
    """
    from rllib_risk.cli.checkpoints import find_checkpoint, is_foreign, opened, verified
    from rllib_risk.cli.foreign import evaluate_foreign
    from rllib_risk.cli.session import ray_session, register_all

    checkpoint = find_checkpoint(checkpoint, "Evaluating")
    foreign = is_foreign(checkpoint)
    if not foreign:
        verified(checkpoint, "an evaluation")
    elif render:
        raise ConfigError("--render: not for checkpoints of RLlib's own algorithms.")
    elif algo is None:
        raise ConfigError(
            f"{checkpoint} is a checkpoint of RLlib's own algorithms, which runs code"
            " when it is loaded. If you trust it, name its algorithm with --algo."
        )
    register_all()
    # RLlib's own are first built as they were trained, with all their env runners; Ray
    # only counts CPUs, and would wait for ever for one that it does not have.
    ray_options = RayOptions(num_cpus=1000 if foreign else 1, verbose=verbose)
    with ray_session(ray_options, imports):
        if foreign:
            return evaluate_foreign(
                checkpoint, str(algo), episodes, seed, env_config
            ), []
        frames: list[Any] = []
        with opened(
            checkpoint, trust_code=trust_code, env_config=env_config
        ) as algorithm:
            result = algorithm.evaluate_episodes(
                episodes or algorithm.config.evaluation_duration,
                seed=seed,
                frames=frames if render else None,
            )
    return result, frames


def json_safe(value: Any) -> Any:
    """Returns plain JSON values: NaN, which JSON does not have, becomes null."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if hasattr(value, "tolist"):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_table(result: Mapping[str, Any]) -> None:
    """Prints the numbers of a result, one per line."""
    for key, value in result.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        say(f"{key:<22} {shown:>12}")
