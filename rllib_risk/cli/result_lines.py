"""Prints the result of an evaluation, and writes its drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.cli.output import note, say


def print_table(result: Mapping[str, Any]) -> None:
    """Prints the numbers of a result, one per line, without uninformative ones.

    Args:
        result: Result of an evaluation. If it has ``returns``, the mean and the CVaR
            get 95 % intervals.
    """
    for key, value in result.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if _says_nothing(key, result):
            continue
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        say(f"{key:<22} {shown:>12}{_interval(key, result)}")


def write_drawing(frames: Sequence[Any], figure: Path) -> None:
    """Writes the frames of an episode and says so.

    Args:
        frames: uint8 frames ``[height, width, 3]``.
        figure: File of the drawing.
    """
    from rllib_risk.evaluation.rendering import save_frames

    save_frames(frames, figure)
    note(f"Wrote {figure} ({len(frames)} frames)")


def _interval(key: str, result: Mapping[str, Any]) -> str:
    """Returns the 95 % interval of a mean or a CVaR as text; empty for others."""
    from rllib_risk.ops.statistics import cvar_ci, mean_interval

    returns = result.get("returns") or ()
    if len(returns) < 2:
        return ""
    if key == "return_mean":
        ends = mean_interval(
            result[key], result.get("return_std", math.nan), len(returns)
        )
    elif key == "return_cvar_10":
        ends = cvar_ci(returns, 0.1)
    else:
        return ""
    return f"  95 % interval [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else ""


def _says_nothing(key: str, result: Mapping[str, Any]) -> bool:
    """Returns whether a number is unknown, or the same for every team of this kind."""
    if math.isnan(result[key]):
        return True
    if key.startswith("risk_level_"):
        # A mean of 1 means that the team is risk-neutral.
        return result.get("risk_level_mean") == 1.0
    if key == "num_env_crashes":
        return result[key] == 0
    # Marks episodes that the time limit cut off; present only if all of them were.
    return key == "episode_limit"
