"""A training batch: from arrays to tensors on a device.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_risk.data import episodes as columns
from rllib_risk.parts.unroll import pick_steps


@dataclass
class Batch:
    """A training batch as tensors.

    Attributes:
        obs: ``[B, T+1, N, D]``.
        state: ``[B, T+1, S]``.
        action_mask: ``[B, T+1, N, A]``.
        actions: int64 ``[B, T, N]``.
        rewards: ``[B, T, 1]``.
        terminateds: ``[B, T, 1]``.
        mask: ``[B, T, 1]``.
        previous: The actions before the first observation, int64 ``[B, N]``; -1 where
            an episode begins; None: all rows are whole episodes.
        first: The step of its episode at which each row begins, int64 ``[B]``; None:
            as above.
        learned: The steps of each row that are learned from, and the one after, int64
            ``[B, L+1]`` with ``T`` beyond the end; those before them fill a memory.
            None: all.
    """

    obs: Tensor
    state: Tensor
    action_mask: Tensor
    actions: Tensor
    rewards: Tensor
    terminateds: Tensor
    mask: Tensor
    previous: Tensor | None = None
    first: Tensor | None = None
    learned: Tensor | None = None

    @classmethod
    def of(cls, samples: Mapping[str, Any], device: torch.device | str) -> Batch:
        """Moves a collated batch to a device.

        Args:
            samples: From :func:`rllib_risk.data.episodes.collate`.
            device: Where the networks are.

        Returns:
            The batch.
        """

        def tensor(key: str) -> Tensor:
            return torch.as_tensor(samples[key]).to(device)

        steps = learned_steps(np.asarray(samples[columns.MASK]))
        return cls(
            obs=tensor(columns.OBS),
            state=tensor(columns.STATE),
            action_mask=tensor(columns.ACTION_MASK),
            actions=tensor(columns.ACTIONS),
            rewards=tensor(columns.REWARDS).unsqueeze(-1),
            terminateds=tensor(columns.TERMINATEDS).unsqueeze(-1),
            mask=tensor(columns.MASK).unsqueeze(-1),
            previous=tensor(columns.PREVIOUS),
            first=tensor(columns.FIRST),
            learned=None if steps is None else torch.from_numpy(steps).to(device),
        )

    def stretch(self) -> Batch:
        """The steps that are learned from, without those that only fill a memory.

        They are all that a loss reads once both networks have gone through the rows.
        """
        if self.learned is None:
            return self
        done = self.learned[:, :-1]
        within = (done < self.mask.shape[1]).unsqueeze(-1)
        return Batch(
            obs=pick_steps(self.obs, self.learned),
            state=pick_steps(self.state, self.learned),
            action_mask=pick_steps(self.action_mask, self.learned),
            actions=pick_steps(self.actions, done),
            rewards=pick_steps(self.rewards, done),
            terminateds=pick_steps(self.terminateds, done),
            mask=pick_steps(self.mask, done) * within,
        )


def learned_steps(mask: np.ndarray) -> np.ndarray | None:
    """Which steps a batch's rows are learned from.

    Args:
        mask: 1 for these steps, which follow one another, ``[B, T]``.

    Returns:
        See :attr:`Batch.learned`; None if every row begins with such a step.
    """
    begins = mask.argmax(axis=1)
    if not begins.any():
        return None
    length = int(mask.sum(axis=1).max())
    return np.minimum(begins[:, None] + np.arange(length + 1), mask.shape[1])
