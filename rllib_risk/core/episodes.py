"""Whole episodes: the unit of sampling, of replay and of learning.

Letters: ``B`` episodes, ``L`` steps of one episode, ``T`` the longest of a batch, ``N``
agents, ``A`` actions, ``D`` observation size, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.env_wrappers.joined_envs import VARIANT

OBS = "obs"
STATE = "state"
ACTION_MASK = "action_mask"
ACTIONS = "actions"
REWARDS = "rewards"
TERMINATEDS = "terminateds"
MASK = "mask"
PREVIOUS = "previous"
FIRST = "first"


@dataclass
class Episode:
    """One finished episode of a team, or a stretch of one; real steps only.

    Attributes:
        obs: float32 ``[L + 1, N, D]``; the last row is the observation after the last
            step, which a bootstrapped target needs.
        state: float32 ``[L + 1, S]``.
        action_mask: uint8 ``[L + 1, N, A]``.
        actions: int16 ``[L, N]``.
        rewards: float32 ``[L]``.
        terminated: True if the episode truly ended, False if a time limit cut it.
        risk_levels: float32 ``[L, N]``, the level each agent acted at (1 if neutral).
        metrics: Numbers the environment reported at the end, ``is_success`` among them;
            a stretch has those of the whole episode.
        first: The step of the whole episode at which a stretch begins.
        burn_in: Steps at the beginning of a stretch that are not learned from.
        previous: The actions before a stretch, int16 ``[N]``; None where the whole
            episode begins.
    """

    obs: np.ndarray
    state: np.ndarray
    action_mask: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    risk_levels: np.ndarray
    metrics: dict[str, float] = field(default_factory=dict)
    first: int = 0
    burn_in: int = 0
    previous: np.ndarray | None = None

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

    def stretch(self, first: int, length: int, burn_in: int) -> Episode:
        """Some steps in a row, with the steps before them that fill a memory.

        Args:
            first: The first step that is learned from; below 0 it counts from before
                the beginning, where there is nothing.
            length: Steps from there, as many as there are.
            burn_in: Steps before ``first`` that come along, as many as there are.

        Returns:
            A stretch that shares this episode's memory.
        """
        stop = min(first + length, len(self))
        first = max(first, 0)
        start = max(first - burn_in, 0)
        steps, rows = slice(start, stop), slice(start, stop + 1)
        return Episode(
            obs=self.obs[rows],
            state=self.state[rows],
            action_mask=self.action_mask[rows],
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            terminated=self.terminated and stop == len(self),
            risk_levels=self.risk_levels[steps],
            metrics=self.metrics,
            first=start,
            burn_in=first - start,
            previous=self.actions[start - 1] if start else None,
        )


def collate(episodes: Sequence[Episode]) -> SampleBatch:
    """Pads episodes to the longest one: the training batch of the data contract.

    Args:
        episodes: ``B`` episodes, or stretches of some.

    Returns:
        ``obs [B, T+1, N, D]``, ``state [B, T+1, S]``, ``action_mask [B, T+1, N, A]``,
        ``actions [B, T, N]``, ``rewards``, ``terminateds`` and ``mask [B, T]`` (0 in
        padding and burn-in), ``previous [B, N]`` (-1: none) and ``first
        [B]``. Padding is zero, but every action is legal there, so that no argmax runs
        dry.
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
    previous = np.full((size, *first.actions.shape[1:]), -1, np.int64)
    for b, episode in enumerate(episodes):
        steps = len(episode)
        obs[b, : steps + 1] = episode.obs
        state[b, : steps + 1] = episode.state
        action_mask[b, : steps + 1] = episode.action_mask
        actions[b, :steps] = episode.actions
        rewards[b, :steps] = episode.rewards
        terminateds[b, steps - 1] = episode.terminated
        mask[b, episode.burn_in : steps] = 1.0
        if episode.previous is not None:
            previous[b] = episode.previous
    return SampleBatch(
        {
            OBS: obs,
            STATE: state,
            ACTION_MASK: action_mask,
            ACTIONS: actions,
            REWARDS: rewards,
            TERMINATEDS: terminateds,
            MASK: mask,
            PREVIOUS: previous,
            FIRST: np.array([e.first for e in episodes], np.int64),
        },
        _zero_padded=True,
    )
