"""Actors choose actions step by step for several environments and keep hidden states.

An actor may copy the network's weights when it is created. Call `refresh` after the
weights change.

Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size, ``M``
atoms, ``C`` size of the hidden state.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import torch

from rllib_risk.parts.numpy_actor import NumpyActor, kept_memory
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Decision
from rllib_risk.parts.window_actor import WindowActor


class Actor(Protocol):
    """Interface of actors, as the sampler uses it."""

    @property
    def atoms(self) -> np.ndarray:
        """Unsorted return atoms of the last step, float32 ``[E, N, A, M]``."""

    @property
    def memory(self) -> np.ndarray:
        """Hidden state after the last step, float32 ``[E, N, C]``.

        ``C`` is 0 for a feed-forward team.
        """

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Computes the utilities of one step.

        Args:
            obs: Observations, float32 ``[E, N, D]``.
            action_mask: Nonzero where an action is available, uint8 ``[E, N, A]``.

        Returns:
            Utilities of all actions, ``-inf`` where unavailable, float32 ``[E, N, A]``;
            and the index of each agent's risk level, int64 ``[E, N]``, or None if no
            level is predicted.
        """

    def remember(self, actions: np.ndarray) -> None:
        """Stores the actions that were taken, int64 ``[E, N]``."""

    def reset(self, slots: np.ndarray) -> None:
        """Clears the hidden states of the environments ``slots`` for new episodes."""

    def refresh(self) -> None:
        """Copies the network's current weights; hidden states stay."""


def make_actor(
    network: TeamNetwork,
    num_envs: int,
    window: int | None = None,
    *,
    padded: bool = False,
) -> Actor:
    """Creates the actor that is fastest on the network's device.

    Args:
        network: The network.
        num_envs: ``E``.
        window: Number of last steps to act on. None: the whole episode so far.
        padded: Whether zeros fill the window at the start of an episode.

    Returns:
        An actor at the start of ``E`` episodes.
    """
    if window is not None:
        return WindowActor(network, num_envs, window, padded=padded)
    cpu = network.device.type == "cpu"
    return NumpyActor(network, num_envs) if cpu else TorchActor(network, num_envs)


class TorchActor:
    """Acts with :meth:`TeamNetwork.step`, on any device."""

    def __init__(self, network: TeamNetwork, num_envs: int) -> None:
        """Initializes the actor.

        Args:
            network: The network.
            num_envs: ``E``.
        """
        self._network = network
        self._device = network.device
        self._carry = network.initial_carry(num_envs)
        self._decision: Decision | None = None

    @property
    def atoms(self) -> np.ndarray:
        """See :attr:`Actor.atoms`."""
        return cast("Decision", self._decision).atoms.cpu().numpy()

    @property
    def memory(self) -> np.ndarray:
        """See :attr:`Actor.memory`."""
        # The carry holds the hidden states of encoder and history encoder at 1 and 2.
        states = [part.cpu().numpy() for part in self._carry[1:3]]
        return kept_memory(self._network, *states)

    @torch.inference_mode()
    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Actor.act`."""
        self._decision, self._carry = self._network.step(
            torch.from_numpy(obs).to(self._device),
            torch.from_numpy(action_mask).to(self._device),
            self._carry,
        )
        levels = self._decision.level_index
        utilities = self._decision.utilities.cpu().numpy()
        return utilities, None if levels is None else levels.cpu().numpy()

    @torch.inference_mode()
    def remember(self, actions: np.ndarray) -> None:
        """See :meth:`Actor.remember`."""
        taken = torch.from_numpy(actions).to(self._device)
        self._network.remember(self._carry, taken)

    @torch.inference_mode()
    def reset(self, slots: np.ndarray) -> None:
        """See :meth:`Actor.reset`."""
        rows = torch.from_numpy(slots).to(self._device)
        for part in self._carry:
            part[rows] = 0.0

    def refresh(self) -> None:
        """See :meth:`Actor.refresh`. Every step reads the network, so nothing to do."""
