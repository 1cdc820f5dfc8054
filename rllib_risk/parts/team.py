"""The whole team as one network: agents, risk measure, mixer and joint critic.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``D`` observation size, ``S`` state size, ``I`` input size, ``M`` atoms, ``G`` values
that are learned (1, or ``N``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from rllib_risk.config.options import fields_of, read_options
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.agents import NetworkOptions, TeamAgents
from rllib_risk.parts.critics.base import JointCritic, make_joint_critic
from rllib_risk.parts.mixers.base import MixerInputs, make_mixer
from rllib_risk.parts.objectives.base import Objective
from rllib_risk.parts.risk.base import make_risk
from rllib_risk.parts.slots import NETWORK_PARTS
from rllib_risk.parts.unroll import Decision, Unroll


def network_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of a team's network.

    Args:
        values: Keys and values; those of algorithms without return atoms are fewer.

    Returns:
        The keys that :class:`TeamNetwork` reads and that are there.
    """
    parts = [choice.part.Options for choice in NETWORK_PARTS.choose(values).values()]
    keys = {key for options in (NetworkOptions, *parts) for key in fields_of(options)}
    names = (*NETWORK_PARTS.slots, *sorted(keys))
    return {key: values[key] for key in names if key in values}


class TeamNetwork(TeamAgents):
    """The agents, a risk measure, a mixer, and perhaps a joint critic.

    Attributes:
        objective: What the team maximizes; it may add to what networks see.
        risk: The risk measure.
        mixer: The mixer.
        joint_critic: An unrestricted value of the joint action, or None.
    """

    def __init__(
        self, sizes: TeamSizes, keys: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Initializes the network.

        Args:
            sizes: What the environment fixes.
            keys: The configuration: the names of the parts in
                :data:`~rllib_risk.parts.slots.NETWORK_PARTS`, and keys that belong to
                them or to :class:`~rllib_risk.parts.agents.NetworkOptions`. Other keys
                are not read, and defaults count for those that are missing.

        Raises:
            ValueError: If a part cannot be made, with the reason.
        """
        chosen = NETWORK_PARTS.choose(keys)
        objective: Objective = chosen["objective"].make()
        sizes = objective.sizes(sizes)
        super().__init__(sizes, read_options(NetworkOptions, keys), chosen)
        self.objective = objective
        self.risk = make_risk(chosen["risk_measure"], self.num_atoms, self.level)
        self.mixer = make_mixer(chosen["mixer"], sizes)
        self.joint_critic = make_joint_critic(
            chosen["joint_critic"],
            sizes,
            self.input_size,
            self.agents[0].encoder.feature_size,
            functools.partial(self._new_encoder, chosen),
        )
        self._num_values: int | None = None
        if self.samples:
            self.risk.distort(torch.zeros(1))  # refuses a measure without a map

    @property
    def is_memoryless(self) -> bool:
        """Whether a step's values depend on nothing but its own inputs."""
        alone = self.joint_critic is None and not self.samples
        remembers = self.agents[0].encoder.has_memory or self.level.predicted
        return alone and not remembers

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
                drawn = torch.rand(fractions.shape, generator=generator)
                fractions = drawn.to(features)
        joint = None
        if self.joint_critic is not None:
            joint = self.joint_critic.encode(inputs, features)
        return Unroll(features, logits, fractions, joint)

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
        unroll, carry = self.advance(obs, carry)
        return self._decide(unroll, action_mask), carry

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
        unroll = Unroll(*self.encode(inputs)).pick(steps.unsqueeze(-1))
        return self._decide(unroll, action_mask)

    def _decide(self, unroll: Unroll, action_mask: Tensor) -> Decision:
        """The decision at the one step of an unroll, greedy in the risk level."""
        if self.samples:
            unroll.fractions = self._midpoints(unroll.features)
        utilities, atoms = self._utilities_and_atoms(unroll)
        utilities = utilities.squeeze(1).masked_fill(action_mask == 0, -torch.inf)
        logits = unroll.level_logits
        level_index = None if logits is None else logits.squeeze(1).argmax(dim=-1)
        return Decision(utilities, level_index, atoms.squeeze(1))
