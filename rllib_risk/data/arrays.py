"""Creates episodes from plain arrays and fills in what can be derived.

Letters: ``L`` steps, ``N`` agents, ``A`` actions, ``D`` observation size, ``S`` state
size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import action_dtype
from rllib_risk.data.rows import DatasetError

# Value of `state` for the concatenated observations of all agents.
OBSERVATIONS = "observations"
_LARGEST = float(np.finfo(np.float32).max)


def make_episode(
    obs: Any,
    actions: Any,
    rewards: Any,
    *,
    terminated: bool,
    num_actions: int | None = None,
    action_mask: Any = None,
    state: Any = None,
) -> Episode:
    """Creates an episode from arrays or lists.

    Args:
        obs: Observations ``[L + 1, N, D]``, the last one after the last action. Give
            ``[L, N, D]`` if the last one is unknown. After a termination, zeros take
            its place, which no learner reads. In a truncated episode, the last step is
            dropped, and its observation becomes the last one. A uint8 array (flat
            images) stays uint8.
        actions: Actions, whole numbers from 0, ``[L, N]``.
        rewards: Team rewards, ``[L]``.
        terminated: Whether the episode terminated; False if it was truncated, for
            example by a time limit.
        num_actions: ``A``, including actions that do not occur in the data. Not needed
            with ``action_mask``.
        action_mask: 1 where an action was available, else 0, ``[L + 1, N, A]`` (as long
            as ``obs``). None: all actions were available.
        state: Global states ``[L + 1, S]`` (as long as ``obs``); ``"observations"`` for
            the concatenated observations of all agents; or None for no state.

    Returns:
        The episode, with risk levels of 1.

    Raises:
        DatasetError: If shapes do not match, a number is not finite, an action does not
            exist or is not available, or the episode has no step left.
    """
    if not isinstance(terminated, (bool, np.bool_)):
        raise DatasetError(f"terminated must be True or False, not {terminated!r}")
    # Images stay bytes; all other observations become float32.
    images = getattr(obs, "dtype", None) == np.uint8
    seen = _numbers("obs", obs, 3).astype(np.uint8 if images else np.float32)
    taken = _actions(actions)
    team = _numbers("rewards", rewards, 1)
    steps, rows = len(taken), len(seen)
    if steps == 0 or rows not in (steps, steps + 1) or len(team) != steps:
        raise DatasetError(
            f"obs has {rows} rows, actions {steps} and rewards {len(team)}; an episode"
            " of L steps needs L + 1 (or L), L and L"
        )
    if seen.shape[1] != taken.shape[1]:
        raise DatasetError(
            f"obs has {seen.shape[1]} agents, and actions has {taken.shape[1]}"
        )
    mask = _mask(action_mask, num_actions, (rows, seen.shape[1]))
    _check_actions(taken, mask)
    if isinstance(state, str) and state != OBSERVATIONS:
        raise DatasetError(f"state must be numbers or {OBSERVATIONS!r}, not {state!r}")
    given: np.ndarray = np.zeros((rows, 0))
    if state is not None and not isinstance(state, str):
        given = _numbers("state", state, 2)
    if len(given) != rows:
        raise DatasetError(f"state has {len(given)} rows, and obs has {rows}")
    given = given.astype(np.float32)
    if rows == steps:
        kept = with_last_observation(seen, given, mask, bool(terminated))
        if kept is None:
            raise DatasetError(
                "a truncated episode of one step needs the observation after that step"
            )
        seen, given, mask = kept
        steps = len(seen) - 1
    if isinstance(state, str):
        given = seen.reshape(len(seen), -1).astype(np.float32)
    return Episode(
        obs=seen,
        state=given,
        action_mask=mask,
        actions=taken[:steps].astype(action_dtype(mask.shape[2])),
        rewards=team[:steps].astype(np.float32),
        terminated=bool(terminated),
        risk_levels=np.ones((steps, taken.shape[1]), np.float32),
    )


def with_last_observation(
    obs: np.ndarray, state: np.ndarray, mask: np.ndarray, terminated: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Completes an episode whose last observation is unknown.

    After a termination the last observation is never read. It is set to zeros, with
    only the first action available. After a truncation a learner bootstraps from it. So
    the last step is dropped, and its observation becomes the last one.

    Args:
        obs: Observations ``[L, N, D]``.
        state: Global states ``[L, S]``.
        mask: Action masks ``[L, N, A]``.
        terminated: Whether the episode terminated.

    Returns:
        The arrays with ``L + 1`` rows after a termination. After a truncation the
        unchanged arrays, for ``L - 1`` steps, or None if no step is left.
    """
    if not terminated:
        return (obs, state, mask) if len(obs) > 1 else None
    after = np.zeros_like(mask[:1])
    after[..., 0] = 1
    return (
        np.concatenate([obs, np.zeros_like(obs[:1])]),
        np.concatenate([state, np.zeros_like(state[:1])]),
        np.concatenate([mask, after]),
    )


def _numbers(name: str, values: Any, axes: int) -> np.ndarray:
    """Converts to float64 and checks for finite float32 numbers and number of axes."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "fiub":
            raise TypeError(f"they are of type {found.dtype}")
        found = found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name} must hold numbers: {error}") from error
    if found.ndim != axes:
        raise DatasetError(f"{name} has shape {found.shape}; it must have {axes} axes")
    wrong = ~(np.abs(found) <= _LARGEST)
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise DatasetError(
            f"{name}{list(place)} is {found[place]:g}, not a finite 32-bit number"
        )
    return found


def _actions(values: Any) -> np.ndarray:
    found = _numbers("actions", values, 2)
    wrong = found != found.round()
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise DatasetError(
            f"actions{list(place)} is {found[place]:g}; actions are whole numbers"
        )
    return found.astype(np.int64)


def _mask(values: Any, num_actions: int | None, shape: tuple[int, int]) -> np.ndarray:
    if values is None:
        is_count = isinstance(num_actions, (int, np.integer)) and num_actions > 0
        if isinstance(num_actions, bool) or not is_count:
            raise DatasetError(
                f"num_actions must be a whole number above 0, not {num_actions!r},"
                " unless action_mask is given"
            )
        return np.ones((*shape, int(num_actions or 0)), np.uint8)
    found = _numbers("action_mask", values, 3)
    if found.shape[:2] != shape or num_actions not in (None, found.shape[2]):
        raise DatasetError(
            f"action_mask has shape {found.shape}; it must be"
            f" {(*shape, num_actions or 'A')}"
        )
    wrong = (found != 0) & (found != 1)
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise DatasetError(f"action_mask{list(place)} is {found[place]:g}, not 0 or 1")
    return found.astype(np.uint8)


def _check_actions(actions: np.ndarray, mask: np.ndarray) -> None:
    """Raises an error for actions that do not exist or are not available."""
    last = mask.shape[2] - 1
    wrong = (actions < 0) | (actions > last)
    text = f"; actions go from 0 to {last}"
    if not wrong.any():
        taken = np.take_along_axis(mask[: len(actions)], actions[..., None], axis=2)
        wrong = taken[..., 0] == 0
        text = ", which action_mask does not allow"
    if wrong.any():
        place = tuple(int(n) for n in np.argwhere(wrong)[0])
        raise DatasetError(f"actions{list(place)} is {actions[place]}{text}")
