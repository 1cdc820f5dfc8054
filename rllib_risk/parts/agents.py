"""A team's agents: from their inputs to features, parallel over time.

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
from rllib_risk.config.schema import MOST_WIDTH
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
    """Agents that share a network (or do not), up to the features of their inputs.

    Attributes:
        sizes: What the environment fixes.
        options: The keys that belong to no part.
        inputs: Makes the agents' inputs over episodes; see
            :meth:`~rllib_risk.parts.inputs.AgentInputs.forward`.
        level: Where the risk measure's level comes from.
        agents: One network, or one for each agent.
    """

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
        self.inputs = AgentInputs(sizes, options)
        self.level: RiskLevel = chosen["risk_mode"].make()
        copies = 1 if options.parameter_sharing else sizes.num_agents
        # A ModuleList; the type says what is in it.
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
        """``I``."""
        return self.inputs.size

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.inputs.ids.device

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

    @property
    def remembers(self) -> bool:
        """Whether features or risk levels depend on earlier steps."""
        return self.agents[0].encoder.has_memory or self.level.predicted

    def unroll(
        self, inputs: Tensor, generator: torch.Generator | None = None
    ) -> Unroll:
        """Runs the encoders over whole episodes, from a zero state.

        Args:
            inputs: ``[B, T, N, I]``.
            generator: Source of the fractions of sampled quantiles, on the CPU; without
                one they are the midpoints that acting uses.

        Returns:
            What all values of every step are computed from.
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
        """What a joint critic reads, :attr:`Unroll.joint`; agents alone have none."""
        return None

    def mixed_obs(self, inputs: Tensor) -> Tensor | None:
        """What a mixer reads of the observations; agents alone have no mixer."""
        return None

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
            # A linear layer over a slice with gaps takes a slower way.
            function(agent, *(t[:, :, i].contiguous() for t in tensors))
            for i, agent in enumerate(self.agents)
        ]
        return tuple(torch.stack(out, dim=2) for out in zip(*per_agent, strict=True))
