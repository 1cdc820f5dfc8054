"""Traces a team's acting networks into lists of operations, for export.

A traced network has the inputs ``obs``, ``action_mask``, ``last_action`` (-1 at the
start), ``agent`` (its index, if agents read their id), ``memory`` (the hidden state, if
there is one) and ``return_so_far`` (with objective ``static``). Its outputs are
``action`` (the greedy action), ``next_memory``, ``utilities`` and ``risk_level``.

Letters: ``R`` rows, ``W`` steps of a window, ``N`` agents, ``A`` actions, ``D``
observation size, ``I`` input size, ``C`` size of the hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rllib_risk.deploy.graph import Graph
from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.arrays import Step, step_of
from rllib_risk.networks.heads import UtilityHead
from rllib_risk.networks.tracing import Tensors, Traced, Tracer, UntraceableError
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.objectives.static import Static
from rllib_risk.parts.risk.base import SAME_AS_STEP, RiskMeasure
from rllib_risk.parts.team import TeamNetwork


@dataclass(frozen=True)
class TracedTeam:
    """The traced acting networks of a team.

    Attributes:
        networks: One graph for all agents, or one per agent; see
            :class:`.graph.Graph`.
        tensors: Constants of the graphs by name.
        memory: Hidden state of each agent at the start of an episode, float32
            ``[N, C]``.
        first_action: Value of ``last_action`` at the start of an episode.
    """

    networks: list[dict[str, Any]]
    tensors: dict[str, np.ndarray]
    memory: np.ndarray
    first_action: int


@torch.no_grad()
def trace_team(
    network: TeamNetwork, window: int | None = None, *, padded: bool = False
) -> TracedTeam:
    """Traces how a team acts greedily.

    Args:
        network: The team's network, on the CPU.
        window: Number of last steps to act on. None: the whole episode so far.
        padded: Whether zeros fill the window at the start of an episode.

    Returns:
        The traced networks.

    Raises:
        UntraceableError: If the acting step of a custom part uses other operations than
            those of :mod:`rllib_risk.networks.arrays`.
    """
    tensors = Tensors()
    steps = [_AgentStep(network, agent, window) for agent in network.agents]
    traced = []
    for step in steps:
        try:
            traced.append(step.trace(tensors))
        except UntraceableError as error:
            raise UntraceableError(_advice(str(error))) from error
        except (TypeError, AttributeError, ValueError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UntraceableError(_advice(reason)) from error
    memory = np.zeros((network.sizes.num_agents, steps[0].memory_size), np.float32)
    first_action = -1
    if padded and window is not None:
        first_action = 0
        _apply_padding(
            memory, [Graph(t, tensors.arrays) for t in traced], network, window
        )
    return TracedTeam(traced, tensors.arrays, memory, first_action)


def _advice(reason: str) -> str:
    return (
        f"This team cannot be exported: {reason}. The one_step(xp) of a custom part"
        " may use only the operations of xp, arithmetic, slices, reshape, swapaxes,"
        " sum(axis) and mean(axis). See docs/composition.md."
    )


def _apply_padding(
    memory: np.ndarray, graphs: list[Graph], network: TeamNetwork, window: int
) -> None:
    """Runs every agent on the zeros before an episode; changes ``memory`` in place."""
    agents = np.arange(len(memory))
    given = {
        "obs": np.zeros((len(memory), _env_obs_size(network)), np.float32),
        "action_mask": np.ones((len(memory), network.sizes.num_actions), bool),
        "last_action": np.zeros(len(memory), np.int64),
        "agent": agents,
    }
    for _ in range(window - 1):
        given["memory"] = memory.copy()
        for i, graph in enumerate(graphs):
            rows = agents if len(graphs) == 1 else agents[i : i + 1]
            memory[rows] = graph({k: v[rows] for k, v in given.items()})["next_memory"]


def _env_obs_size(network: TeamNetwork) -> int:
    """Size of the environment's observation, without the return so far."""
    return network.sizes.obs_size - isinstance(network.objective, Static)


class _AgentStep:
    """One acting step of an agent network, from its inputs to its outputs.

    With a window there are ``W`` hidden states, the oldest first. A step updates all of
    them and acts on the oldest one. The oldest one is then removed, and a zero one is
    added. So the hidden state that acts has seen the last ``W`` steps, or the whole
    episode if it is shorter.
    """

    def __init__(
        self, network: TeamNetwork, agent: AgentNetwork, window: int | None
    ) -> None:
        self.network, self.agent = network, agent
        level, encoder = network.level, agent.encoder
        state = encoder.state_size if encoder.has_memory else 0
        history = encoder.state_size if level.predicted and encoder.has_memory else 0
        lagged = level.predicted and level.history_lag == 1
        # Sizes of: hidden state, history's hidden state, previous input, and a flag
        # that is 1 after the first step.
        self.parts = [state, history, *([network.input_size, 1] if lagged else [])]
        self.lagged = lagged
        size = sum(self.parts)
        # Without a hidden state, the output depends only on the last step.
        self.window = window if size and window is not None else 1
        self.keeps = window is None
        self.memory_size = size * self.window

    def trace(self, tensors: Tensors) -> dict[str, Any]:
        """Traces the network; see :class:`.graph.Graph`."""
        tracer = Tracer(tensors)
        inputs = self._inputs(tracer)
        mask = tracer.input("action_mask", bool, self.network.sizes.num_actions)
        state, logits, memory = self._encoded(tracer, inputs)
        utilities, levels = self._utilities(tracer, state, logits)
        utilities = tracer.record("where", mask, utilities, np.float32(-np.inf))
        action = tracer.record("argmax", utilities)
        outputs = {
            "action": action,
            "next_memory": memory,
            "utilities": utilities,
            "risk_level": self._level(tracer, action, levels),
        }
        return {
            "inputs": tracer.inputs,
            "nodes": tracer.nodes,
            "outputs": {name: value.name for name, value in outputs.items()},
        }

    def _inputs(self, tracer: Tracer) -> Traced:
        """Builds the encoder's inputs, ``[R, I]``; see :class:`.inputs.AgentInputs`."""
        network = self.network
        sizes, objective = network.sizes, network.objective
        parts = [tracer.input("obs", np.float32, _env_obs_size(network))]
        if isinstance(objective, Static):
            returns = tracer.input("return_so_far", np.float64)
            shown = objective.shown(returns - objective.chosen_threshold())
            parts.append(tracer.record("single", shown)[:, None])
        last_action = tracer.input("last_action", np.int64)
        if network.inputs.shown:
            # Index -1 selects the last row, which is zero: no action.
            one_hot = np.eye(sizes.num_actions + 1, sizes.num_actions, dtype=np.float32)
            parts.append(Traced(tracer, one_hot)[last_action])
        agent = tracer.input("agent", np.int64)
        if network.inputs.agent_ids:
            ids = np.eye(sizes.num_agents, dtype=np.float32)
            parts.append(Traced(tracer, ids)[agent])
        return tracer.record("concat", *parts)

    def _encoded(
        self, tracer: Tracer, inputs: Traced
    ) -> tuple[Traced, Traced | None, Traced]:
        """Encodes one step of all windows.

        Returns:
            The encoder's hidden state ``[R, .]``, level logits or None, and the next
            ``memory``.
        """
        memory = tracer.input("memory", np.float32, self.memory_size)
        size, each = sum(self.parts), self.window
        rows = memory
        if each > 1:
            rows = memory.reshape(-1, size)  # [R W, .]
            copies = inputs[:, None] + np.zeros((each, 1), np.float32)
            inputs = copies.reshape(-1, self.network.input_size)
        state, logits, following = self._step(tracer, inputs, rows)
        if following is None:
            return state, logits, memory
        if self.keeps:
            return state, logits, following
        whole = following.reshape(-1, self.memory_size)
        oldest, rest = whole[:, :size], whole[:, size:]
        following = tracer.record("concat", rest, oldest * 0.0)
        if each > 1:
            state = state.reshape(-1, each, state.shape[-1])[:, 0]
            if logits is not None:
                logits = logits.reshape(-1, each, logits.shape[-1])[:, 0]
        return state, logits, following

    def _step(
        self, tracer: Tracer, inputs: Traced, memory: Traced
    ) -> tuple[Traced, Traced | None, Traced | None]:
        """Encodes one step of rows with one hidden state each.

        Returns:
            The encoder's hidden state, level logits or None, and the next ``memory`` or
            None.
        """
        step = self.agent.one_step(tracer)
        remembers = self.agent.encoder.has_memory
        parts: list[Any] = []
        start = 0
        for size in self.parts:
            parts.append(memory[:, start : start + size] if size else None)
            start += size
        state = step.encode(inputs, parts[0])
        following = [state] if remembers else []
        logits = None
        if step.encode_history is not None:
            past = inputs
            if self.lagged:
                past = tracer.record("where", parts[3] > 0.0, parts[2], inputs)
            history = step.encode_history(past, parts[1])
            logits = cast("Step", step.levels)(state, history)
            following += [history] if remembers else []
            if self.lagged:
                following += [inputs, parts[3] * 0.0 + 1.0]
        if not following:
            return state, logits, None
        return state, logits, tracer.record("concat", *following)

    def _utilities(
        self, tracer: Tracer, state: Traced, logits: Traced | None
    ) -> tuple[Traced, Traced | None]:
        """Computes utilities ``[R, A]`` and risk level indices ``[R]`` or None."""
        network, agent, fractions = self.network, self.agent, None
        if network.samples:
            midpoints = quantile_fractions(network.acting_atoms)
            fractions = network.risk.distort(midpoints)
        atoms = step_of(agent.head, UtilityHead, tracer, cast("Tensor", fractions))
        utilities = step_of(
            network.risk,
            RiskMeasure,
            tracer,
            network.samples,
            same_as=SAME_AS_STEP,
        )
        encoder = agent.encoder
        features = encoder.readout(encoder.features_of(state), tracer)
        levels = None if logits is None else tracer.record("argmax", logits)
        return utilities(atoms(features), logits, levels), levels

    def _level(self, tracer: Tracer, action: Traced, levels: Traced | None) -> Traced:
        """The risk level of every row, ``[R]``."""
        known = np.array(self.network.risk.levels, np.float32)
        if levels is None:
            return tracer.record("fill", action, value=float(known[0]))
        return Traced(tracer, known)[levels]
