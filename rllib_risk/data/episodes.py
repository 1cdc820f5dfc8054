"""Whole episodes: the unit of sampling and of replay.

Letters: ``B`` episodes, ``L`` steps of one episode, ``T`` the longest of a batch, ``N``
agents, ``A`` actions, ``D`` observation size, ``S`` state size.
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
# Where the objective is static: what an episode was played for, the return before a
# stretch of it, and whether the stretch ends with it.
THRESHOLDS = "thresholds"
EARNED = "earned"
ENDS = "ends"
# Added to the info that ends an episode: the index of the part that played it.
VARIANT = "variant"


@dataclass
class Episode:
    """One finished episode of a team; real steps only.

    Attributes:
        obs: float32 ``[L + 1, N, D]``; the last row is the observation after the last
            step, which a bootstrapped target needs.
        state: float32 ``[L + 1, S]``.
        action_mask: uint8 ``[L + 1, N, A]``.
        actions: Integers ``[L, N]``; :func:`.replay_memory.action_dtype` is their type.
        rewards: float32 ``[L]``.
        terminated: True if the episode truly ended, False if a time limit cut it.
        risk_levels: float32 ``[L, N]``, the level each agent acted at (1 if neutral).
        metrics: Numbers the environment reported at the end, ``is_success`` among them.
        threshold: What it was played for with objective ``static``; NaN with others.
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
        """Index of the environment's variant that it was played in; -1: none."""
        return int(self.metrics.get(VARIANT, -1))

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards, added up in float64."""
        return float(self.rewards.sum(dtype=np.float64))

    def discounted_return(self, gamma: float) -> float:
        """Sum of rewards, each times ``gamma`` to the number of its step."""
        return float(self.rewards @ gamma ** np.arange(len(self), dtype=np.float64))


def collate(episodes: Sequence[Episode]) -> SampleBatch:
    """Pads episodes to the longest one: the training batch of the data contract.

    Args:
        episodes: ``B`` episodes.

    Returns:
        ``obs [B, T+1, N, D]``, ``state [B, T+1, S]``, ``action_mask [B, T+1, N, A]``,
        ``actions [B, T, N]``, ``rewards``, ``terminateds`` and ``mask [B, T]`` (0 in
        padding), ``previous [B, N]``, the actions before (-1: none), and ``first [B]``,
        the number of the first step: 0. Padding is zero, but every action is legal
        there, so that no argmax runs dry.
    """
    first = episodes[0]
    size = len(episodes)
    longest = max(len(e) for e in episodes)
    obs = np.zeros((size, longest + 1, *first.obs.shape[1:]), np.float32)
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
    """Where episodes end, at a time limit too.

    Args:
        batch: From :func:`collate`, or of stretches with :data:`ENDS`.

    Returns:
        1 at the last step of an episode, 0 elsewhere, float32 ``[B, T]``.
    """
    mask = np.asarray(batch[MASK])
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    ends = np.zeros_like(mask)
    ends[np.arange(len(mask)), last] = batch.get(ENDS, 1.0)
    return ends
