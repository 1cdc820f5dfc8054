"""A training batch as tensors on a device.

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
from rllib_risk.parts.inputs import as_numbers
from rllib_risk.parts.unroll import pick_steps


@dataclass
class Batch:
    """A training batch as tensors. A row is an episode or a sequence of its steps.

    Attributes:
        obs: Observations, ``[B, T+1, N, D]``; for images, the pixels without scaling.
        state: Global states, ``[B, T+1, S]``.
        action_mask: Nonzero where an action is available, ``[B, T+1, N, A]``.
        actions: Actions taken, int64 ``[B, T, N]``.
        rewards: Rewards, ``[B, T, 1]``.
        terminateds: 1 where the episode terminated, ``[B, T, 1]``.
        mask: 1 on steps that the loss uses, ``[B, T, 1]``.
        previous: Actions before the first observation, int64 ``[B, N]``; -1 where an
            episode begins. None: all rows are whole episodes.
        first: Step of its episode at which each row begins, int64 ``[B]``. None: all
            rows are whole episodes.
        learned: Indices of the steps that the loss uses and of the step after them,
            int64 ``[B, L+1]``. Beyond the end the index is ``T``. The steps before them
            are burn-in for the hidden state. None: the loss uses all steps.
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
            samples: Arrays from :func:`rllib_risk.data.episodes.collate`.
            device: Device of the networks.

        Returns:
            The batch.
        """

        def tensor(key: str) -> Tensor:
            return torch.as_tensor(samples[key]).to(device)

        steps = learned_steps(np.asarray(samples[columns.MASK]))
        return cls(
            # Pixels travel as bytes and become numbers on the device.
            obs=as_numbers(tensor(columns.OBS)),
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

    def without_burn_in(self) -> Batch:
        """Returns the batch without its burn-in steps.

        After both networks have encoded the rows, the loss needs only these steps.
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
    """Returns the indices of the steps of each row that the loss uses.

    Args:
        mask: 1 on these steps, which are consecutive, ``[B, T]``.

    Returns:
        See :attr:`Batch.learned`. None if no row has burn-in steps.
    """
    begins = mask.argmax(axis=1)
    if not begins.any():
        return None
    length = int(mask.sum(axis=1).max())
    return np.minimum(begins[:, None] + np.arange(length + 1), mask.shape[1])
