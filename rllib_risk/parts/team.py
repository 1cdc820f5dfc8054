"""The team's network: agents, risk measure, mixer and joint critic.

The network has several layers, each in its own module: the agents' inputs (``inputs``),
their features over time (``agents``), atoms and utilities of their actions
(``utilities``), acting step by step (``stepping``), and the team's values (this
module).

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``M`` atoms, ``G`` learned values (1, or ``N``).
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
    """Selects the keys of a configuration that :class:`TeamNetwork` reads.

    Args:
        values: Keys and values of the configuration. Algorithms without return atoms
            have fewer keys.

    Returns:
        The present keys that :class:`TeamNetwork` reads, with their values.
    """
    parts = [choice.part.Options for choice in NETWORK_PARTS.choose(values).values()]
    keys = {key for options in (NetworkOptions, *parts) for key in fields_of(options)}
    names = (*NETWORK_PARTS.slots, *sorted(keys))
    return {key: values[key] for key in names if key in values}


class TeamNetwork(ActingTeam):
    """The acting team with a mixer and an optional joint critic.

    Attributes:
        objective: The team's objective, which may add inputs to the networks.
        mixer: The mixer.
        joint_critic: The joint critic, or None.
    """

    def __init__(
        self, sizes: TeamSizes, keys: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Initializes the network.

        Args:
            sizes: Sizes of the team and its observations.
            keys: The configuration: the names of the parts in
                :data:`~rllib_risk.parts.slots.NETWORK_PARTS`, and the keys of these
                parts and of :class:`~rllib_risk.parts.agents.NetworkOptions`. Other
                keys are ignored, and missing keys have defaults.

        Raises:
            ValueError: If a part cannot be created; the message says why.
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
        """Whether the values of a step depend only on the inputs of that step."""
        return self.joint_critic is None and not (self.samples or self.remembers)

    def encode_jointly(self, inputs: Tensor, features: Tensor) -> Tensor | None:
        """Returns the joint critic's encoding; see :attr:`Unroll.joint`."""
        return (
            None
            if self.joint_critic is None
            else self.joint_critic.encode(inputs, features)
        )

    def mixed_obs(self, inputs: Tensor) -> Tensor | None:
        """Returns the observations for the mixer; see :attr:`Unroll.obs`."""
        return inputs[..., : self.sizes.obs_size] if self.mixer.needs_obs else None

    def values_of(
        self, unroll: Unroll, actions: Tensor, state: Tensor, action_mask: Tensor
    ) -> Tensor:
        """Computes the mixed value of one joint action per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: Joint actions, int64 ``[B, T, N]``.
            state: Global states, ``[B, T, S]``.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Values ``[B, T, G]``: one per team, or one per agent.
        """
        greedy = self._greedy_utilities(unroll, action_mask)
        utilities = self.utilities_of(unroll, actions)
        return self.mixer(
            MixerInputs(utilities, state, actions, greedy, obs=unroll.obs)
        )

    def values_of_each(
        self, unroll: Unroll, actions: Tensor, state: Tensor, action_mask: Tensor
    ) -> Tensor:
        """Computes the mixed values of several joint actions per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: ``K`` joint actions per step, int64 ``[B, T, K, N]``.
            state: Global states, ``[B, T, S]``.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Values ``[B, T, K, G]``.
        """
        number = actions.shape[2]
        every = (
            self.utilities_of_all(unroll).unsqueeze(2).expand(-1, -1, number, -1, -1)
        )
        utilities = every.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        if self.mixer.broadcasts:
            return self.mixer(MixerInputs(utilities, state.unsqueeze(2), actions))

        def repeat(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else rows.repeat_interleave(number, dim=1)

        mixed = self.mixer(
            MixerInputs(
                utilities.flatten(1, 2),  # [B, T * K, N]
                cast("Tensor", repeat(state)),
                actions.flatten(1, 2),
                repeat(self._greedy_utilities(unroll, action_mask)),
                obs=repeat(unroll.obs),
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
        """Computes the mixed atoms of one joint action per step, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: Joint actions, int64 ``[B, T, N]``.
            state: Global states, ``[B, T, S]``.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Atoms ``[B, T, G, M]`` of the return of the team, or of each agent.
        """
        # This comes first: it may store the atoms of all actions for reuse below.
        greedy = self._greedy_means(unroll, action_mask)
        atoms = self.atoms_of(unroll, actions)
        if self.options.sort_atoms:
            atoms = sort_atoms(atoms)
        means = atoms.mean(dim=-1)
        return self.mixer.mix_atoms(
            MixerInputs(means, state, actions, greedy, atoms, unroll.obs)
        )

    def _greedy_means(self, unroll: Unroll, action_mask: Tensor) -> Tensor | None:
        """Highest mean of each agent's atoms, ``[B, T, N]``, or None if not needed."""
        if not self.mixer.needs_greedy:
            return None
        means = self.atoms(unroll).detach().mean(dim=-1)
        return mask_utilities(means, action_mask).amax(dim=-1)

    def count_values(self) -> int:
        """Number of learned values ``G``: 1, or ``N`` for independent agents."""
        if self._num_values is None:
            self._num_values = self._mixer_outputs()
        return self._num_values

    def _mixer_outputs(self) -> int:
        ones = torch.ones(1, 1, self.sizes.num_agents, device=self.device)
        state = ones.new_ones(1, 1, self.sizes.state_size)
        obs = ones.new_ones(*ones.shape, self.sizes.obs_size)
        team = MixerInputs(ones, state, ones.long() - 1, ones, obs=obs)
        with torch.no_grad():
            return self.mixer(team).shape[-1]

    def joint_values_of(self, unroll: Unroll, actions: Tensor, state: Tensor) -> Tensor:
        """Computes the joint critic's value of one joint action per step.

        Args:
            unroll: Encoded episodes.
            actions: Joint actions, int64 ``[B, T, N]``.
            state: Global states, ``[B, T, S]``.

        Returns:
            Values ``[B, T, 1]``, with gradients.
        """
        critic = cast("JointCritic", self.joint_critic)
        return critic(unroll.joint, actions, state)
