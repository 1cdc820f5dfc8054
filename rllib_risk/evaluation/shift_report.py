"""Output of a shift grid: printed tables, Markdown, CSV, JSON and a heat map."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.config.shift_grid import ShiftGrid
from rllib_risk.evaluation.fitted_table import print_fitted_table
from rllib_risk.evaluation.shift import (
    FloatArray,
    PolicyScores,
    ShiftResults,
    summarise_cells,
)
from rllib_risk.evaluation.table_files import latex_table, markdown_table
from rllib_risk.ops.statistics import cvar_of_returns

if TYPE_CHECKING:
    from rich.console import Console

# Longer lists of cells are not printed, only written to files.
_MAX_LINES = 40
_CSV_NUMBERS = (
    "mean",
    "ci95_low",
    "ci95_high",
    "std",
    "min",
    "cvar_10",
    "success_rate",
    "difference",
    "difference_low",
    "difference_high",
)


def write_shift(results: ShiftResults, folder: Path) -> list[Path]:
    """Writes tables, numbers and heat map.

    Args:
        results: The results to write.
        folder: An existing folder. Existing files of these names are replaced.

    Returns:
        ``shift.md``, ``shift.tex``, ``shift.csv``, ``shift.json`` and ``shift.png``.
    """
    from rllib_risk.evaluation.shift_plot import draw_shift

    suffixes = ("md", "tex", "csv", "json", "png")
    files = [folder / f"shift.{suffix}" for suffix in suffixes]
    files[0].write_text(shift_markdown(results), encoding="utf-8")
    files[1].write_text(_shift_latex(results), encoding="utf-8")
    _write_csv(results, files[2])
    text = json.dumps(shift_json(results), indent=2, default=str)
    files[3].write_text(f"{text}\n", encoding="utf-8")
    draw_shift(results, files[4])
    return files


def print_shift(results: ShiftResults, console: Console) -> None:
    """Prints the summary, and the means of the cells if there are few cells."""
    grid = results.grid
    header, lines = _summary_table(results)
    texts = (0, header.index(_WORST_CELL))
    print_fitted_table(console, header, lines, title="Over all cells", texts=texts)
    console.print()
    if len(grid.cells) <= _MAX_LINES:
        names = [axis.name for axis in grid.axes]
        means = [[_number(mean) for mean in p.means] for p in results.policies]
        print_fitted_table(
            console,
            [*names, *(policy.title for policy in results.policies)],
            [
                [*cell.labels, *own]
                for cell, *own in zip(grid.cells, *means, strict=True)
            ],
            title=f"Mean {results.metric} by cell",
            texts=range(len(names)),
        )
        console.print()
    console.print(_note(results), highlight=False, soft_wrap=True)


def shift_markdown(results: ShiftResults) -> str:
    """Returns the tables as Markdown."""
    parts = [f"# {results.grid.name}\n"]
    for title, (header, lines) in _tables(results).items():
        table = markdown_table(header, lines, texts=range(len(header)))
        parts.append(f"## {title}\n\n{table}")
    sources = "".join(
        f"- {policy.title}: `{source}`\n"
        for policy in results.policies
        for source in policy.sources
    )
    return "\n".join([*parts, f"{_note(results)}\n", f"Checkpoints:\n\n{sources}"])


def _shift_latex(results: ShiftResults) -> str:
    """Returns the tables as LaTeX, one after the other."""
    texts = {"policy", _WORST_CELL, *(axis.name for axis in results.grid.axes)}
    return "\n".join(
        latex_table(
            header,
            lines,
            texts=[index for index, name in enumerate(header) if name in texts],
            note=f"{title}. {_note(results)}",
        )
        for title, (header, lines) in _tables(results).items()
    )


def shift_json(results: ShiftResults) -> dict[str, Any]:
    """Returns all results as JSON values, with null for NaN."""
    grid = results.grid
    nominal = None if grid.nominal is None else grid.cells[grid.nominal].labels
    names = [axis.name for axis in grid.axes]
    cells = [
        {
            "axes": dict(zip(names, cell.labels, strict=True)),
            "env_config": dict(cell.settings),
        }
        for cell in grid.cells
    ]
    policies = []
    for policy in results.policies:
        summary = summarise_cells(policy.means, grid.nominal)
        policies.append(
            {
                "label": policy.label,
                "reference": policy.reference,
                "checkpoints": list(policy.sources),
                "crashes": policy.crashes,
                "summary": {
                    "nominal": _or_none(summary.nominal),
                    "mean": summary.mean,
                    "worst": summary.worst,
                    "worst_cell": grid.cell_name(summary.worst_cell),
                    "cvar_20": summary.cvar,
                },
                "cells": [
                    {key: _or_none(value) for key, value in numbers.items()}
                    for numbers in _numbers(policy, results.policies[0])
                ],
                "values": policy.values.tolist(),
            }
        )
    return {
        "grid": grid.name,
        "env": results.env,
        "metric": results.metric,
        "episodes": results.num_episodes,
        "seed": results.seed,
        "axes": {axis.name: list(axis.labels) for axis in grid.axes},
        "nominal": None if nominal is None else dict(zip(names, nominal, strict=True)),
        "cells": cells,
        "policies": policies,
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _numbers(policy: PolicyScores, first: PolicyScores) -> list[dict[str, float]]:
    """Returns the numbers of every cell, by the column names of the CSV file."""
    low, high = policy.intervals
    same = policy is first
    nothing = (np.full(len(policy.means), math.nan),) * 3
    differences = nothing if same else policy.differences(first)
    rows = []
    for cell, mean in enumerate(policy.means.tolist()):
        pooled = policy.values[:, cell].reshape(-1)  # [T * R]
        success = math.nan
        if policy.successes is not None:
            success = float(policy.successes[:, cell].mean())
        numbers = (
            mean,
            float(low[cell]),
            float(high[cell]),
            float(pooled.std(ddof=1)) if pooled.size > 1 else math.nan,
            float(pooled.min()),
            cvar_of_returns(pooled, 0.1),
            success,
            *(float(part[cell]) for part in differences),
        )
        rows.append(dict(zip(_CSV_NUMBERS, numbers, strict=True)))
    return rows


def _write_csv(results: ShiftResults, file: Path) -> None:
    """Writes one line per policy and cell, with empty fields for missing numbers."""
    names = [axis.name for axis in results.grid.axes]
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            [
                *("policy", "reference", *names, "nominal", "runs", "episodes"),
                *_CSV_NUMBERS,
            ]
        )
        for policy in results.policies:
            for index, numbers in enumerate(_numbers(policy, results.policies[0])):
                writer.writerow(
                    [
                        policy.label,
                        int(policy.reference),
                        *results.grid.cells[index].labels,
                        int(index == results.grid.nominal),
                        len(policy.values),
                        results.num_episodes,
                        *("" if math.isnan(v) else v for v in numbers.values()),
                    ]
                )


_WORST_CELL = "worst cell"


def _summary_table(results: ShiftResults) -> tuple[list[str], list[list[str]]]:
    """Builds header and lines of the table over all cells."""
    grid = results.grid
    header = ["policy", "nominal", "mean", "worst", "CVaR 20 %", _WORST_CELL]
    lines = []
    for policy in results.policies:
        summary = summarise_cells(policy.means, grid.nominal)
        numbers = (summary.nominal, summary.mean, summary.worst, summary.cvar)
        worst_cell = grid.cell_name(summary.worst_cell)
        lines.append([policy.title, *map(_number, numbers), worst_cell])
    return header, lines


def _tables(results: ShiftResults) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Builds title, header and lines of every table of the Markdown file."""
    grid, policies = results.grid, results.policies
    tables = {"Over all cells": _summary_table(results)}
    axes = [axis.name for axis in grid.axes]
    intervals = {policy.title: (policy.means, *policy.intervals) for policy in policies}
    tables[f"{results.metric} by cell: mean [95 % CI]"] = (
        [*axes, *intervals],
        _cell_lines(grid, list(intervals.values())),
    )
    trained = [policy for policy in policies if not policy.reference]
    if len(trained) > 1:
        first = trained[0]
        differences = {p.title: p.differences(first) for p in trained[1:]}
        tables[f"Difference to {first.label}: mean [95 % CI]"] = (
            [*axes, *differences],
            _cell_lines(grid, list(differences.values())),
        )
    return tables


def _cell_lines(
    grid: ShiftGrid, columns: Sequence[tuple[FloatArray, ...]]
) -> list[list[str]]:
    """Builds one line per cell, with a mean and an interval per column."""
    lines = []
    for index, cell in enumerate(grid.cells):
        shown = [
            f"{_number(mean[index])} [{_number(low[index])}, {_number(high[index])}]"
            for mean, low, high in columns
        ]
        lines.append([*cell.labels, *shown])
    return lines


def _note(results: ShiftResults) -> str:
    """Returns a text that explains the numbers."""
    grid = results.grid
    nominal = "There is no nominal cell."
    if grid.nominal is not None:
        nominal = f"Nominal: {grid.cell_name(grid.nominal)}."
    runs = max(len(policy.values) for policy in results.policies)
    over = "over runs if there are several, else over episodes"
    return (
        f"{results.metric} on {results.env}, higher is better:"
        f" {results.num_episodes} episodes per cell, the same seeds in every cell."
        f" {nominal} CVaR 20 %: mean of the {math.ceil(len(grid.cells) / 5)} worst of"
        f" {len(grid.cells)} cells. Intervals: bootstrap,"
        f" {over if runs > 1 else 'over episodes'}."
    )


def _number(value: float) -> str:
    """Formats a number with four digits; a dash stands for NaN."""
    return "–" if math.isnan(value) else f"{value:.4g}"
