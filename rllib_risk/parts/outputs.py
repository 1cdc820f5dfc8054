"""Outputs of the online and the target network for one batch.

Both networks encode a row from its first step to the observation after its last step.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll

# Slices of the T+1 steps: the steps with an action, and the next steps.
TAKEN, FOLLOWING = slice(None, -1), slice(1, None)


@dataclass
class EncodedBatch:
    """Outputs of the online and the target network for one batch.

    Attributes:
        network: The online network.
        target_network: The target network.
        double_q: Whether the online network chooses the greedy actions.
        encode_online: Computes :attr:`online`.
        at_steps: Returns a slice of the ``T+1`` steps, encoded by one of the networks.
        action_mask: Nonzero where an action is available, ``[B, T+1, N, A]``.
    """

    network: TeamNetwork
    target_network: TeamNetwork
    double_q: bool
    encode_online: Callable[[], Unroll]
    at_steps: Callable[[TeamNetwork, slice], Unroll]
    action_mask: Tensor

    @functools.cached_property
    def online(self) -> Unroll:
        """The ``T`` steps with an action, without burn-in, from the online network."""
        return self.encode_online()

    @functools.cached_property
    def target(self) -> Unroll:
        """The steps of :attr:`online`, encoded by the target network."""
        return self.at_steps(self.target_network, TAKEN)

    @functools.cached_property
    def following(self) -> Unroll:
        """The step after each step of :attr:`online`, from the target network."""
        return self.at_steps(self.target_network, FOLLOWING)

    @functools.cached_property
    def greedy(self) -> Tensor:
        """Greedy actions at each step, int64 ``[B, T, N]``."""
        first = self._greedy_at(slice(1))
        return torch.cat([first, self.greedy_following[:, :-1]], dim=1)

    @functools.cached_property
    def greedy_following(self) -> Tensor:
        """Greedy actions at the next step of each step, int64 ``[B, T, N]``."""
        return self._greedy_at(FOLLOWING)

    @torch.no_grad()
    def _greedy_at(self, steps: slice) -> Tensor:
        chooser = self.network if self.double_q else self.target_network
        if steps == FOLLOWING and not self.double_q:
            unroll = self.following
        else:
            unroll = self.at_steps(chooser, steps)
        return chooser.greedy_actions(unroll, self.action_mask[:, steps])
