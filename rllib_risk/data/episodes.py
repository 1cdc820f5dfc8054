"""Whole episodes, the unit of sampling and of replay.

Letters: ``B`` episodes, ``L`` steps of one episode, ``T`` steps of the longest episode
of a batch, ``N`` agents, ``A`` actions, ``D`` observation size, ``S`` state size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.policy.sample_batch import SampleBatch

OBS = "obs"
STATE = "state"
ACTION_MASK = "action_mask"
ACTIONS = "actions"
REWARDS = "rewards"
TERMINATEDS = "terminateds"
MASK = "mask"
PREVIOUS = "previous"
FIRST = "first"
VARIANTS = "variants"
# With objective static: the threshold of an episode, the return before a sequence of
# its steps, and whether the sequence contains the episode's last step.
THRESHOLDS = "thresholds"
EARNED = "earned"
ENDS = "ends"
# Key in the info at the end of an episode: index of the environment's variant.
VARIANT = "variant"


@dataclass
class Episode:
    """One finished episode of a team, without padding.

    Attributes:
        obs: Observations, ``[L + 1, N, D]``: uint8 if they are images, else float32.
            The last row is the observation after the last step, which bootstrapped
            targets need.
        state: Global states, float32 ``[L + 1, S]``.
        action_mask: 1 where an action is available, uint8 ``[L + 1, N, A]``.
        actions: Actions taken, integers ``[L, N]`` of type
            :func:`.replay_memory.action_dtype`.
        rewards: Team rewards, float32 ``[L]``.
        terminated: True if the episode terminated, False if a time limit truncated it.
        risk_levels: Risk level of each agent's action, float32 ``[L, N]``; 1 if risk
            neutral.
        metrics: Numbers that the environment reports last, such as ``is_success``.
        threshold: Threshold of the episode with objective ``static``, else NaN.
    """

    obs: np.ndarray
    state: np.ndarray
    action_mask: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    risk_levels: np.ndarray
    metrics: dict[str, float] = field(default_factory=dict)
    threshold: float = math.nan

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.rewards)

    @property
    def variant(self) -> int:
        """Index of the environment's variant; -1 if there are no variants."""
        return int(self.metrics.get(VARIANT, -1))

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards, computed in float64."""
        return float(self.rewards.sum(dtype=np.float64))

    def discounted_return(self, gamma: float) -> float:
        """Discounted sum of rewards, ``sum_t gamma^t r_t``."""
        return float(self.rewards @ gamma ** np.arange(len(self), dtype=np.float64))


def collate(episodes: Sequence[Episode]) -> SampleBatch:
    """Builds a training batch of episodes, padded to the longest one.

    Args:
        episodes: ``B`` episodes.

    Returns:
        ``obs [B, T+1, N, D]``, ``state [B, T+1, S]``, ``action_mask [B, T+1, N, A]``,
        ``actions [B, T, N]``, ``rewards``, ``terminateds`` and ``mask [B, T]`` (0 in
        padding), ``previous [B, N]`` (the previous actions, here -1 for none) and
        ``first [B]`` (the index of the first step, here 0). Padding is zero, but all
        actions are available there, so that an argmax over actions is defined.
    """
    first = episodes[0]
    size = len(episodes)
    longest = max(len(e) for e in episodes)
    obs = np.zeros((size, longest + 1, *first.obs.shape[1:]), first.obs.dtype)
    state = np.zeros((size, longest + 1, *first.state.shape[1:]), np.float32)
    action_mask = np.ones((size, longest + 1, *first.action_mask.shape[1:]), np.uint8)
    actions = np.zeros((size, longest, *first.actions.shape[1:]), np.int64)
    rewards = np.zeros((size, longest), np.float32)
    terminateds = np.zeros((size, longest), np.float32)
    mask = np.zeros((size, longest), np.float32)
    for b, episode in enumerate(episodes):
        steps = len(episode)
        obs[b, : steps + 1] = episode.obs
        state[b, : steps + 1] = episode.state
        action_mask[b, : steps + 1] = episode.action_mask
        actions[b, :steps] = episode.actions
        rewards[b, :steps] = episode.rewards
        terminateds[b, steps - 1] = episode.terminated
        mask[b, :steps] = 1.0
    more = {}
    if not math.isnan(first.threshold):
        more[THRESHOLDS] = np.array([episode.threshold for episode in episodes])
    return SampleBatch(
        {
            **more,
            OBS: obs,
            STATE: state,
            ACTION_MASK: action_mask,
            ACTIONS: actions,
            REWARDS: rewards,
            TERMINATEDS: terminateds,
            MASK: mask,
            PREVIOUS: np.full((size, *first.actions.shape[1:]), -1, np.int64),
            FIRST: np.zeros(size, np.int64),
        },
        _zero_padded=True,
    )


def last_steps(batch: Mapping[str, Any]) -> np.ndarray:
    """Marks the last steps of episodes, terminated or truncated.

    Args:
        batch: A batch from :func:`collate`, or of sequences with :data:`ENDS`.

    Returns:
        1 at the last step of an episode, 0 elsewhere, float32 ``[B, T]``.
    """
    mask = np.asarray(batch[MASK])
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    ends = np.zeros_like(mask)
    ends[np.arange(len(mask)), last] = batch.get(ENDS, 1.0)
    return ends
