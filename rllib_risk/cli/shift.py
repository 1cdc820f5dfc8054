"""``rllib evaluate --shift``: evaluates policies on a grid of shifted environments."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_risk.cli.output import note
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.config.shift_grid import ShiftGrid
    from rllib_risk.evaluation.shift import PolicyScores, ShiftResults
    from rllib_risk.evaluation.shift_runs import CellEpisodes


@dataclass(frozen=True)
class ShiftOptions:
    """Options of an evaluation under shift.

    Attributes:
        labels: One label per checkpoint. Checkpoints with equal labels are seeds of one
            policy. Empty: labels from the algorithms' names.
        episodes: Number of episodes per cell; None: the file's number.
        seed: Seed of the evaluation; None: the file's seed.
        level: Risk level ``alpha`` for which objective ``static`` chooses its
            threshold; None: the threshold in the checkpoint.
        references: Whether scripted policies play too.
        trust_code: Whether code that a checkpoint names may be imported.
    """

    labels: tuple[str, ...] = ()
    episodes: int | None = None
    seed: int | None = None
    level: float | None = None
    references: bool = True
    trust_code: bool = False


@dataclass(frozen=True)
class _Run:
    """Episodes of one checkpoint on all cells."""

    source: Path
    label: str
    env: str
    played: CellEpisodes


def load_grid(file: str, options: ShiftOptions) -> ShiftGrid:
    """Reads a grid and applies the options of the command line.

    Args:
        file: Path of a file, or name of a tuned example.
        options: Options of the evaluation.

    Returns:
        The grid.

    Raises:
        ConfigError: If the file is wrong.
    """
    from rllib_risk.config.loading import find_file
    from rllib_risk.config.shift_grid import parse_shift_grid
    from rllib_risk.config.yaml_reader import read_yaml

    path = find_file(file)
    grid = parse_shift_grid(read_yaml(path), path.stem)
    episodes = grid.episodes if options.episodes is None else options.episodes
    seed = grid.seed if options.seed is None else options.seed
    return replace(grid, episodes=episodes, seed=seed)


def results_folder(out: Path | None, grid: ShiftGrid) -> Path:
    """Returns the folder for the results, after checking that it can be created.

    Args:
        out: The requested folder; None: ``shift-<grid>`` in the working directory.
        grid: The grid.

    Returns:
        The absolute folder, which may not exist yet.

    Raises:
        ConfigError: If it cannot be created.
    """
    folder = (out or Path(f"shift-{grid.name}")).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out: {folder} is a file. With --shift, give a folder.")
    if not folder.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {folder.parent}.")
    return folder


def run_shift(
    checkpoints: Sequence[Path], grid: ShiftGrid, options: ShiftOptions
) -> ShiftResults:
    """Plays a grid with every checkpoint and with the environment's scripted policies.

    Args:
        checkpoints: Folders of checkpoints, at least one.
        grid: The grid.
        options: Options of the evaluation.

    Returns:
        The scores of all policies.

    Raises:
        ConfigError: If a checkpoint is not one of this package, a cell does not fit the
            team, or the environment does not report the metric.
        CheckpointError: If a checkpoint is incomplete or was changed.
    """
    from rllib_risk.cli.checkpoints import verified
    from rllib_risk.cli.session import register_all
    from rllib_risk.evaluation.shift import ShiftResults

    if options.labels and len(options.labels) != len(checkpoints):
        raise ConfigError(
            f"--label: {len(options.labels)} labels for {len(checkpoints)} checkpoints."
            " Give one label per checkpoint."
        )
    folders = [verified(checkpoint, "--shift") for checkpoint in checkpoints]
    labels = list(options.labels) or made_up_labels(folders)
    register_all()
    # All episodes are played in this process, in batches over all cells.
    runs, references = _play(folders, labels, grid, options)
    return ShiftResults(
        grid=grid,
        env=runs[0].env,
        metric=grid.metric,
        seed=grid.seed,
        policies=(*_scores(runs, grid), *references),
    )


def _play(
    folders: Sequence[Path],
    labels: Sequence[str],
    grid: ShiftGrid,
    options: ShiftOptions,
) -> tuple[list[_Run], list[PolicyScores]]:
    """Plays all checkpoints, then the scripted policies on the first one's cells."""
    from rllib_risk.cli.checkpoints import opened
    from rllib_risk.core.thresholds import choose_threshold
    from rllib_risk.evaluation.shift_runs import (
        cell_configs,
        play_policy,
        play_references,
    )

    runs: list[_Run] = []
    of_first: list[Any] = []
    for folder, label in zip(folders, labels, strict=True):
        with opened(folder, trust_code=options.trust_code) as algorithm:
            algorithm.require_env()
            configs = cell_configs(
                algorithm.config, grid, algorithm.env_runner.env.spec_team
            )
            env = str(configs[0].env)
            if runs and env != runs[0].env:
                raise ConfigError(
                    f"{folder} plays {env}, but {folders[0]} plays {runs[0].env}. One"
                    " grid needs one environment."
                )
            of_first = of_first or configs
            if options.level is not None:
                choose_threshold(algorithm, algorithm.config.seed, options.level)
            start = time.monotonic()
            played = play_policy(
                configs, algorithm.team_policy, grid.episodes, grid.seed
            )
        _check_metric(played, grid)
        _report(label, played, time.monotonic() - start)
        runs.append(_Run(folder, label, env, played))
    references: list[PolicyScores] = []
    if options.references:
        start = time.monotonic()
        for name, played in play_references(of_first, grid.episodes, grid.seed):
            _check_metric(played, grid)
            _report(name, played, time.monotonic() - start)
            start = time.monotonic()
            references.append(_policy(name, [played], grid, reference=True))
    return runs, references


def _report(name: str, played: CellEpisodes, seconds: float) -> None:
    cells, episodes = played.returns.shape
    lost = f", {played.crashes} repeated after crashes" if played.crashes else ""
    note(
        f"{name}: {cells} cells x {episodes} episodes, {played.lengths.sum():,} env"
        f" steps in {seconds:.1f} s{lost}"
    )


def _scores(runs: Sequence[_Run], grid: ShiftGrid) -> list[PolicyScores]:
    """Returns the scores of each label, over all runs with that label."""
    by_label: dict[str, list[_Run]] = {}
    for run in runs:
        by_label.setdefault(run.label, []).append(run)
    return [
        _policy(
            label,
            [run.played for run in same],
            grid,
            sources=tuple(str(run.source) for run in same),
        )
        for label, same in by_label.items()
    ]


def made_up_labels(folders: Sequence[Path]) -> list[str]:
    """Returns labels of checkpoints: algorithms' names, numbered if they repeat.

    Args:
        folders: Verified checkpoints.

    Returns:
        One label per checkpoint.
    """
    from rllib_risk.core.checkpoint import read_config

    names = [str(read_config(folder).get("algorithm")) for folder in folders]
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(f"{name} {seen[name]}" if names.count(name) > 1 else name)
    return labels


def _check_metric(played: CellEpisodes, grid: ShiftGrid) -> None:
    """Refuses a metric that the environment does not report."""
    from rllib_risk.config.schema import suggest
    from rllib_risk.config.shift_grid import RETURN

    known = [RETURN, *played.metrics]
    if grid.metric not in known:
        raise grid.document.error(
            f"metric: the environment does not report '{grid.metric}' at the end of"
            f" every episode.{suggest(grid.metric, known)} It reports:"
            f" {', '.join(known)}.",
            "metric",
        )


def _policy(
    label: str, played: Sequence[CellEpisodes], grid: ShiftGrid, **more: Any
) -> PolicyScores:
    """Returns the scores of one policy from the episodes of its runs."""
    import numpy as np

    from rllib_risk.config.shift_grid import RETURN
    from rllib_risk.evaluation.shift import PolicyScores

    success = "is_success"
    values = [{**run.metrics, RETURN: run.returns} for run in played]
    reports = all(success in known for known in values)
    return PolicyScores(
        label=label,
        values=np.stack([known[grid.metric] for known in values]),
        successes=np.stack([known[success] for known in values]) if reports else None,
        crashes=sum(run.crashes for run in played),
        **more,
    )
