"""The whole team as one network: agents, risk measure, mixer and joint critic.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``D`` observation size, ``S`` state size, ``I`` input size, ``H`` hidden size, ``M``
atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.agent import AgentNetwork, RiskLevelPredictor
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.joint_critics import JointCritic, make_joint_critic
from rllib_risk.parts.mixers import MixerInputs, make_mixer
from rllib_risk.parts.risk import make_risk


@dataclass(frozen=True)
class TeamNetworkConfig:
    """What the configuration fixes; every name is that of its configuration key."""

    hidden_size: int = 64
    recurrent: bool = True
    rnn_cell: str = "gru"
    obs_last_action: bool = True
    agent_ids: bool = True
    parameter_sharing: bool = True
    num_atoms: int = 1
    quantiles: str = "fixed"
    risk_measure: str = "mean"
    risk_parameter: float | None = None
    risk_kwargs: Mapping[str, Any] = field(default_factory=dict)
    risk_mode: str = "static"
    alpha: float | Sequence[Sequence[float]] = 1.0
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
    mixer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    mixing_embed_dim: int = 32
    hypernet_embed_dim: int = 64
    qplex_heads: int = 4
    qplex_lambda_layers: int = 1
    joint_critic: str = "none"


@dataclass
class Unroll:
    """Whole episodes through the encoders.

    Attributes:
        features: ``[B, T, N, H]``.
        level_logits: ``[B, T, N, K]``, or None where no level is predicted.
        fractions: Uniform quantile fractions ``[B, T, N, M]``, or None where atoms have
            fixed ones.
        joint: What the joint critic reads, ``[B, T, N, F]``, or None without one.
        all_atoms: Atoms of all actions ``[B, T, N, A, M]``, once somebody asked for
            them with gradients, if there are any.
    """

    features: Tensor
    level_logits: Tensor | None = None
    fractions: Tensor | None = None
    joint: Tensor | None = None
    all_atoms: Tensor | None = None

    def at(self, steps: slice) -> Unroll:
        """The same for some of the steps."""
        return self._of_each(lambda tensor: tensor[:, steps])

    def pick(self, steps: Tensor) -> Unroll:
        """The same for steps of each row's own; see :func:`pick_steps`."""
        return self._of_each(lambda tensor: pick_steps(tensor, steps))

    def _of_each(self, part: Callable[[Tensor], Tensor]) -> Unroll:
        others = (self.level_logits, self.fractions, self.joint)
        return Unroll(
            part(self.features), *(None if t is None else part(t) for t in others)
        )


def pick_steps(tensor: Tensor, steps: Tensor) -> Tensor:
    """Steps of each row's own.

    Args:
        tensor: ``[B, T, ...]``.
        steps: Their numbers, int64 ``[B, L]``; beyond the end is the last one.

    Returns:
        ``[B, L, ...]``.
    """
    num_rows, num_steps = tensor.shape[:2]
    steps = steps.clamp(max=num_steps - 1)
    begins = num_steps * torch.arange(num_rows, device=steps.device)
    rows = (steps + begins.unsqueeze(-1)).flatten()
    return tensor.flatten(0, 1).index_select(0, rows).unflatten(0, steps.shape)


@dataclass
class Decision:
    """What the network says about one step of acting.

    Attributes:
        utilities: Risk-adjusted utilities, ``[E, N, A]``.
        level_index: Index into the risk measure's levels, ``[E, N]``, or None.
        atoms: Return atoms of all actions, in no order, ``[E, N, A, M]``.
    """

    utilities: Tensor
    level_index: Tensor | None
    atoms: Tensor


class TeamNetwork(nn.Module):
    """Agents that share a network (or do not), a risk measure, a mixer, and perhaps a
    joint critic.

    The agent's input is its observation, its last action (one-hot, zeros at the start)
    and its own id (one-hot), as in PyMARL; the last two are derived here, never stored.
    ``obs_last_action: false`` and ``agent_ids: false`` leave them out; without ids,
    agents that share a network act alike wherever they have seen and done the same.

    Attributes:
        sizes: What the environment fixes.
        risk: The risk measure.
        mixer: The mixer.
        joint_critic: An unrestricted value of the joint action, or None.
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
        self.input_size = sizes.obs_size
        self.input_size += sizes.num_actions if config.obs_last_action else 0
        self.input_size += sizes.num_agents if config.agent_ids else 0
        copies = 1 if config.parameter_sharing else sizes.num_agents
        # A ModuleList; the type says what is in it.
        self.agents = cast(
            "Sequence[AgentNetwork]",
            nn.ModuleList(self._make_agent() for _ in range(copies)),
        )
        self.risk = make_risk(config, config.num_atoms)
        self.mixer = make_mixer(config.mixer, sizes, config)
        self.joint_critic = make_joint_critic(
            config.joint_critic, sizes, config, self.input_size
        )
        self.register_buffer("ids", torch.eye(sizes.num_agents), persistent=False)
        self._num_values: int | None = None

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
                rnn_cell=c.rnn_cell,
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
            rnn_cell=c.rnn_cell,
            sampled=c.quantiles == "sampled",
        )

    @property
    def is_memoryless(self) -> bool:
        """Whether a step's values depend on nothing but its own inputs."""
        c = self.config
        alone = c.joint_critic == "none" and c.quantiles == "fixed"
        return alone and not c.recurrent and c.risk_mode != "dynamic"

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
        if self.config.obs_last_action:
            if previous is None:
                previous = torch.full_like(actions[:, 0], -1)
            last = torch.cat([previous.unsqueeze(1), actions], dim=1).unsqueeze(-1)
            # PyTorch's one_hot makes 64-bit integers, most of the time of all this.
            one_hot = inputs[..., obs_size : obs_size + self.sizes.num_actions]
            one_hot.scatter_(-1, last.clamp(min=0), (last >= 0).to(obs.dtype))
        if self.config.agent_ids:
            inputs[..., -n:] = self.ids
        return inputs

    def _join_inputs(self, obs: Tensor, last_action: Tensor | None) -> Tensor:
        """``[..., N, I]`` from observations and one-hot actions ``[..., N, .]``."""
        parts = [obs]
        if last_action is not None:
            parts.append(last_action)
        if self.config.agent_ids:
            parts.append(self.ids.expand(*obs.shape[:-2], -1, -1))
        return torch.cat(parts, dim=-1)

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
        features, logits = self._encode(inputs)
        fractions = None
        if self.config.quantiles == "sampled":
            fractions = self._midpoints(features)
            if generator is not None:
                drawn = torch.rand(fractions.shape, generator=generator)
                fractions = drawn.to(features)
        joint = None
        if self.joint_critic is not None:
            joint = self.joint_critic.encode(inputs, features)
        return Unroll(features, logits, fractions, joint)

    def _encode(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``[B, T, N, H]`` and, where predicted, level logits."""
        if self.config.risk_mode != "dynamic":

            def encode(agent: AgentNetwork, rows: Tensor) -> tuple[Tensor]:
                return (agent.encoder(rows, None)[0],)

            return self._per_agent(encode, inputs)[0], None

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
                logits = predictor(features, history, agent.linear_head)
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
            index = actions[..., None, None].expand(
                *actions.shape, 1, self.config.num_atoms
            )
            return unroll.all_atoms.gather(-2, index).squeeze(-2)
        return self._atoms_of(unroll, actions, unroll.fractions)

    def _atoms(self, unroll: Unroll, fractions: Tensor | None) -> Tensor:
        given = () if fractions is None else (fractions,)
        if len(self.agents) == 1:
            return self.agents[0].atoms(unroll.features, *given)
        return self._per_agent(
            lambda agent, *rows: (agent.atoms(*rows),), unroll.features, *given
        )[0]

    def _atoms_of(
        self, unroll: Unroll, actions: Tensor, fractions: Tensor | None
    ) -> Tensor:
        given = () if fractions is None else (fractions,)
        if len(self.agents) == 1:
            return self.agents[0].atoms_of(unroll.features, actions, *given)
        return self._per_agent(
            lambda agent, *rows: (agent.atoms_of(*rows),),
            unroll.features,
            actions,
            *given,
        )[0]

    def utilities_of(self, unroll: Unroll, actions: Tensor) -> Tensor:
        """Risk-adjusted utilities of one action per agent, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.

        Returns:
            ``[B, T, N]``.
        """
        if unroll.fractions is None:
            return self.risk(self.atoms_of(unroll, actions), unroll.level_logits)
        distorted = self.risk.distort(unroll.fractions)
        return self.risk.of_samples(self._atoms_of(unroll, actions, distorted))

    @torch.no_grad()
    def utilities(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """Risk-adjusted utilities of all actions, without gradients.

        Args:
            unroll: Encoded episodes.
            action_mask: ``[B, T, N, A]``.

        Returns:
            ``[B, T, N, A]``, very low where an action is not available.
        """
        return mask_utilities(self._utilities(unroll), action_mask)

    def _utilities(self, unroll: Unroll) -> Tensor:
        return self._utilities_and_atoms(unroll)[0]

    def _utilities_and_atoms(self, unroll: Unroll) -> tuple[Tensor, Tensor]:
        if unroll.fractions is None:
            atoms = self.atoms(unroll)
            return self.risk.of_all_actions(atoms, unroll.level_logits), atoms
        atoms = self._atoms(unroll, self.risk.distort(unroll.fractions))
        return self.risk.of_samples(atoms), atoms

    def greedy_actions(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """The available action of highest utility, per agent and step.

        Args:
            unroll: Encoded episodes.
            action_mask: ``[B, T, N, A]``.

        Returns:
            int64 ``[B, T, N]``.
        """
        return self.utilities(unroll, action_mask).argmax(dim=-1)

    def values_of(
        self, unroll: Unroll, actions: Tensor, state: Tensor, action_mask: Tensor
    ) -> Tensor:
        """What the mixer makes of one joint action per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.
            state: ``[B, T, S]``.
            action_mask: ``[B, T, N, A]``.

        Returns:
            ``[B, T, G]``: one value of the team, or one per agent.
        """
        greedy = self._greedy_utilities(unroll, action_mask)
        utilities = self.utilities_of(unroll, actions)
        return self.mixer(MixerInputs(utilities, state, actions, greedy))

    def _greedy_utilities(self, unroll: Unroll, action_mask: Tensor) -> Tensor | None:
        if not self.mixer.needs_greedy:
            return None
        return self.utilities(unroll, action_mask).amax(dim=-1)

    def team_atoms_of(
        self, unroll: Unroll, actions: Tensor, state: Tensor, action_mask: Tensor
    ) -> Tensor:
        """What the mixer makes of the atoms of one joint action, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.
            state: ``[B, T, S]``.
            action_mask: ``[B, T, N, A]``.

        Returns:
            ``[B, T, G, M]``: the distribution of the team's return, or of each agent's.
        """
        # First, since it keeps the atoms of all actions if the mixer needs them.
        greedy = self._greedy_utilities(unroll, action_mask)
        atoms = self.atoms_of(unroll, actions)
        means = atoms.mean(dim=-1)
        return self.mixer.mix_atoms(MixerInputs(means, state, actions, greedy, atoms))

    def count_values(self) -> int:
        """How many values are learned, ``G``: 1, or ``N`` for independent agents."""
        if self._num_values is None:
            self._num_values = self._ask_mixer()
        return self._num_values

    def _ask_mixer(self) -> int:
        ones = torch.ones(1, 1, self.sizes.num_agents, device=self.ids.device)
        state = ones.new_ones(1, 1, self.sizes.state_size)
        with torch.no_grad():
            return self.mixer(MixerInputs(ones, state, ones.long() - 1, ones)).shape[-1]

    def joint_values_of(self, unroll: Unroll, actions: Tensor, state: Tensor) -> Tensor:
        """What the joint critic says of one joint action per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, N]``.
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, 1]``.
        """
        critic = cast("JointCritic", self.joint_critic)
        return critic(unroll.joint, actions, state)

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
        if self.config.risk_mode == "dynamic":
            shapes += [(n, state_size), (n, self.input_size), (1, 1)]
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
        last_action, memory = carry[:2]
        shown = last_action if self.config.obs_last_action else None
        inputs = self._join_inputs(obs, shown)
        logits = None
        if self.config.risk_mode == "dynamic":
            history, previous, started = carry[2:]
            past = inputs
            if self.config.risk_history_lag:
                past = torch.where(started > 0, previous, inputs)
            memory, history, logits = self._step_agents(inputs, memory, past, history)
            carry = [last_action, memory, history, inputs, torch.ones_like(started)]
        else:
            (memory,) = self._step_agents(inputs, memory)
            carry = [last_action, memory]
        features = self.agents[0].encoder.features_of(memory).unsqueeze(1)
        step = None if logits is None else logits.unsqueeze(1)
        return self._decide(Unroll(features, step), action_mask), carry

    @torch.no_grad()
    def decide(self, inputs: Tensor, steps: Tensor, action_mask: Tensor) -> Decision:
        """Decides at one step of each of several windows, each from a zero memory.

        Args:
            inputs: ``[E, W, N, I]``; what comes after the step does not matter.
            steps: Number of the step in its window, int64 ``[E]``.
            action_mask: ``[E, N, A]``.

        Returns:
            The decision, with unavailable actions at ``-inf``.
        """
        unroll = Unroll(*self._encode(inputs)).pick(steps.unsqueeze(-1))
        return self._decide(unroll, action_mask)

    def _decide(self, unroll: Unroll, action_mask: Tensor) -> Decision:
        """The decision at the one step of an unroll, greedy in the risk level."""
        if self.config.quantiles == "sampled":
            unroll.fractions = self._midpoints(unroll.features)
        utilities, atoms = self._utilities_and_atoms(unroll)
        utilities = utilities.squeeze(1).masked_fill(action_mask == 0, -torch.inf)
        logits = unroll.level_logits
        level_index = None if logits is None else logits.squeeze(1).argmax(dim=-1)
        return Decision(utilities, level_index, atoms.squeeze(1))

    def _midpoints(self, features: Tensor) -> Tensor:
        """Evenly spread fractions for every row of ``[B, T, N, H]``."""
        m = self.config.num_atoms
        return quantile_fractions(m).to(features).expand(*features.shape[:3], m)

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
