"""Prints and writes an off-policy evaluation: table, CSV, JSON, figure."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_risk.evaluation.figure_style import COLORS, open_axes, plain
from rllib_risk.evaluation.fitted_table import print_fitted_table
from rllib_risk.evaluation.off_policy.estimates import (
    CVAR_LEVEL,
    Choices,
    Interval,
    MethodResult,
    PolicyResult,
)
from rllib_risk.evaluation.table_files import markdown_table

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = (
    *("policy", "method", "quantity", "value", "ci95_low", "ci95_high"),
    *("ess", "support", "verdict", "refused"),
)
_QUANTITIES = ("mean", "difference", "cvar", "below")


@dataclass(frozen=True)
class OffPolicyResults:
    """An off-policy evaluation of one or more policies on one dataset.

    Attributes:
        dataset: Folder of the dataset.
        env: Name of the environment; None if unknown.
        num_episodes: Number of episodes used.
        num_steps: Number of env steps of these episodes.
        threshold: Threshold of ``P(return < threshold)``, in units of return.
        choices: Settings of the evaluation.
        cross_entropy: Held-out cross-entropy of the cloned behaviour policy, in nats.
        calibration_error: Held-out calibration error of its probabilities.
        log: The log's own return.
        policies: Results of the policies.
    """

    dataset: str
    env: str | None
    num_episodes: int
    num_steps: int
    threshold: float
    choices: Choices
    cross_entropy: float
    calibration_error: float
    log: MethodResult
    policies: tuple[PolicyResult, ...]


def write_off_policy(results: OffPolicyResults, folder: Path) -> list[Path]:
    """Writes the results as Markdown, CSV, JSON and PNG.

    Args:
        results: Results to write.
        folder: An existing folder. Files of the same names are replaced.

    Returns:
        Paths of ``off_policy.md``, ``.csv``, ``.json`` and ``.png``.
    """
    files = [folder / f"off_policy.{suffix}" for suffix in ("md", "csv", "json", "png")]
    table = markdown_table(*_table(results), texts=(0, 1))
    sentences = "".join(f"- {sentence}\n" for sentence in _sentences(results))
    files[0].write_text(
        f"# {_title(results)}\n\n{table}\n{sentences}\n{_note(results)}\n",
        encoding="utf-8",
    )
    _write_csv(results, files[1])
    text = json.dumps(_plain(asdict(results)), indent=2)
    files[2].write_text(f"{text}\n", encoding="utf-8")
    _draw(results, files[3])
    return files


def print_off_policy(results: OffPolicyResults, console: Console) -> None:
    """Prints the table and a sentence for each policy.

    Args:
        results: Results to print.
        console: Console to print to.
    """
    header, lines = _table(results)
    print_fitted_table(console, header, lines, title=_title(results), texts=(0, 1))
    for sentence in (*_sentences(results), _note(results)):
        console.print(sentence, highlight=False, soft_wrap=True)


def _title(results: OffPolicyResults) -> str:
    return f"Off-policy evaluation on {results.dataset}"


def _table(results: OffPolicyResults) -> tuple[list[str], list[list[str]]]:
    header = [
        "policy",
        "method",
        "return [95 % CI]",
        f"CVaR {CVAR_LEVEL:.0%}",
        f"P(return < {results.threshold:.4g})",
    ]
    lines = [["log", "", *_cells(results.log)]]
    for policy in results.policies:
        lines += [[policy.label, m.method, *_cells(m)] for m in policy.methods]
    return header, lines


def _cells(found: MethodResult) -> list[str]:
    if found.refused is not None:
        return ["refused", "–", "–"]
    return [_shown(i) for i in (found.mean, found.cvar, found.below)]


def _shown(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return "–"
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _sentences(results: OffPolicyResults) -> list[str]:
    sentences = []
    for policy in results.policies:
        sentences.append(policy.sentence)
        refused: dict[str, list[str]] = {}
        for method in policy.methods:
            if method.refused:
                refused.setdefault(method.refused, []).append(method.method)
        for reason, names in refused.items():
            sentences.append(f"{policy.label}: {', '.join(names)} refused: {reason}.")
    return sentences


def _note(results: OffPolicyResults) -> str:
    discount = "undiscounted" if results.choices.gamma == 1.0 else "discounted"
    return (
        f"Log: {results.num_episodes} episodes, {results.num_steps} steps; {discount}"
        f" returns. Behaviour cloned: held-out cross-entropy"
        f" {results.cross_entropy:.3f} nats, calibration error"
        f" {results.calibration_error:.3f}."
    )


def _write_csv(results: OffPolicyResults, file: Path) -> None:
    """Writes one line per policy, method and quantity."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        _write_rows(writer, "log", results.log, ["", "", ""])
        for policy in results.policies:
            facts = [policy.ess, policy.support, policy.verdict]
            for found in policy.methods:
                _write_rows(writer, policy.label, found, facts)


def _write_rows(writer: Any, label: str, found: MethodResult, facts: list[Any]) -> None:
    if found.refused is not None:
        empty = ["", "", "", ""]
        writer.writerow([label, found.method, *empty, *facts, found.refused])
    for quantity in _QUANTITIES:
        interval = getattr(found, quantity)
        if interval is not None:
            numbers = [interval.value, interval.low, interval.high]
            writer.writerow([label, found.method, quantity, *numbers, *facts, ""])


def _plain(value: Any) -> Any:
    """Converts to plain JSON values; NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _draw(results: OffPolicyResults, out: Path) -> None:
    """Draws estimates with intervals, one row per policy, and the log's return."""
    # The Agg canvas needs no display and no global pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {"mean": "mean return", "cvar": f"CVaR {CVAR_LEVEL:.0%} of the return"}
    height = 1.4 + 0.5 * len(results.policies)
    figure = Figure(figsize=(8.4, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    both = figure.subplots(1, 2, sharey=True)
    methods = results.choices.methods
    for axes, (quantity, title) in zip(both, panels.items(), strict=True):
        logged = getattr(results.log, quantity)
        axes.axvspan(logged.low, logged.high, color="0.9", linewidth=0)
        axes.axvline(logged.value, color="0.5", linewidth=1.0, label="log")
        for row, policy in enumerate(results.policies):
            for place, found in enumerate(policy.methods):
                interval = getattr(found, quantity)
                if interval is None or not math.isfinite(interval.value):
                    continue
                at = row + 0.6 * ((place + 0.5) / len(methods) - 0.5)
                color = COLORS[methods.index(found.method)]
                axes.plot([interval.low, interval.high], [at, at], color=color)
                label = found.method if row == 0 else None
                axes.plot(interval.value, at, "o", color=color, label=label)
        axes.set_title(title, fontsize=10)
        open_axes(axes, "x")
    both[0].set_yticks(range(len(results.policies)))
    both[0].set_yticklabels([plain(policy.label) for policy in results.policies])
    both[0].set_ylim(len(results.policies) - 0.5, -0.5)
    handles, names = both[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=5, fontsize=8)
    caption = "Bars: 95 % intervals. Band: the log's own return. Refused: not drawn."
    figure.supxlabel(caption, fontsize=7.5, color="0.4")
    figure.savefig(out)
