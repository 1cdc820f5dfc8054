"""The whole team as one network: agents, risk measure, mixer and joint critic.

It is built in layers, each in a module of its own: what agents read (``inputs``), their
features over time (``agents``), atoms and utilities of their actions (``utilities``),
acting step by step (``stepping``), and here the values of the team.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``M`` atoms, ``G`` values that are learned (1, or ``N``).
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
from rllib_risk.ops.risk import sort_atoms
from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.critics.base import JointCritic, make_joint_critic
from rllib_risk.parts.mixers.base import MixerInputs, make_mixer
from rllib_risk.parts.objectives.base import Objective
from rllib_risk.parts.slots import NETWORK_PARTS
from rllib_risk.parts.stepping import ActingTeam
from rllib_risk.parts.unroll import Unroll


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


class TeamNetwork(ActingTeam):
    """The acting team, a mixer, and perhaps a joint critic.

    Attributes:
        objective: What the team maximizes; it may add to what networks see.
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
        self.mixer = make_mixer(chosen["mixer"], sizes)
        self.joint_critic = make_joint_critic(
            chosen["joint_critic"],
            sizes,
            self.input_size,
            self.agents[0].encoder.feature_size,
            functools.partial(self._new_encoder, chosen),
        )
        self._num_values: int | None = None

    @property
    def is_memoryless(self) -> bool:
        """Whether a step's values depend on nothing but its own inputs."""
        return self.joint_critic is None and not (self.samples or self.remembers)

    def encode_jointly(self, inputs: Tensor, features: Tensor) -> Tensor | None:
        """See TeamAgents."""
        return (
            None
            if self.joint_critic is None
            else self.joint_critic.encode(inputs, features)
        )

    def mixed_obs(self, inputs: Tensor) -> Tensor | None:
        """See TeamAgents."""
        return inputs[..., : self.sizes.obs_size] if self.mixer.needs_obs else None

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
        return self.mixer(
            MixerInputs(utilities, state, actions, greedy, obs=unroll.obs)
        )

    def values_of_each(
        self, unroll: Unroll, actions: Tensor, state: Tensor, action_mask: Tensor
    ) -> Tensor:
        """What the mixer makes of several joint actions per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: int64 ``[B, T, K, N]``.
            state: ``[B, T, S]``.
            action_mask: ``[B, T, N, A]``.

        Returns:
            ``[B, T, K, G]``.
        """
        number = actions.shape[2]
        every = (
            self.utilities_of_all(unroll).unsqueeze(2).expand(-1, -1, number, -1, -1)
        )
        utilities = every.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        if self.mixer.broadcasts:
            return self.mixer(MixerInputs(utilities, state.unsqueeze(2), actions))

        def for_each(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else rows.repeat_interleave(number, dim=1)

        mixed = self.mixer(
            MixerInputs(
                utilities.flatten(1, 2),  # [B, T * K, N]
                cast("Tensor", for_each(state)),
                actions.flatten(1, 2),
                for_each(self._greedy_utilities(unroll, action_mask)),
                obs=for_each(unroll.obs),
            )
        )
        return mixed.unflatten(1, (-1, number))

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
        greedy = self._greedy_means(unroll, action_mask)
        atoms = self.atoms_of(unroll, actions)
        if self.options.sort_atoms:
            atoms = sort_atoms(atoms)
        means = atoms.mean(dim=-1)
        return self.mixer.mix_atoms(
            MixerInputs(means, state, actions, greedy, atoms, unroll.obs)
        )

    def _greedy_means(self, unroll: Unroll, action_mask: Tensor) -> Tensor | None:
        """Highest mean of each agent's atoms, ``[B, T, N]``, if the mixer needs it."""
        if not self.mixer.needs_greedy:
            return None
        means = self.atoms(unroll).detach().mean(dim=-1)
        return mask_utilities(means, action_mask).amax(dim=-1)

    def count_values(self) -> int:
        """How many values are learned, ``G``: 1, or ``N`` for independent agents."""
        if self._num_values is None:
            self._num_values = self._ask_mixer()
        return self._num_values

    def _ask_mixer(self) -> int:
        ones = torch.ones(1, 1, self.sizes.num_agents, device=self.device)
        state = ones.new_ones(1, 1, self.sizes.state_size)
        obs = ones.new_ones(*ones.shape, self.sizes.obs_size)
        team = MixerInputs(ones, state, ones.long() - 1, ones, obs=obs)
        with torch.no_grad():
            return self.mixer(team).shape[-1]

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
