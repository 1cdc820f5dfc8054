"""Tries custom explorers and replays before a run starts.

Letters: ``E`` environments or episodes, ``T`` steps, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from rllib_risk.data.episodes import Episode
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.base import Choice
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.replay import Replay
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.trial_calls import call_own
from rllib_risk.parts.view import View

_E, _T = 2, 3


def try_explorer(choice: Choice, sizes: TeamSizes) -> None:
    """Tries a custom explorer.

    Args:
        choice: The explorer.
        sizes: Sizes of the team and its observations.

    Raises:
        ValueError: If the explorer fails, or returns no actions.
    """
    n, num_actions = sizes.num_agents, sizes.num_actions
    explorer = call_own(choice, "__init__", choice.make, num_envs=_E, num_agents=n)
    call_own(choice, "reset", explorer.reset, np.arange(_E))
    utilities = np.zeros((_E, n, num_actions), np.float32)
    for level in (0.0, 1.0):
        actions = call_own(
            choice,
            "explore",
            explorer.explore,
            utilities,
            np.ones_like(utilities),
            np.full(_E, level),
            np.random.default_rng(0),
        )
        choice.check_shape(actions, (_E, n), of="explore")
        kind = np.asarray(actions).dtype
        if not np.issubdtype(kind, np.integer):
            raise ValueError(
                f"exploration: explore of {choice.name!r} must return whole numbers"
                f" (the actions), and it returned {kind}."
            )


def try_replay(
    choice: Choice,
    values: Mapping[str, Any],
    sizes: TeamSizes,
    view_of: Callable[[Batch], View],
) -> None:
    """Tries a custom replay of a small capacity: it stores, draws, learns and is saved.

    Args:
        choice: The replay.
        values: The configuration's keys and values.
        sizes: Sizes of the team and its observations.
        view_of: Creates the view of a batch.

    Raises:
        ValueError: If the replay fails.
    """
    small = VALUE_PARTS.slots["replay"].choose({**values, "buffer_size_episodes": _E})
    replay: Replay = call_own(choice, "__init__", small.make, seed=0)
    call_own(choice, "add", replay.add, [_zero_episode(sizes) for _ in range(_E)])
    samples = call_own(choice, "draw", replay.draw, _E)
    batch = call_own(choice, "draw", Batch.of, samples, "cpu")
    if type(replay).learned is not Replay.learned:
        call_own(choice, "learned", replay.learned, samples, view_of(batch))
    state = call_own(choice, "state_arrays", lambda: _saved(replay.state_arrays()))
    call_own(choice, "load_arrays", small.make(seed=0).load_arrays, state)


def _saved(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Writes arrays as a checkpoint does, and reads them back."""
    return load(save({key: np.ascontiguousarray(a) for key, a in arrays.items()}))


def _zero_episode(sizes: TeamSizes) -> Episode:
    n, rows = sizes.num_agents, _T + 1
    return Episode(
        obs=np.zeros((rows, n, sizes.obs_size), np.float32),
        state=np.zeros((rows, sizes.state_size), np.float32),
        action_mask=np.ones((rows, n, sizes.num_actions), np.uint8),
        actions=np.zeros((_T, n), np.int64),
        rewards=np.zeros(_T, np.float32),
        terminated=True,
        risk_levels=np.ones((_T, n), np.float32),
        # An environment may report any number.
        metrics=defaultdict(float),
    )
