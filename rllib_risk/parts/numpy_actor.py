"""An actor that uses NumPy for everything except the linear layers.

Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size, ``R``
rows (environments times agents), ``I`` input size, ``C`` size of the hidden state,
``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.arrays import NUMPY, Step, defines_step, step_of
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.heads import UtilityHead
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.risk.base import SAME_AS_STEP, RiskMeasure
from rllib_risk.parts.team import TeamNetwork


class NumpyActor:
    """Acts like :class:`.acting.TorchActor`, but with NumPy except in linear layers.

    An acting step is about fifty operations on a few rows, and most calls into PyTorch
    cost several times the arithmetic. This actor needs 0.4 of ``TorchActor``'s time
    with one environment, and 0.65 with 32 environments. The linear layers share the
    memory of the network's parameters.

    Attributes:
        atoms: Unsorted atoms of all actions in the last step, float32 ``[E, N, A, M]``.
    """

    def __init__(self, network: TeamNetwork, num_envs: int) -> None:
        """Initializes the actor.

        Args:
            network: A network on the CPU.
            num_envs: ``E``.
        """
        sizes, shown = network.sizes, network.inputs.shown
        n, obs_size = sizes.num_agents, sizes.obs_size
        ids_from = obs_size + shown
        self._inputs = np.zeros((num_envs, n, network.input_size), np.float32)
        if network.inputs.agent_ids:
            self._inputs[:, :, ids_from:] = np.eye(n)
        # Views: observations [E, N, D], and last actions [E, N, A], or [E, N, 0] if
        # inputs do not contain them.
        self._obs = self._inputs[:, :, :obs_size]
        self._last_action = self._inputs[:, :, obs_size:ids_from]
        self._one_hot = np.eye(sizes.num_actions, shown, dtype=np.float32)
        # The history encoder reads the previous input, and the first input twice.
        self._lagged = network.level.history_lag == 1
        self._past = self._inputs.copy() if self._lagged else self._inputs
        self._fresh = list(range(num_envs))
        state_size = network.agents[0].encoder.state_size
        self._state, self._history = np.zeros((2, num_envs, n, state_size), np.float32)
        self._network = network
        self.refresh()
        self._shape = (num_envs, n, -1)
        self._predicts = network.level.predicted
        self._atoms_shape = (num_envs, n, sizes.num_actions, network.acting_atoms)
        self.atoms = np.zeros(self._atoms_shape, np.float32)

    @property
    def memory(self) -> np.ndarray:
        """See :attr:`Actor.memory`."""
        return kept_memory(self._network, self._state, self._history)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :meth:`Actor.act`."""
        self._obs[:] = obs
        if self._fresh:
            if self._lagged:
                self._past[self._fresh] = self._inputs[self._fresh]
            self._fresh = []
        atoms = self._joined([a.step() for a in self._agents], self._atoms_shape)
        self.atoms = atoms
        logits = levels = None
        if self._predicts:
            logits = self._joined([a.level_logits() for a in self._agents], self._shape)
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
        """See :meth:`Actor.refresh`. Some layers are products of several parameters."""
        network, fractions = self._network, None
        if network.samples:
            # Midpoints instead of random fractions make greedy actions deterministic.
            fractions = network.risk.distort(quantile_fractions(network.acting_atoms))
        with torch.no_grad():
            self._agents = [
                _Agent(agent, fractions, *rows)
                for agent, rows in zip(network.agents, self._rows(), strict=True)
            ]
        self._utilities = step_of(
            network.risk,
            RiskMeasure,
            NUMPY,
            network.samples,
            same_as=SAME_AS_STEP,
        )

    def _rows(self) -> list[tuple[np.ndarray, ...]]:
        """Views ``[R, .]`` of the arrays that each agent network reads and writes."""
        arrays = self._inputs, self._state, self._past, self._history
        if len(self._network.agents) == 1:
            return [tuple(array.reshape(-1, array.shape[-1]) for array in arrays)]
        each = range(self._inputs.shape[1])
        return [tuple(array[:, agent] for array in arrays) for agent in each]

    def _joined(self, parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Joins the agent networks' results, ``[R, ...]`` each, to ``[E, N, ...]``."""
        joined = parts[0] if len(parts) == 1 else np.stack(parts, axis=1)
        return joined.reshape(shape)


def remarks(config: Any) -> Iterator[str]:
    """Yields a warning for each custom part whose acting step NumPy cannot compute.

    Args:
        config: A configuration with all keys as attributes.

    Yields:
        One line per part.
    """
    chosen = config.composition.chosen(config)
    slow = {
        key: not defines_step(chosen[key], base)
        for key, base in (("encoder", Encoder), ("quantiles", UtilityHead))
        if key in chosen
    }
    if "risk_measure" in chosen:
        measure = chosen["risk_measure"]
        # The measure of sampled quantiles is their mean, unless it says otherwise.
        mean = measure.of_samples is RiskMeasure.of_samples
        own = defines_step(measure, RiskMeasure, SAME_AS_STEP)
        slow["risk_measure"] = not own and not (chosen["quantiles"].samples and mean)
    for key in (key for key, is_slow in slow.items() if is_slow):
        name = getattr(config, key)
        # An actor with a window computes all parts with PyTorch.
        if ":" in name and getattr(config, "acting_window", None) is None:
            yield (
                f"{key}: acting on the CPU is slower with {name!r}, because PyTorch and"
                " not NumPy computes its steps; define one_step(xp), see 'Acting' in"
                " docs/composition.md."
            )


def kept_memory(
    network: TeamNetwork, state: np.ndarray, *more: np.ndarray
) -> np.ndarray:
    """Copies the hidden states that later actions depend on.

    Args:
        network: The network.
        state: Hidden state of the encoder, ``[E, N, C]``.
        *more: Hidden state of the history encoder, ``[E, N, C]``, if there is one.

    Returns:
        A copy, ``[E, N, .]``. It omits the state of a feed-forward encoder.
    """
    kept = [state] if network.agents[0].encoder.has_memory else [state[..., :0]]
    if network.level.predicted:
        kept += more
    return np.concatenate(kept, axis=-1)


class _Agent:
    """The acting step of an :class:`AgentNetwork`; changes hidden states in place."""

    def __init__(
        self,
        agent: AgentNetwork,
        fractions: Tensor | None,
        inputs: np.ndarray,
        state: np.ndarray,
        past: np.ndarray,
        history: np.ndarray,
    ) -> None:
        """Initializes the step.

        Args:
            agent: The network.
            fractions: See :meth:`UtilityHead.one_step`.
            inputs: Inputs of the network, ``[R, I]``.
            state: Hidden state of the encoder, ``[R, C]``.
            past: Inputs of the history encoder, ``[R, I]``.
            history: Hidden state of the history encoder, ``[R, C]``.
        """
        self._inputs, self._state = inputs, state
        self._past, self._history = past, history
        step = agent.one_step(NUMPY)
        self._encode, self._levels = step.encode, cast("Step", step.levels)
        self._encode_history = cast("Step", step.encode_history)
        self._encoder = agent.encoder
        self._atoms = step_of(agent.head, UtilityHead, NUMPY, fractions)

    def step(self) -> np.ndarray:
        """Advances the hidden state and returns atoms ``[R, A, M]``."""
        state, encoder = self._state, self._encoder
        state[:] = self._encode(self._inputs, state)
        return self._atoms(encoder.readout(encoder.features_of(state), NUMPY))

    def level_logits(self) -> np.ndarray:
        """Returns level logits ``[R, K]``; call it after :meth:`step`."""
        history = self._history
        history[:] = self._encode_history(self._past, history)
        return self._levels(self._state, history)
