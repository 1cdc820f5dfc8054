"""The whole team as one network: agents, risk measure and mixer.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``D`` observation size, ``S`` state size, ``I`` input size, ``H`` hidden size, ``M``
atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.models.agent import AgentNetwork, RiskLevelPredictor
from rllib_risk.models.mixers import make_mixer
from rllib_risk.models.risk import CVaR, Mean
from rllib_risk.ops.targets import mask_utilities


@dataclass(frozen=True)
class TeamSizes:
    """What the environment fixes.

    Attributes:
        num_agents: ``N``.
        num_actions: ``A``, after padding.
        obs_size: ``D``, after padding.
        state_size: ``S``; 0 if there is no state.
    """

    num_agents: int
    num_actions: int
    obs_size: int
    state_size: int


@dataclass(frozen=True)
class TeamNetworkConfig:
    """What the configuration fixes; every name is that of its configuration key."""

    hidden_size: int = 64
    recurrent: bool = True
    parameter_sharing: bool = True
    num_atoms: int = 1
    risk_mode: str = "mean"
    alpha: float = 1.0
    risk_levels: int = 10
    cvar_norm: str = "count"
    cvar_mode: str = "ceil"
    risk_grad: str = "straight_through"
    risk_embed_dim: int | None = None
    risk_logit_scale: float | None = None
    risk_tie_femb: bool = False
    risk_history_lag: int = 1
    risk_history_trains: bool = True
    mixer: str = "none"
    mixing_embed_dim: int = 32
    hypernet_embed_dim: int = 64


@dataclass
class Unroll:
    """Whole episodes through the agents' encoders.

    Attributes:
        features: ``[B, T, N, H]``.
        level_logits: ``[B, T, N, K]``, or None where no level is predicted.
    """

    features: Tensor
    level_logits: Tensor | None

    def at(self, steps: slice) -> Unroll:
        """The same for some of the steps."""
        logits = None if self.level_logits is None else self.level_logits[:, steps]
        return Unroll(self.features[:, steps], logits)


@dataclass
class Decision:
    """What the network says about one step of acting.

    Attributes:
        utilities: Risk-adjusted utilities, ``[E, N, A]``.
        level_index: Index into the risk measure's levels, ``[E, N]``, or None.
        atoms: Return atoms, ``[E, N, A, M]``.
    """

    utilities: Tensor
    level_index: Tensor | None
    atoms: Tensor


class TeamNetwork(nn.Module):
    """Agents that share a network (or do not), a risk measure and a mixer.

    The agent's input is its observation, its last action (one-hot, zeros at the start)
    and its own id (one-hot), as in PyMARL; the last two are derived here, never stored.

    Attributes:
        sizes: What the environment fixes.
        risk: The risk measure.
        mixer: The mixer.
    """

    def __init__(self, sizes: TeamSizes, config: TeamNetworkConfig) -> None:
        """Initializes the network.

        Args:
            sizes: What the environment fixes.
            config: What the configuration fixes.
        """
        super().__init__()
        self.sizes = sizes
        self.config = config
        self.input_size = sizes.obs_size + sizes.num_actions + sizes.num_agents
        copies = 1 if config.parameter_sharing else sizes.num_agents
        # A ModuleList; the type says what is in it.
        self.agents = cast(
            "Sequence[AgentNetwork]",
            nn.ModuleList(self._make_agent() for _ in range(copies)),
        )
        self.risk = self._make_risk()
        self.mixer = make_mixer(
            config.mixer,
            sizes.num_agents,
            sizes.state_size,
            config.mixing_embed_dim,
            config.hypernet_embed_dim,
        )
        self.register_buffer("ids", torch.eye(sizes.num_agents), persistent=False)

    ids: Tensor

    def _make_agent(self) -> AgentNetwork:
        c, sizes = self.config, self.sizes
        predictor = None
        if c.risk_mode == "dynamic":
            predictor = RiskLevelPredictor(
                self.input_size,
                c.hidden_size,
                c.recurrent,
                sizes.num_actions * c.num_atoms,
                c.risk_levels,
                c.risk_embed_dim or sizes.num_agents,
                scale=c.risk_logit_scale or c.hidden_size**-0.5,
                tie_embeddings=c.risk_tie_femb,
                history_trains=c.risk_history_trains,
            )
        return AgentNetwork(
            self.input_size,
            sizes.num_actions,
            c.num_atoms,
            c.hidden_size,
            c.recurrent,
            predictor,
        )

    def _make_risk(self) -> Mean:
        c = self.config
        if c.risk_mode == "mean":
            return Mean()
        if c.risk_mode == "static":
            levels = [Fraction(str(c.alpha))]
        elif c.risk_mode == "dynamic":
            levels = [Fraction(k, c.risk_levels) for k in range(1, c.risk_levels + 1)]
        else:
            raise ValueError(f"Unknown risk_mode {c.risk_mode!r}.")
        return CVaR(
            levels,
            c.num_atoms,
            norm=c.cvar_norm,
            mode=c.cvar_mode,
            straight_through=c.risk_grad == "straight_through",
        )

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
            function(agent, *(t[:, :, i] for t in tensors))
            for i, agent in enumerate(self.agents)
        ]
        return tuple(torch.stack(out, dim=2) for out in zip(*per_agent, strict=True))

    def inputs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """The agents' inputs over whole episodes.

        Args:
            obs: ``[B, T, N, D]``.
            actions: The actions between the observations, int64 ``[B, T - 1, N]``.

        Returns:
            ``[B, T, N, I]``.
        """
        last = F.one_hot(actions, self.sizes.num_actions).to(obs.dtype)
        last = torch.cat([torch.zeros_like(last[:, :1]), last], dim=1)
        ids = self.ids.expand(*obs.shape[:2], -1, -1)
        return torch.cat([obs, last, ids], dim=-1)

    def unroll(self, inputs: Tensor) -> Unroll:
        """Runs the encoders over whole episodes, from a zero state.

        Args:
            inputs: ``[B, T, N, I]``.

        Returns:
            Features and level logits of every step.
        """
        if self.config.risk_mode != "dynamic":

            def encode(agent: AgentNetwork, rows: Tensor) -> tuple[Tensor]:
                return (agent.encoder(rows, None)[0],)

            return Unroll(self._per_agent(encode, inputs)[0], None)

        # The history branch reads the input of the step before, and the first twice.
        past = inputs
        if self.config.risk_history_lag:
            past = torch.cat([inputs[:, :1], inputs[:, :-1]], dim=1)
        trains = self.config.risk_grad == "straight_through"

        def encode_both(
            agent: AgentNetwork, rows: Tensor, past_rows: Tensor
        ) -> tuple[Tensor, Tensor]:
            predictor = cast("RiskLevelPredictor", agent.predictor)
            features = agent.encoder(rows, None)[0]
            with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
                history = predictor.history(past_rows, None)[0]
                logits = predictor(features, history, agent.head)
            return features, logits

        return Unroll(*self._per_agent(encode_both, inputs, past))

    def atoms(self, features: Tensor) -> Tensor:
        """Return atoms of all actions: ``[B, T, N, H]`` to ``[B, T, N, A, M]``."""
        if len(self.agents) == 1:
            return self.agents[0].atoms(features)
        return self._per_agent(lambda agent, rows: (agent.atoms(rows),), features)[0]

    def atoms_of(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return atoms of one action per agent.

        Args:
            features: ``[B, T, N, H]``.
            actions: int64 ``[B, T, N]``.

        Returns:
            ``[B, T, N, M]``.
        """
        if len(self.agents) == 1:
            return self.agents[0].atoms_of(features, actions)
        return self._per_agent(
            lambda agent, rows, acts: (agent.atoms_of(rows, acts),), features, actions
        )[0]

    def utilities_of(self, unroll: Unroll, actions: Tensor) -> Tensor:
        """Risk-adjusted utilities of one action per agent, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.

        Returns:
            ``[B, T, N]``.
        """
        return self.risk(self.atoms_of(unroll.features, actions), unroll.level_logits)

    @torch.no_grad()
    def greedy_actions(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """The available action of highest utility, per agent and step.

        Args:
            unroll: Encoded episodes.
            action_mask: ``[B, T, N, A]``.

        Returns:
            int64 ``[B, T, N]``.
        """
        atoms = self.atoms(unroll.features.detach())
        utilities = self.risk.of_all_actions(atoms, unroll.level_logits)
        return mask_utilities(utilities, action_mask).argmax(dim=-1)

    # Acting: one step at a time, with everything that lasts in one list of tensors.

    def initial_carry(self, num_envs: int) -> list[Tensor]:
        """What lasts between steps, at the start of an episode: all zeros.

        The last action (one-hot) and the encoder's state; with a predicted level also
        the history encoder's state, the input of the step before, and a flag that is 0
        at the first step.

        Args:
            num_envs: ``E``.

        Returns:
            Tensors ``[E, ...]``; to begin a new episode, zero an environment's rows.
        """
        n, hidden = self.sizes.num_agents, self.config.hidden_size
        shapes: list[tuple[int, ...]] = [(n, self.sizes.num_actions), (n, hidden)]
        if self.config.risk_mode == "dynamic":
            shapes += [(n, hidden), (n, self.input_size), (1, 1)]
        device = self.ids.device
        return [torch.zeros(num_envs, *shape, device=device) for shape in shapes]

    @torch.no_grad()
    def step(
        self, obs: Tensor, action_mask: Tensor, carry: list[Tensor]
    ) -> tuple[Decision, list[Tensor]]:
        """One step of acting.

        Args:
            obs: ``[E, N, D]``.
            action_mask: ``[E, N, A]``.
            carry: From :meth:`initial_carry` or the step before.

        Returns:
            The decision, with unavailable actions at ``-inf``, and the next carry. The
            caller writes the actions it took into the carry with :meth:`remember`.
        """
        last_action, hidden = carry[:2]
        ids = self.ids.expand(obs.shape[0], -1, -1)
        inputs = torch.cat([obs, last_action, ids], dim=-1)
        logits = None
        if self.config.risk_mode == "dynamic":
            history, previous, started = carry[2:]
            past = inputs
            if self.config.risk_history_lag:
                past = torch.where(started > 0, previous, inputs)
            atoms, hidden, history, logits = self._step_agents(
                inputs, hidden, past, history
            )
            carry = [last_action, hidden, history, inputs, torch.ones_like(started)]
        else:
            atoms, hidden = self._step_agents(inputs, hidden)
            carry = [last_action, hidden]
        atoms = atoms.unflatten(-1, (self.sizes.num_actions, self.config.num_atoms))
        utilities = self.risk.of_all_actions(atoms, logits)
        utilities = utilities.masked_fill(action_mask == 0, -torch.inf)
        level_index = None if logits is None else logits.argmax(dim=-1)
        return Decision(utilities, level_index, atoms), carry

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
