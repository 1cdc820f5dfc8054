"""Acting: one step at a time for several environments, with the memory that it needs.

An actor acts with the network's weights as they are when it is made. Where they change
during a round, `refresh` takes them over.

Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size, ``M``
atoms, ``C`` size of the memory.
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
    """What the sampler asks for."""

    @property
    def atoms(self) -> np.ndarray:
        """Return atoms of the last step, in no order, float32 ``[E, N, A, M]``."""

    @property
    def memory(self) -> np.ndarray:
        """What the past and the last step left to act on, float32 ``[E, N, C]``.

        ``C`` is 0 for a team without memory.
        """

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One step.

        Args:
            obs: float32 ``[E, N, D]``.
            action_mask: uint8 ``[E, N, A]``, nonzero where available.

        Returns:
            Utilities of all actions, ``-inf`` where unavailable, float32 ``[E, N, A]``;
            and the index of the risk level that each agent acts at, int64 ``[E, N]``,
            or None where no level is predicted.
        """

    def remember(self, actions: np.ndarray) -> None:
        """Tells which actions were taken in the end, int64 ``[E, N]``."""

    def reset(self, slots: np.ndarray) -> None:
        """Forgets everything about the environments ``slots``: new episodes begin."""

    def refresh(self) -> None:
        """Takes over weights of the network that have changed; memories remain."""


def make_actor(
    network: TeamNetwork,
    num_envs: int,
    window: int | None = None,
    *,
    padded: bool = False,
) -> Actor:
    """The actor that is fast where the network is.

    Args:
        network: The network.
        num_envs: ``E``.
        window: Steps to act on; None: all of the episode so far.
        padded: Whether zeros fill the window at the beginning of an episode.

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
        # Of the carry, the encoder's state and that of the history encoder.
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
        """See :meth:`Actor.refresh`; every step asks the network itself."""
