"""A team's agents, which encode inputs to features in parallel over time.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``I`` input size, ``H`` number of
features, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.level_predictor import RiskLevelPredictor
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.agent_parts import make_encoder, make_head
from rllib_risk.parts.base import Choice
from rllib_risk.parts.draws import rand_steps
from rllib_risk.parts.inputs import AgentInputs, TeamOptions
from rllib_risk.parts.risk.levels import RiskLevel
from rllib_risk.parts.unroll import Unroll


@dataclass(frozen=True)
class NetworkOptions(TeamOptions):
    """Keys of value-based teams that belong to no part."""

    num_atoms: int = option(
        1,
        "Number M of return atoms per action; 1: a plain action value.",
        low=1,
        high=MAX_WIDTH,
        fixed=True,
    )
    sort_atoms: bool = option(
        False,
        "Whether to sort each agent's atoms before loss quantile mixes them. Unsorted"
        " atoms can cross, and then the agents' greedy actions may not be the team's"
        " best joint action.",
    )


class TeamAgents(nn.Module):
    """The agents' networks, with or without parameter sharing.

    Attributes:
        sizes: Sizes of the team and its observations.
        options: The keys that belong to no part.
        inputs: Builds the agents' inputs for episodes; see
            :meth:`~rllib_risk.parts.inputs.AgentInputs.forward`.
        level: Source of the risk measure's level.
        agents: One shared network, or one network per agent.
    """

    def __init__(
        self, sizes: TeamSizes, options: NetworkOptions, chosen: Mapping[str, Choice]
    ) -> None:
        """Initializes the agents.

        Args:
            sizes: Sizes of the team and its observations.
            options: The keys that belong to no part.
            chosen: The parts, by the key of their slot.
        """
        super().__init__()
        self.sizes = sizes
        self.options = options
        self.inputs = AgentInputs(sizes, options)
        self.level: RiskLevel = chosen["risk_mode"].make()
        copies = 1 if options.parameter_sharing else sizes.num_agents
        # A ModuleList; the cast gives the type of its elements.
        self.agents = cast(
            "Sequence[AgentNetwork]",
            nn.ModuleList(self._make_agent(chosen) for _ in range(copies)),
        )

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
    def input_size(self) -> int:
        """Input size of an agent, ``I``."""
        return self.inputs.size

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.inputs.ids.device

    @property
    def num_atoms(self) -> int:
        """Number of atoms, ``M``."""
        return self.options.num_atoms

    @property
    def samples(self) -> bool:
        """Whether atoms are quantiles at sampled fractions."""
        return self.agents[0].head.samples

    @property
    def acting_atoms(self) -> int:
        """Number of atoms in acting: ``M``, or the sampling head's own number."""
        return self.agents[0].head.acting_atoms

    @property
    def remembers(self) -> bool:
        """Whether features or risk levels depend on earlier steps."""
        return self.agents[0].encoder.has_memory or self.level.predicted

    def unroll(
        self, inputs: Tensor, generator: torch.Generator | None = None
    ) -> Unroll:
        """Runs the encoders over whole episodes, from a zero hidden state.

        Args:
            inputs: Inputs of the agents, ``[B, T, N, I]``.
            generator: CPU generator of the fractions of sampled quantiles. None: use
                the midpoints, as in acting.

        Returns:
            The encoded episodes.
        """
        features, logits = self.encode(inputs)
        fractions = None
        if self.samples:
            fractions = self._midpoints(features)
            if generator is not None:
                drawn = rand_steps(fractions.shape, generator)
                if self.agents[0].head.shares_fractions:
                    drawn = drawn.sort(dim=-1).values
                fractions = drawn.to(features)
        joint = self.encode_jointly(inputs, features)
        return Unroll(features, logits, fractions, joint, self.mixed_obs(inputs))

    def encode_jointly(self, inputs: Tensor, features: Tensor) -> Tensor | None:
        """Returns :attr:`Unroll.joint`; None here, because there is no joint critic."""
        return None

    def mixed_obs(self, inputs: Tensor) -> Tensor | None:
        """Returns :attr:`Unroll.obs`; None here, because there is no mixer."""
        return None

    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the encoders over whole episodes, from a zero hidden state.

        Args:
            inputs: Inputs of the agents, ``[B, T, N, I]``.

        Returns:
            Features ``[B, T, N, H]``, and level logits ``[B, T, N, K]`` or None if no
            level is predicted.
        """
        if not self.level.predicted:

            def encode(agent: AgentNetwork, rows: Tensor) -> tuple[Tensor]:
                return (agent.encoder(rows, None)[0],)

            return self._per_agent(encode, inputs)[0], None

        # The history encoder reads the previous input, and the first input twice.
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

    def _midpoints(self, features: Tensor) -> Tensor:
        """Evenly spread fractions ``[B, T, N, M]``, or ``[B, T, 1, M]`` if shared."""
        b, t, n, _ = features.shape
        groups = 1 if self.agents[0].head.shares_fractions else n
        m = self.num_atoms
        return quantile_fractions(m).to(features).expand(b, t, groups, m)

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
            # A linear layer is slower on a slice that is not contiguous.
            function(agent, *(t[:, :, i].contiguous() for t in tensors))
            for i, agent in enumerate(self.agents)
        ]
        return tuple(torch.stack(out, dim=2) for out in zip(*per_agent, strict=True))
