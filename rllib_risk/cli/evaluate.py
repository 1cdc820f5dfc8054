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
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.cli.shift import ShiftOptions

EVALUATE_HELP = """Evaluate a checkpoint with greedy episodes.

\b
    rllib evaluate ~/ray_results/my-run/RMIX_macn_0/checkpoint_000009
    rllib evaluate CHECKPOINT --episodes 100 --seed 1 --json
    rllib evaluate CHECKPOINT --render-out episode.gif
    rllib evaluate CHECKPOINT CHECKPOINT --shift tuned_examples/shift/macn-cliff.yaml

Without --episodes and --seed, the last evaluation of the training is repeated exactly.

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
            help="Folder of a checkpoint; with --shift of several.",
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
            "--episodes", min=1, help="How many (default: as in the training)."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, help="Of the evaluation (default: as in the training)."
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
    _evaluate_one(
        checkpoints[0],
        algo,
        episodes,
        seed,
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
        modules = import_modules(imports)
        result, frames = run_evaluation(
            checkpoint,
            algo,
            episodes,
            seed,
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
    from rllib_risk.evaluation.shift import print_shift, write_shift

    with stdout_to_stderr():
        prepare(options.verbose)
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
    render: bool,
    trust_code: bool,
    imports: Sequence[str],
    verbose: int,
) -> tuple[dict[str, Any], list[Any]]:
    """Evaluates a checkpoint; see :func:`evaluate` for the arguments.

    Returns:
        The result and, if asked for, the frames of the first episode.

    Raises:
        ConfigError: If there is no such checkpoint or it needs --algo.
        CheckpointError: If the checkpoint was cut short or changed.
    """
    from rllib_risk.cli.checkpoints import existing, is_foreign, opened, verified
    from rllib_risk.cli.session import ray_session, register_all

    checkpoint = existing(checkpoint)
    foreign = is_foreign(checkpoint)
    if not foreign:
        verified(checkpoint, "an evaluation")
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
            return _evaluate_foreign(checkpoint, str(algo), episodes, seed, render), []
        frames: list[Any] = []
        with opened(checkpoint, trust_code=trust_code) as algorithm:
            result = algorithm.evaluate_episodes(
                episodes or algorithm.config.evaluation_duration,
                seed=seed,
                frames=frames if render else None,
            )
    return result, frames


def _evaluate_foreign(
    checkpoint: Path, algo: str, episodes: int | None, seed: int | None, render: bool
) -> dict[str, Any]:
    from rllib_risk.cli.catalog import default_config

    if render:
        raise ConfigError("--render: not for checkpoints of RLlib's own algorithms.")
    expected = default_config(algo).algo_class
    note("Loading pickles of RLlib's own checkpoint format: this runs their code.")
    algorithm = expected.from_checkpoint(str(checkpoint))
    if type(algorithm).__name__ != expected.__name__:
        raise ConfigError(f"--algo: the checkpoint is of {type(algorithm).__name__}.")
    config = algorithm.config.copy(copy_frozen=False)
    algorithm.stop()
    config.num_env_runners = 0
    config.evaluation_num_env_runners = 0
    config.num_envs_per_env_runner = 1
    config.evaluation_interval = 1
    config.evaluation_duration = episodes or config.evaluation_duration
    config.evaluation_duration_unit = "episodes"
    config.evaluation_config = {"explore": False}
    if seed is not None:
        config.seed = seed
    algorithm = config.build_algo()
    try:
        algorithm.restore(str(checkpoint))
        runners = algorithm.evaluate()["env_runners"]
    finally:
        algorithm.stop()
    history = runners.get("hist_stats", {})
    returns = [float(value) for value in history.get("episode_reward", [])]
    result: dict[str, Any] = {"episodes": config.evaluation_duration}
    if not returns:
        result["return_mean"] = runners["episode_return_mean"]
        return {**result, "return_cvar_10": None, "success_rate": None}
    from rllib_risk.evaluation.statistics import return_statistics

    lengths = [int(value) for value in history["episode_lengths"]]
    result.update(return_statistics(returns, None, lengths))
    return {"success_rate": None, **result, "returns": returns}


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
