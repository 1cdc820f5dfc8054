"""A team's agents: their inputs, encoders and heads, over episodes and step by step.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``D`` observation size, ``I`` input size, ``H`` number of features, ``M`` atoms, ``K``
risk levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.config.options import option
from rllib_risk.config.schema import MOST_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.encoders import Encoder
from rllib_risk.networks.level_predictor import RiskLevelPredictor
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.agent_parts import make_encoder, make_head
from rllib_risk.parts.base import Choice
from rllib_risk.parts.risk.levels import RiskLevel
from rllib_risk.parts.unroll import Unroll


@dataclass(frozen=True)
class TeamOptions:
    """Keys of every team's acting network that belong to no part."""

    parameter_sharing: bool = option(True, "One network for all agents.", fixed=True)
    obs_last_action: bool = option(
        True, "Agents read their own last action.", fixed=True
    )
    agent_ids: bool = option(True, "Agents read their own id.", fixed=True)


@dataclass(frozen=True)
class NetworkOptions(TeamOptions):
    """The same, where utilities come from return atoms."""

    num_atoms: int = option(
        1,
        "Return atoms M per action; 1 is a plain action value.",
        low=1,
        high=MOST_WIDTH,
        fixed=True,
    )
    sort_atoms: bool = option(
        False,
        "Sort each agent's atoms before loss quantile mixes them. Without it, atoms"
        " that cross can make the agents' own best actions differ from the team's.",
    )


class TeamAgents(nn.Module):
    """Agents that share a network (or do not), up to the atoms of their actions.

    The agent's input is its observation, its last action (one-hot, zeros at the start)
    and its own id (one-hot), as in PyMARL; the last two are derived here, never stored.
    ``obs_last_action: false`` and ``agent_ids: false`` leave them out; without ids,
    agents that share a network act alike wherever they have seen and done the same.

    Attributes:
        sizes: What the environment fixes.
        options: The keys that belong to no part.
        input_size: ``I``.
        level: Where the risk measure's level comes from.
        agents: One network, or one for each agent.
    """

    ids: Tensor

    def __init__(
        self, sizes: TeamSizes, options: NetworkOptions, chosen: Mapping[str, Choice]
    ) -> None:
        """Initializes the agents.

        Args:
            sizes: What the environment fixes.
            options: The keys that belong to no part.
            chosen: The parts, by the key of their slot.
        """
        super().__init__()
        self.sizes = sizes
        self.options = options
        self.input_size = sizes.obs_size
        self.input_size += sizes.num_actions if options.obs_last_action else 0
        self.input_size += sizes.num_agents if options.agent_ids else 0
        self.level: RiskLevel = chosen["risk_mode"].make()
        copies = 1 if options.parameter_sharing else sizes.num_agents
        # A ModuleList; the type says what is in it.
        self.agents = cast(
            "Sequence[AgentNetwork]",
            nn.ModuleList(self._make_agent(chosen) for _ in range(copies)),
        )
        self.register_buffer("ids", torch.eye(sizes.num_agents), persistent=False)

    def _make_agent(self, chosen: Mapping[str, Choice]) -> AgentNetwork:
        sizes, predictor = self.sizes, None
        if self.level.predicted:
            predictor = self.level.make_predictor(
                self._new_encoder(chosen),
                sizes.num_actions * self.num_atoms,
                sizes.num_agents,
            )
        encoder = self._new_encoder(chosen)
        size = encoder.feature_size
        head = make_head(chosen["quantiles"], size, sizes.num_actions, self.num_atoms)
        return AgentNetwork(encoder, head, predictor)

    def _new_encoder(self, chosen: Mapping[str, Choice]) -> Encoder:
        return make_encoder(chosen["encoder"], self.sizes, self.input_size)

    @property
    def num_atoms(self) -> int:
        """``M``."""
        return self.options.num_atoms

    @property
    def samples(self) -> bool:
        """Whether atoms are quantiles at fractions that are drawn."""
        return self.agents[0].head.samples

    @property
    def acting_atoms(self) -> int:
        """How many atoms acting looks at: ``M``, or a sampling head's own number."""
        return self.agents[0].head.acting_atoms

    def _per_agent(
        self, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Calls ``function(agent network, rows...)`` with ``[B, T, N, .]`` as rows."""
        if len(self.agents) == 1:
            size = (tensors[0].shape[0], self.sizes.num_agents)
            rows = [t.transpose(1, 2).flatten(0, 1) for t in tensors]
            out = function(self.agents[0], *rows)
            return tuple(o.unflatten(0, size).transpose(1, 2) for o in out)
        per_agent = [
            # A linear layer over a slice with gaps takes a slower way.
            function(agent, *(t[:, :, i].contiguous() for t in tensors))
            for i, agent in enumerate(self.agents)
        ]
        return tuple(torch.stack(out, dim=2) for out in zip(*per_agent, strict=True))

    def inputs(
        self, obs: Tensor, actions: Tensor, previous: Tensor | None = None
    ) -> Tensor:
        """The agents' inputs over episodes.

        Args:
            obs: ``[B, T, N, D]``.
            actions: The actions between the observations, int64 ``[B, T - 1, N]``.
            previous: Those before the first observation, int64 ``[B, N]``, -1 where
                there was none; not given: nowhere was one.

        Returns:
            ``[B, T, N, I]``.
        """
        b, t, n, obs_size = obs.shape
        # In the order of memory in which the encoders go through them, so that
        # `_per_agent` has nothing to copy.
        if len(self.agents) == 1:
            inputs = obs.new_zeros(b, n, t, self.input_size).transpose(1, 2)
        else:
            inputs = obs.new_zeros(n, b, t, self.input_size).permute(1, 2, 0, 3)
        inputs[..., :obs_size] = obs
        if self.options.obs_last_action:
            if previous is None:
                previous = torch.full_like(actions[:, 0], -1)
            last = torch.cat([previous.unsqueeze(1), actions], dim=1).unsqueeze(-1)
            # PyTorch's one_hot makes 64-bit integers, most of the time of all this.
            one_hot = inputs[..., obs_size : obs_size + self.sizes.num_actions]
            one_hot.scatter_(-1, last.clamp(min=0), (last >= 0).to(obs.dtype))
        if self.options.agent_ids:
            inputs[..., -n:] = self.ids
        return inputs

    def _join_inputs(self, obs: Tensor, last_action: Tensor | None) -> Tensor:
        """``[..., N, I]`` from observations and one-hot actions ``[..., N, .]``."""
        parts = [obs]
        if last_action is not None:
            parts.append(last_action)
        if self.options.agent_ids:
            parts.append(self.ids.expand(*obs.shape[:-2], -1, -1))
        return torch.cat(parts, dim=-1)

    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the encoders over whole episodes, from a zero state.

        Args:
            inputs: ``[B, T, N, I]``.

        Returns:
            Features ``[B, T, N, H]`` and, where a level is predicted, level logits
            ``[B, T, N, K]``.
        """
        if not self.level.predicted:

            def encode(agent: AgentNetwork, rows: Tensor) -> tuple[Tensor]:
                return (agent.encoder(rows, None)[0],)

            return self._per_agent(encode, inputs)[0], None

        # The history branch reads the input of the step before, and the first twice.
        past = inputs
        if self.level.history_lag:
            past = torch.cat([inputs[:, :1], inputs[:, :-1]], dim=1)
        trains = self.level.straight_through

        def encode_both(
            agent: AgentNetwork, rows: Tensor, past_rows: Tensor
        ) -> tuple[Tensor, Tensor]:
            predictor = cast("RiskLevelPredictor", agent.predictor)
            features = agent.encoder(rows, None)[0]
            with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
                history = predictor.history(past_rows, None)[0]
                logits = agent.level_logits(features, history)
            return features, logits

        features, logits = self._per_agent(encode_both, inputs, past)
        return features, logits

    def atoms(self, unroll: Unroll) -> Tensor:
        """Return atoms of all actions, ``[B, T, N, A, M]``."""
        if unroll.all_atoms is not None:
            return unroll.all_atoms
        atoms = self._atoms(unroll, unroll.fractions)
        if torch.is_grad_enabled() or not unroll.features.requires_grad:
            unroll.all_atoms = atoms
        return atoms

    def atoms_of(self, unroll: Unroll, actions: Tensor) -> Tensor:
        """Return atoms of one action per agent.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.

        Returns:
            ``[B, T, N, M]``.
        """
        if unroll.all_atoms is not None:
            index = actions[..., None, None].expand(*actions.shape, 1, self.num_atoms)
            return unroll.all_atoms.gather(-2, index).squeeze(-2)
        return self._atoms_of(unroll, actions, unroll.fractions)

    def _atoms(self, unroll: Unroll, fractions: Tensor | None) -> Tensor:
        given = self._given(fractions)
        if len(self.agents) == 1:
            return self.agents[0].atoms(unroll.features, *given)
        return self._per_agent(
            lambda agent, *rows: (agent.atoms(*rows),), unroll.features, *given
        )[0]

    def _atoms_of(
        self, unroll: Unroll, actions: Tensor, fractions: Tensor | None
    ) -> Tensor:
        given = self._given(fractions)
        if len(self.agents) == 1:
            return self.agents[0].atoms_of(unroll.features, actions, *given)
        return self._per_agent(
            lambda agent, *rows: (agent.atoms_of(*rows),),
            unroll.features,
            actions,
            *given,
        )[0]

    def _given(self, fractions: Tensor | None) -> tuple[Tensor, ...]:
        """The fractions as the agents' networks take them."""
        if fractions is None:
            return ()
        if len(self.agents) == 1:
            return (fractions,)
        return (fractions.expand(-1, -1, self.sizes.num_agents, -1),)

    def _midpoints(self, features: Tensor) -> Tensor:
        """Evenly spread fractions ``[B, T, N, M]``, or ``[B, T, 1, M]`` if shared."""
        b, t, n, _ = features.shape
        groups = 1 if self.agents[0].head.shares_fractions else n
        m = self.num_atoms
        return quantile_fractions(m).to(features).expand(b, t, groups, m)

    def _acting_fractions(self, features: Tensor) -> Tensor:
        """Evenly spread fractions for acting, ``[E, 1, N, .]``."""
        m = self.acting_atoms
        return quantile_fractions(m).to(features).expand(*features.shape[:3], m)

    # Acting: one step at a time, with everything that lasts in one list of tensors.

    def initial_carry(self, num_envs: int) -> list[Tensor]:
        """What lasts between steps, at the start of an episode: all zeros.

        The last action (one-hot) and the encoder's state; with a predicted level also
        the history encoder's state, the input of the step before, and a flag that is 0
        at the first step. States have :attr:`Encoder.state_size` numbers.

        Args:
            num_envs: ``E``.

        Returns:
            Tensors ``[E, ...]``; to begin a new episode, zero an environment's rows.
        """
        n, state_size = self.sizes.num_agents, self.agents[0].encoder.state_size
        shapes: list[tuple[int, ...]] = [(n, self.sizes.num_actions), (n, state_size)]
        if self.level.predicted:
            shapes += [(n, state_size), (n, self.input_size), (1, 1)]
        device = self.ids.device
        return [torch.zeros(num_envs, *shape, device=device) for shape in shapes]

    def advance(self, obs: Tensor, carry: list[Tensor]) -> tuple[Unroll, list[Tensor]]:
        """Encodes one step of acting.

        Args:
            obs: ``[E, N, D]``.
            carry: From :meth:`initial_carry` or the step before.

        Returns:
            The step, as ``T = 1`` steps of ``E`` episodes, and the next carry. The
            caller writes the actions it took into the carry with :meth:`remember`.
        """
        last_action, memory = carry[:2]
        shown = last_action if self.options.obs_last_action else None
        inputs = self._join_inputs(obs, shown)
        logits = None
        if self.level.predicted:
            history, previous, started = carry[2:]
            past = inputs
            if self.level.history_lag:
                past = torch.where(started > 0, previous, inputs)
            memory, history, logits = self._step_agents(inputs, memory, past, history)
            carry = [last_action, memory, history, inputs, torch.ones_like(started)]
        else:
            (memory,) = self._step_agents(inputs, memory)
            carry = [last_action, memory]
        features = self.agents[0].encoder.features_of(memory).unsqueeze(1)
        step = None if logits is None else logits.unsqueeze(1)
        return Unroll(features, step), carry

    def _step_agents(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Calls :meth:`AgentNetwork.step` with ``[E, N, .]`` as rows."""
        if len(self.agents) == 1:
            shape = tensors[0].shape[:2]
            out = self.agents[0].step(*[t.flatten(0, 1) for t in tensors])
            return tuple([o.view(*shape, -1) for o in out])
        per_agent = [
            agent.step(*[t[:, i] for t in tensors])
            for i, agent in enumerate(self.agents)
        ]
        return tuple([torch.stack(o, dim=1) for o in zip(*per_agent, strict=True)])

    def remember(self, carry: list[Tensor], actions: Tensor) -> None:
        """Writes the actions taken into the carry.

        Args:
            carry: From :meth:`step`; changed in place.
            actions: int64 ``[E, N]``.
        """
        carry[0] = F.one_hot(actions, self.sizes.num_actions).to(carry[0].dtype)
