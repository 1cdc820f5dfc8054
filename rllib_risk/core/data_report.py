"""What results say of a policy where a dataset is all there is to judge it by.

Letters: ``B`` episodes, ``T`` steps, ``G`` values that are learned (1, or one for each
agent), ``M`` atoms.
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

# The groups of episodes, which are the folders of the results.
DATA, HOLDOUT = "data", "holdout"
# Episodes that stand for those that are learned from.
NUM_SAMPLED = 100
# Episodes that go through the networks at once.
_CHUNK = 32
# Apart from the streams of updates.
_STREAM = 2**18


def report_groups(
    dataset: Dataset, replay: DatasetReplay, memory_bytes: float
) -> dict[str, list[Episode]]:
    """The episodes that results speak of: the same ones throughout a run.

    Args:
        dataset: The dataset.
        replay: What is learned from.
        memory_bytes: For held-out episodes; of more than fit the first ones are taken,
            but at least one.

    Returns:
        Some of those that are learned from, and all that are held out, if there are
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
    """What the learner would log of whole episodes, and what it expects at their start.

    Nothing is learned and no random number of a later update is used.

    Args:
        policy: The policy.
        groups: From :func:`report_groups`.

    Returns:
        For each group means over its env steps of ``loss`` and of all that the parts
        log; and ``start_value_mean`` and ``start_value_cvar_10``, in the units of
        unscaled rewards: mean and mean of the lowest tenth of what the policy's first
        joint actions are estimated to return, where there is such an estimate.
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
    """What the greedy joint action is estimated to return in the first states.

    Args:
        policy: The policy.
        view: Whole episodes.

    Returns:
        ``[B, G M]`` in units of unscaled rewards: atoms, where the loss fits them.
        None: behaviour cloning estimates nothing, and objective ``static`` estimates
        shortfalls of thresholds.
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
