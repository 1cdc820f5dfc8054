"""Return atoms and risk-adjusted utilities of the agents' actions.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``M`` atoms.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.agents import NetworkOptions, TeamAgents
from rllib_risk.parts.base import Choice
from rllib_risk.parts.risk.base import make_risk
from rllib_risk.parts.unroll import Unroll


class TeamUtilities(TeamAgents):
    """Agents and a risk measure, which compute utilities of actions from features.

    Attributes:
        risk: The risk measure.
    """

    def __init__(
        self, sizes: TeamSizes, options: NetworkOptions, chosen: Mapping[str, Choice]
    ) -> None:
        """Initializes the agents and the measure; see :class:`TeamAgents`.

        Raises:
            ValueError: If quantiles are sampled and the measure has no map of
                fractions.
        """
        super().__init__(sizes, options, chosen)
        self.risk = make_risk(chosen["risk_measure"], self.num_atoms, self.level)
        if self.samples:
            self.risk.distort(torch.zeros(1))  # raises if the measure has no map

    def utilities_of(self, unroll: Unroll, actions: Tensor) -> Tensor:
        """Computes risk-adjusted utilities of one action per agent, with gradients.

        Args:
            unroll: Encoded episodes.
            actions: Actions, int64 ``[B, T, N]``.

        Returns:
            Utilities ``[B, T, N]``.
        """
        if unroll.fractions is None:
            return self.risk(self.atoms_of(unroll, actions), unroll.level_logits)
        distorted = self.risk.distort(unroll.fractions)
        return self.risk.of_samples(self._atoms_of(unroll, actions, distorted))

    @torch.no_grad()
    def utilities(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """Computes risk-adjusted utilities of all actions, without gradients.

        Args:
            unroll: Encoded episodes.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Utilities ``[B, T, N, A]``, very low where an action is not available.
        """
        return mask_utilities(self._utilities(unroll), action_mask)

    def _utilities(self, unroll: Unroll) -> Tensor:
        return self._utilities_and_atoms(unroll)[0]

    def _utilities_and_atoms(self, unroll: Unroll) -> tuple[Tensor, Tensor]:
        if unroll.fractions is None:
            atoms = self.atoms(unroll)
            return self.risk.of_all_actions(atoms, unroll.level_logits), atoms
        distorted = self.risk.distort(unroll.fractions)
        if distorted is unroll.fractions:
            atoms = self.atoms(unroll)  # may store them for reuse
        else:
            atoms = self._atoms(unroll, distorted)
        return self.risk.of_samples(atoms), atoms

    def greedy_actions(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """Returns the greedy action of each agent at each step.

        Args:
            unroll: Encoded episodes.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Actions, int64 ``[B, T, N]``.
        """
        return self.utilities(unroll, action_mask).argmax(dim=-1)

    def utilities_of_all(self, unroll: Unroll) -> Tensor:
        """Computes risk-adjusted utilities of all actions, with gradients.

        Args:
            unroll: Encoded episodes.

        Returns:
            Utilities ``[B, T, N, A]``.
        """
        if unroll.fractions is not None:
            distorted = self.risk.distort(unroll.fractions)
            return self.risk.of_samples(self._atoms(unroll, distorted))
        atoms, logits = self.atoms(unroll), unroll.level_logits
        if logits is not None:
            shape = (*atoms.shape[:-1], logits.shape[-1])
            logits = logits.unsqueeze(-2).expand(shape)  # [B, T, N, A, K]
        return self.risk(atoms, logits)

    def action_probabilities(self, unroll: Unroll, action_mask: Tensor) -> Tensor:
        """Computes the policy with the utilities as logits, with gradients.

        Args:
            unroll: Encoded episodes.
            action_mask: Nonzero where an action is available, ``[B, T, N, A]``.

        Returns:
            Probabilities ``[B, T, N, A]``, 0 where an action is not available.
        """
        logits = self.utilities_of_all(unroll)
        return torch.where(action_mask > 0, logits, -torch.inf).softmax(dim=-1)

    def atoms(self, unroll: Unroll) -> Tensor:
        """Computes return atoms of all actions, ``[B, T, N, A, M]``."""
        if unroll.all_atoms is not None:
            return unroll.all_atoms
        atoms = self._atoms(unroll, unroll.fractions)
        if torch.is_grad_enabled() or not unroll.features.requires_grad:
            unroll.all_atoms = atoms
        return atoms

    def atoms_of(self, unroll: Unroll, actions: Tensor) -> Tensor:
        """Computes return atoms of one action per agent.

        Args:
            unroll: Encoded episodes.
            actions: Actions, int64 ``[B, T, N]``.

        Returns:
            Atoms ``[B, T, N, M]``.
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
        """Fractions as optional argument of the agents' networks."""
        if fractions is None:
            return ()
        if len(self.agents) == 1:
            return (fractions,)
        return (fractions.expand(-1, -1, self.sizes.num_agents, -1),)
