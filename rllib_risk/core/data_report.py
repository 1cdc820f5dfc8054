"""Statistics of a policy on the episodes of a dataset, for results.

Letters: ``B`` episodes, ``T`` steps, ``G`` learned values (1, or one for each agent),
``M`` atoms.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.dataset_replay import DatasetReplay
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.segments import bytes_per_row
from rllib_risk.ops.statistics import cvar_of_returns
from rllib_risk.parts.objectives.static import Static
from rllib_risk.parts.view import View

# Groups of episodes, and keys of their results.
DATA, HOLDOUT = "data", "holdout"
# Size of the sample of the episodes to learn from.
NUM_SAMPLED = 100
# Number of episodes in one forward pass.
_CHUNK = 32
# Stream of random numbers that no update uses.
_STREAM = 2**18


def report_groups(
    dataset: Dataset, replay: DatasetReplay, memory_bytes: float
) -> dict[str, list[Episode]]:
    """Chooses the episodes of the report, which stay the same throughout a run.

    Args:
        dataset: The dataset.
        replay: Replay of the dataset.
        memory_bytes: Memory for held-out episodes. If they need more, only the first
            ones are kept, but at least one.

    Returns:
        A sample of the episodes to learn from, and the held-out episodes, if there are
        any.
    """
    groups = {DATA: replay.some_episodes(NUM_SAMPLED)}
    if replay.split.held_out.any():
        kept: list[Episode] = []
        used = 0
        for episode in itertools.compress(dataset.episodes(), replay.split.held_out):
            used += (len(episode) + 1) * bytes_per_row(episode)
            if kept and used > memory_bytes:
                break
            kept.append(episode)
        groups[HOLDOUT] = kept
    return groups


def report(
    policy: ValuePolicy, groups: Mapping[str, Sequence[Episode]]
) -> dict[str, dict[str, float]]:
    """Computes loss, logged statistics and start values of whole episodes.

    The policy does not learn, and the random numbers of later updates stay the same.

    Args:
        policy: The policy.
        groups: Episodes from :func:`report_groups`.

    Returns:
        For each group, means over its env steps of ``loss`` and of all values that the
        parts log. If :func:`start_values` gives estimates, also ``start_value_mean``
        and ``start_value_cvar_10``: their mean and the mean of their lowest tenth, in
        units of unscaled rewards.
    """
    wanted, policy.wants_stats = policy.wants_stats, True
    try:
        return {name: _numbers(policy, episodes) for name, episodes in groups.items()}
    finally:
        policy.wants_stats = wanted


@torch.no_grad()
def _numbers(policy: ValuePolicy, episodes: Sequence[Episode]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    starts: list[np.ndarray] = []
    steps = 0
    for begin in range(0, len(episodes), _CHUNK):
        chunk = episodes[begin : begin + _CHUNK]
        number = sum(map(len, chunk))
        view = policy.view(policy.tensors(collate(chunk)), _STREAM)
        loss = policy.team_loss(view)
        for name, value in {"loss": loss, **view.logged}.items():
            sums[name] += number * value.item()
        steps += number
        values = start_values(policy, view)
        if values is not None:
            starts.append(values.double().cpu().numpy())
    numbers = {name: total / steps for name, total in sums.items()}
    if starts:
        pooled = np.concatenate([values.ravel() for values in starts])
        numbers["start_value_mean"] = float(pooled.mean())
        numbers["start_value_cvar_10"] = cvar_of_returns(pooled.tolist(), 0.1)
    return numbers


def start_values(policy: ValuePolicy, view: View) -> Tensor | None:
    """Estimates the return of the greedy joint action in the first state.

    Args:
        policy: The policy.
        view: View of whole episodes.

    Returns:
        Estimates ``[B, G M]`` in units of unscaled rewards; atoms if the loss fits
        atoms. None for behaviour cloning, which estimates no values, and for objective
        ``static``, which estimates shortfalls of thresholds.
    """
    network, loss = policy.network, policy.learning.loss
    if not loss.uses_targets or isinstance(network.objective, Static):
        return None
    first = slice(1)
    unroll, state = view.online.at(first), view.state[:, first]
    mask = view.action_mask[:, first]
    greedy = network.greedy_actions(unroll, mask)
    if not loss.mixes:
        values = network.joint_values_of(unroll, greedy, state)
    elif loss.fits_atoms:
        values = network.team_atoms_of(unroll, greedy, state, mask)
    else:
        values = network.values_of(unroll, greedy, state, mask)
    return values.flatten(1) / policy.config["reward_scale"]
