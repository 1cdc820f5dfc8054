"""Checks the contents of a checkpoint's ``state.json`` before they are restored.

Checksums find files that were changed. Contents that another program wrote can have
right checksums and still end a run later, far from the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.off_policy.estimates import OFF_POLICY

# A check returns what is needed, or "" if the value is right.
_Check = Callable[[Any], str]


def check_state(state: Mapping[str, Any], file: Any) -> None:
    """Checks types and ranges of the values that every algorithm restores.

    Args:
        state: Contents of the file.
        file: The file, for error texts.

    Raises:
        CheckpointError: If a value has another type, or is not finite where it must
            be. The message names the key.
    """
    for key, check in _CHECKS.items():
        if key in state and (needed := check(state[key])):
            value = repr(state[key])
            short = value if len(value) <= 60 else f"{value[:60]}..."
            raise CheckpointError(f"{file}: {key} must be {needed}, not {short}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _count(value: Any) -> str:
    return "" if _is_count(value) else "a whole number of at least 0"


def _finite(value: Any) -> str:
    return "" if _is_finite(value) else "a finite number"


def _finite_or_none(value: Any) -> str:
    return "" if value is None or _is_finite(value) else "a finite number or null"


def _counters(value: Any) -> str:
    # Callbacks may add counters of any kind of number.
    right = isinstance(value, dict) and all(
        _is_count(number) if name.startswith("num_") else _is_finite(number)
        for name, number in value.items()
    )
    return "" if right else "a mapping of whole numbers of at least 0"


def _counts(value: Any) -> str:
    right = isinstance(value, dict) and all(map(_is_count, value.values()))
    return "" if right else "a mapping of whole numbers of at least 0"


def _numbers(value: Any) -> str:
    right = isinstance(value, dict) and all(map(_is_number, value.values()))
    return "" if right else "a mapping of numbers"


def _mapping(value: Any) -> str:
    return "" if isinstance(value, dict) else "a mapping"


def _estimates(value: Any) -> str:
    if value is None:
        return ""
    right = isinstance(value, dict) and _is_count(value.get("since_best"))
    right = right and (value["best"] is None or _is_number(value["best"]))
    return "" if right else "a mapping with best and since_best"


def _history(value: Any) -> str:
    right = isinstance(value, list) and all(
        isinstance(one, list)
        and len(one) == 3
        and _is_count(one[0])
        and _is_finite(one[1])
        and not _numbers(one[2])
        for one in value
    )
    return "" if right else "a list of length, return and numbers of each episode"


_CHECKS: dict[str, _Check] = {
    "iteration": _count,
    "counters": _counters,
    "updates_owed": _finite,
    "last": _counts,
    "success_rate": _finite_or_none,
    "last_evaluation": _mapping,
    "evaluation_age": _count,
    "learner_stats": _numbers,
    "episode_history": _history,
    OFF_POLICY: _estimates,
}
