"""The outputs of the online and the target network for one batch.

Both see an episode from its first step to the observation after its last.

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

# Steps of an episode: those at which something was done, and those that followed.
TAKEN, FOLLOWING = slice(None, -1), slice(1, None)


@dataclass
class Pass:
    """The outputs of the online and the target network for one batch.

    Attributes:
        network: The online network.
        target_network: The target network.
        double_q: Whether the online network picks the greedy actions.
        encode_online: Gives :attr:`online`.
        look: Gives any of the ``T+1`` steps, encoded by one of the networks.
        action_mask: Of these steps, ``[B, T+1, N, A]``.
    """

    network: TeamNetwork
    target_network: TeamNetwork
    double_q: bool
    encode_online: Callable[[], Unroll]
    look: Callable[[TeamNetwork, slice], Unroll]
    action_mask: Tensor

    @functools.cached_property
    def online(self) -> Unroll:
        """The ``T`` steps with an action, encoded by the online network.

        Steps that only fill a memory are left out.
        """
        return self.encode_online()

    @functools.cached_property
    def target(self) -> Unroll:
        """The same steps as :attr:`online`, encoded by the target network."""
        return self.look(self.target_network, TAKEN)

    @functools.cached_property
    def following(self) -> Unroll:
        """What followed each of these steps, encoded by the target network."""
        return self.look(self.target_network, FOLLOWING)

    @functools.cached_property
    def greedy(self) -> Tensor:
        """The actions of the target's maximum at each step, int64 ``[B, T, N]``."""
        first = self._choose(slice(1))
        return torch.cat([first, self.greedy_following[:, :-1]], dim=1)

    @functools.cached_property
    def greedy_following(self) -> Tensor:
        """The same where each step led to, int64 ``[B, T, N]``."""
        return self._choose(FOLLOWING)

    @torch.no_grad()
    def _choose(self, steps: slice) -> Tensor:
        chooser = self.network if self.double_q else self.target_network
        if steps == FOLLOWING and not self.double_q:
            unroll = self.following
        else:
            unroll = self.look(chooser, steps)
        return chooser.greedy_actions(unroll, self.action_mask[:, steps])
