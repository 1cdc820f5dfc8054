"""An actor that acts only on the last steps.

Letters: ``E`` environments, ``W`` steps of a window, ``N`` agents, ``D`` observation
size.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Decision


class WindowActor:
    """Recomputes the hidden state from the last ``window`` steps before every action.

    A network that learned from windows with a zero initial hidden state has never seen
    hidden states of longer episodes. This actor avoids them. It runs on any device.
    """

    def __init__(
        self, network: TeamNetwork, num_envs: int, window: int, *, padded: bool
    ) -> None:
        """Initializes the actor.

        Args:
            network: The network.
            num_envs: ``E``.
            window: ``W``, number of last steps to act on, with the current one.
            padded: Whether steps with zero observations and action 0 fill the window at
                the start of an episode. If not, the window is shorter there.
        """
        n, obs_size = network.sizes.num_agents, network.sizes.obs_size
        self._network = network
        self._device = network.device
        self._window = window
        # A new window is empty, or full of zeros if it is padded.
        self._first_length, self._no_action = (window, 0) if padded else (0, -1)
        self._length = np.zeros(num_envs, np.int64)  # of each environment's window
        # Windows are left-aligned; entries after their end are ignored.
        self._obs = np.zeros((num_envs, window, n, obs_size), np.float32)
        # The actions before each observation, and the actions before the next one.
        self._before = np.zeros((num_envs, window, n), np.int64)
        self._last = np.zeros((num_envs, n), np.int64)
        self._decision: Decision | None = None
        self.reset(np.arange(num_envs))

    @property
    def atoms(self) -> np.ndarray:
        """See :attr:`Actor.atoms`."""
        return cast("Decision", self._decision).atoms.cpu().numpy()

    @property
    def memory(self) -> np.ndarray:
        """Observations of the window, in place of :attr:`Actor.memory`."""
        windows = self._obs.transpose(0, 2, 1, 3)  # [E, N, W, D]
        return windows.reshape(*windows.shape[:2], -1)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Actor.act`."""
        full = self._length == self._window
        for array in (self._obs, self._before):
            array[full, :-1] = array[full, 1:]
        self._length += ~full
        now = np.arange(len(full)), self._length - 1
        self._obs[now], self._before[now] = obs, self._last
        before = torch.from_numpy(self._before).to(self._device)
        inputs = self._network.inputs(
            torch.from_numpy(self._obs).to(self._device), before[:, 1:], before[:, 0]
        )
        self._decision = self._network.decide(
            inputs,
            torch.from_numpy(now[1]).to(self._device),
            torch.from_numpy(action_mask).to(self._device),
        )
        levels = self._decision.level_index
        utilities = self._decision.utilities.cpu().numpy()
        return utilities, None if levels is None else levels.cpu().numpy()

    def remember(self, actions: np.ndarray) -> None:
        """See :meth:`Actor.remember`."""
        self._last[:] = actions

    def reset(self, slots: np.ndarray) -> None:
        """See :meth:`Actor.reset`."""
        self._length[slots] = self._first_length
        self._obs[slots] = 0.0
        self._before[slots] = self._last[slots] = self._no_action

    def refresh(self) -> None:
        """See :meth:`Actor.refresh`. Every step reads the network, so nothing to do."""
