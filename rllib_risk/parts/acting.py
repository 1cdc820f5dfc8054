"""Acting: one step at a time for several environments, with the memory that it needs.

An actor acts with the network's weights as they are when it is made. Where they change
during a round, `refresh` takes them over.

Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size, ``R``
rows (environments times agents), ``I`` input size, ``H`` hidden size, ``C`` size of the
state that lasts between steps, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.arrays import NUMPY, Step, step_of
from rllib_risk.networks.heads import UtilityHead
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.risk.base import RiskMeasure
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Decision


class Actor(Protocol):
    """What the sampler asks for."""

    @property
    def atoms(self) -> np.ndarray:
        """Return atoms of the last step, in no order, float32 ``[E, N, A, M]``."""

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
    cpu = network.ids.device.type == "cpu"
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
        self._device = network.ids.device
        self._carry = network.initial_carry(num_envs)
        self._decision: Decision | None = None

    @property
    def atoms(self) -> np.ndarray:
        """See :attr:`Actor.atoms`."""
        return cast("Decision", self._decision).atoms.cpu().numpy()

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


class NumpyActor:
    """The same, with NumPy for everything but the linear layers.

    A step of acting is some fifty operations on a few rows, and most calls into PyTorch
    cost several times the arithmetic: with one environment this actor needs 0.4 of
    :class:`TorchActor`'s time, with 32 environments 0.65. The linear layers work on the
    very memory of the network's parameters.

    Attributes:
        atoms: Of all actions in the last step, in no order, float32 ``[E, N, A, M]``.
    """

    def __init__(self, network: TeamNetwork, num_envs: int) -> None:
        """Initializes the actor.

        Args:
            network: A network on the CPU.
            num_envs: ``E``.
        """
        sizes, options = network.sizes, network.options
        n, obs_size = sizes.num_agents, sizes.obs_size
        shown = sizes.num_actions if options.obs_last_action else 0
        ids_from = obs_size + shown
        self._inputs = np.zeros((num_envs, n, network.input_size), np.float32)
        if options.agent_ids:
            self._inputs[:, :, ids_from:] = np.eye(n)
        # Views, [E, N, D] and [E, N, A], or [E, N, 0] if it is not shown.
        self._obs = self._inputs[:, :, :obs_size]
        self._last_action = self._inputs[:, :, obs_size:ids_from]
        self._one_hot = np.eye(sizes.num_actions, shown, dtype=np.float32)
        # The history branch reads the input of the step before, and the first twice.
        self._lagged = network.level.history_lag == 1
        self._past = self._inputs.copy() if self._lagged else self._inputs
        self._fresh = list(range(num_envs))
        state_size = network.agents[0].encoder.state_size
        self._state, self._history = np.zeros((2, num_envs, n, state_size), np.float32)
        self._network = network
        self.refresh()
        self._predicts = network.level.predicted
        self._atoms_shape = (num_envs, n, sizes.num_actions, network.acting_atoms)
        self.atoms = np.zeros(self._atoms_shape, np.float32)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Actor.act`."""
        self._obs[:] = obs
        if self._fresh:
            if self._lagged:
                self._past[self._fresh] = self._inputs[self._fresh]
            self._fresh = []
        atoms = self._for_agents(_Agent.step, self._inputs, self._state)
        self.atoms = atoms = atoms.reshape(self._atoms_shape)
        logits = levels = None
        if self._predicts:
            logits = self._for_agents(
                _Agent.level_logits, self._past, self._history, self._state
            )
            levels = logits.argmax(axis=-1)
            if self._lagged:
                self._past[:] = self._inputs
        utilities = self._utilities(atoms, logits, levels)
        return np.where(action_mask, utilities, -np.inf), levels

    def remember(self, actions: np.ndarray) -> None:
        """See :meth:`Actor.remember`."""
        self._last_action[:] = self._one_hot[actions]

    def reset(self, slots: np.ndarray) -> None:
        """See :meth:`Actor.reset`."""
        self._state[slots] = 0.0
        self._history[slots] = 0.0
        self._last_action[slots] = 0.0
        self._fresh += slots.tolist()

    def refresh(self) -> None:
        """See :meth:`Actor.refresh`; some layers are made from several parameters."""
        network, fractions = self._network, None
        if network.samples:
            # Midpoints instead of random fractions: the same greedy action each time.
            fractions = network.risk.distort(quantile_fractions(network.acting_atoms))
        with torch.no_grad():
            self._agents = [_Agent(agent, fractions) for agent in network.agents]
        self._utilities = step_of(
            network.risk,
            RiskMeasure,
            NUMPY,
            network.samples,
            same_as=("forward", "of_all_actions", "of_samples"),
        )

    def _for_agents(
        self, method: Callable[..., np.ndarray], *arrays: np.ndarray
    ) -> np.ndarray:
        """Calls ``method(agent, rows...)`` with ``[E, N, .]`` as rows."""
        num_envs, n = arrays[0].shape[:2]
        if len(self._agents) == 1:
            rows = [array.reshape(num_envs * n, -1) for array in arrays]
            return method(self._agents[0], *rows).reshape(num_envs, n, -1)
        out = [
            method(agent, *[array[:, i] for array in arrays]).reshape(num_envs, -1)
            for i, agent in enumerate(self._agents)
        ]
        return np.stack(out, axis=1)


class WindowActor:
    """Encodes the last ``window`` steps, from a zero memory, before every action.

    A network that learned from windows, with a memory that begins at zero, has never
    seen what that memory becomes in a longer episode. On any device.
    """

    def __init__(
        self, network: TeamNetwork, num_envs: int, window: int, *, padded: bool
    ) -> None:
        """Initializes the actor.

        Args:
            network: The network.
            num_envs: ``E``.
            window: ``W``, steps to act on, the present one included.
            padded: Whether steps with zero observations and action 0 stand before the
                first one of an episode. If not, the window is shorter there.
        """
        n, obs_size = network.sizes.num_agents, network.sizes.obs_size
        self._network = network
        self._device = network.ids.device
        self._window = window
        # A new episode has seen nothing, or as many zeros as a window has.
        self._first_length, self._no_action = (window, 0) if padded else (0, -1)
        self._length = np.zeros(num_envs, np.int64)  # of each environment's window
        # Windows begin at the left; after their end stands what does not matter.
        self._obs = np.zeros((num_envs, window, n, obs_size), np.float32)
        # The actions before each observation, and those before the next one.
        self._before = np.zeros((num_envs, window, n), np.int64)
        self._last = np.zeros((num_envs, n), np.int64)
        self._decision: Decision | None = None
        self.reset(np.arange(num_envs))

    @property
    def atoms(self) -> np.ndarray:
        """See :attr:`Actor.atoms`."""
        return cast("Decision", self._decision).atoms.cpu().numpy()

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
        """See :meth:`Actor.refresh`; every step asks the network itself."""


class _Agent:
    """One step of an :class:`AgentNetwork` in arrays; states are changed in place."""

    def __init__(self, agent: AgentNetwork, fractions: Tensor | None) -> None:
        step = agent.one_step(NUMPY)
        self._encode, self._levels = step.encode, cast("Step", step.levels)
        self._encode_history = cast("Step", step.encode_history)
        self._encoder = agent.encoder
        self._atoms = step_of(agent.head, UtilityHead, NUMPY, fractions)

    def step(self, inputs: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Atoms ``[R, A, M]`` from ``[R, I]`` and ``[R, C]``."""
        state[:] = self._encode(inputs, state)
        encoder = self._encoder
        return self._atoms(encoder.readout(encoder.features_of(state), NUMPY))

    def level_logits(
        self, past: np.ndarray, history: np.ndarray, state: np.ndarray
    ) -> np.ndarray:
        """Logits ``[R, K]`` from ``[R, I]``, ``[R, C]`` and ``[R, C]``."""
        history[:] = self._encode_history(past, history)
        return self._levels(state, history)
