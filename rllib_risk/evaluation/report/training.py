"""Sections of a report about trained runs: what was run, curves, tables, settings."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.evaluation.curve_figure import draw_curves
from rllib_risk.evaluation.natural import natural_metric, natural_x
from rllib_risk.evaluation.report import page
from rllib_risk.evaluation.results import Group, read_groups, read_trial
from rllib_risk.evaluation.tables import AXIS_NAMES, summarise, table_cells
from rllib_risk.ops.run_comparison import (
    probability_of_improvement,
    probability_of_improvement_ci,
)
from rllib_risk.ops.statistics import aggregate_curves

# Groups with fewer runs are not compared: the difference is too uncertain.
_FEWEST_RUNS = 3


def training_sections(
    paths: Sequence[Path], metric: str | None, x: str | None, threshold: float | None
) -> Iterator[str]:
    """Yields the sections of trained runs.

    Args:
        paths: Folders with results.
        metric: Result key; None: :func:`natural_metric`.
        x: Result key of the horizontal axis; None: :func:`natural_x`.
        threshold: Value of the metric; the table counts the runs that reach it.

    Yields:
        HTML.

    Raises:
        ResultsError: If there are no results, or no such metric.
    """
    x, metric = x or natural_x(paths), metric or natural_metric(paths)
    groups = [group for group in read_groups(paths, metric, x) if group.runs]
    settings = [_settings(group) for group in groups]
    yield page.heading("What was run")
    yield _runs_table(groups, settings, x)
    versions = sorted(set(_versions(groups)))
    yield page.paragraph(
        "Versions, from the checkpoints: " + "; ".join(versions) + "."
        if versions
        else "The versions are unknown, because these runs have no checkpoint."
    )
    yield page.heading("Learning curves")
    curves = [
        (group, aggregate_curves([r.x for r in group.runs], [r.y for r in group.runs]))
        for group in groups
    ]
    yield page.drawing(
        lambda file: draw_curves(curves, file, metric=metric, x=x, threshold=threshold),
        f"{AXIS_NAMES.get(metric, metric)} by {AXIS_NAMES.get(x, x)}",
    )
    yield page.heading("Results")
    rows = [summarise(group, threshold) for group in groups]
    header, cells, note = table_cells(rows, metric, x, threshold)
    yield page.table(header, cells)
    yield page.paragraph(note)
    yield from _comparisons(groups, metric)
    yield from _settings_section(groups, settings)


def _runs_table(
    groups: Sequence[Group], settings: Sequence[dict[str, Any]], x: str
) -> str:
    rows = []
    for group, keys in zip(groups, settings, strict=True):
        seeds = sorted({str(run.seed) for run in group.runs})
        hours = sum(float(run.seconds[-1]) for run in group.runs) / 3600
        last = sum(float(run.x[-1]) for run in group.runs) / len(group.runs)
        env = keys.get("env") or keys.get("dataset")
        rows.append(
            [
                group.label,
                str(env if env is not None else "-"),
                ", ".join(seeds),
                f"{last:,.0f}",
                f"{hours:.2f}" if hours == hours else "-",
            ]
        )
    axis = AXIS_NAMES.get(x, x)
    header = ["group", "environment or dataset", "seeds", f"{axis} (mean)"]
    return page.table([*header, "hours in all"], rows)


def _versions(groups: Sequence[Group]) -> Iterator[str]:
    """Yields a text with the versions of each run that has a checkpoint."""
    for run in (run for group in groups for run in group.runs):
        for file in sorted(run.path.glob("checkpoint_*/config.json"))[-1:]:
            try:
                versions = dict(json.loads(file.read_bytes())["versions"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            commit = versions.get("git_commit")
            text = f"rllib_risk {versions.get('rllib_risk')}, Ray {versions.get('ray')}"
            if commit:
                changed = " with changes" if versions.get("git_modified") else ""
                text += f", commit {str(commit)[:12]}{changed}"
            yield text


def _comparisons(groups: Sequence[Group], metric: str) -> Iterator[str]:
    """Yields the table of probabilities that one group ends higher than another."""
    enough = [group for group in groups if len(group.runs) >= _FEWEST_RUNS]
    if len(enough) < 2:
        return
    yield page.heading("Which is better?")
    finals = {group.label: [float(run.y[-1]) for run in group.runs] for group in enough}
    rows = []
    for ours, theirs in itertools.combinations(finals, 2):
        pair = finals[ours], finals[theirs]
        low, high = probability_of_improvement_ci(*pair)
        verdict = "no clear difference"
        if low > 0.5 or high < 0.5:
            verdict = f"{ours if low > 0.5 else theirs} is higher"
        chance = probability_of_improvement(*pair)
        rows.append(
            [f"{ours} above {theirs}", f"{chance:.2f} [{low:.2f}, {high:.2f}]", verdict]
        )
    yield page.table(["pair", "probability [95 % CI]", "verdict"], rows)
    yield page.paragraph(
        f"Probability that a run of the first group ends with a higher {metric} than a"
        " run of the second; ties count one half (Agarwal et al., 2021). The interval"
        " is a bootstrap over runs. For an error or a loss, lower is better. The"
        " verdicts do not account for the number of pairs."
    )


def _settings(group: Group) -> dict[str, Any]:
    """Configuration of the first run of a group, without the seed."""
    params = read_trial(group.runs[0].path).params
    return {key: value for key, value in params.items() if key != "seed"}


def _settings_section(
    groups: Sequence[Group], settings: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """Yields the keys in which groups differ, and those that all share."""
    keys = sorted({key for own in settings for key in own})
    texts = {k: [_text(own[k]) if k in own else "-" for own in settings] for k in keys}
    differ = [key for key in keys if len(set(texts[key])) > 1]
    yield page.heading("Settings")
    if differ:
        header = ["key", *(group.label for group in groups)]
        rows = [[key, *texts[key]] for key in differ]
        yield page.heading("Keys in which the groups differ", 3)
        yield page.table(header, rows, texts=True)
    shared = [[key, texts[key][0]] for key in keys if key not in differ]
    content = page.table(["key", "value"], shared, texts=True)
    yield page.details(f"{len(shared)} keys that all groups share", content)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
