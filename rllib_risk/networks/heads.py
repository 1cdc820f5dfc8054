"""Heads map an agent's features to the return atoms of its actions.

Letters: ``A`` actions, ``H`` number of features, ``M`` atoms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.config.part import Part
from rllib_risk.networks.arrays import TORCH, Namespace, Step


class UtilityHead(Part, nn.Module):
    """Base class of heads.

    A custom head defines :meth:`one_step`. It may define :meth:`forward` instead if
    acting need not be fast.

    Attributes:
        samples: Whether each call gets the quantile fractions of the atoms.
        shares_fractions: Whether all agents get the same fractions in learning.
        acting_atoms: Number of fractions that acting uses to choose actions; ``M`` if
            the head does not sample fractions.
        num_actions: Number of actions ``A``.
        num_atoms: Number of atoms ``M``; 1 for a plain action value.
    """

    samples: bool = False
    shares_fractions: bool = False

    def __init__(
        self, feature_size: int, num_actions: int, num_atoms: int, options: Any = None
    ) -> None:
        """Initializes the head.

        Args:
            feature_size: ``H``.
            num_actions: ``A``.
            num_atoms: ``M``.
            options: See :class:`~rllib_risk.config.part.Part`.
        """
        super().__init__(options)
        self.num_actions = num_actions
        self.num_atoms = num_atoms

    @property
    def acting_atoms(self) -> int:
        """Number of fractions that acting uses; see the class."""
        return self.num_atoms

    def one_step(self, xp: Namespace, fractions: Tensor | None = None) -> Step:
        """Builds the acting step; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Array namespace, :data:`.arrays.TORCH` or :data:`.arrays.NUMPY`.
            fractions: Quantile fractions, ``[M]``, or ``[..., M]`` per row. None if the
                head's fractions are fixed.

        Returns:
            A function from features ``[..., H]`` to atoms ``[..., A, M]``.
        """
        given = () if fractions is None else (fractions,)
        return xp.without_own_step(self, lambda features: self(features, *given))

    def forward(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Computes the return atoms of every action.

        Args:
            features: Features ``[..., H]``.
            fractions: Quantile fractions ``[M]`` or ``[..., M]``, if quantiles are
                sampled.

        Returns:
            Atoms ``[..., A, M]``, in the order of the fractions or unsorted.

        Raises:
            NotImplementedError: If the class defines neither ``one_step`` nor
                ``forward``.
        """
        if type(self).one_step is UtilityHead.one_step:
            raise NotImplementedError(f"{type(self).__name__} must define forward().")
        return self.one_step(TORCH, fractions)(features)

    def of_actions(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """Computes the return atoms of one action per row.

        Args:
            features: Features ``[..., H]``.
            actions: Actions, int64 ``[...]``.
            fractions: Quantile fractions ``[M]`` or ``[..., M]``, if quantiles are
                sampled.

        Returns:
            Atoms ``[..., M]``.
        """
        atoms = self(features, fractions)
        index = actions[..., None, None].expand(*actions.shape, 1, atoms.shape[-1])
        return atoms.gather(-2, index).squeeze(-2)


class LinearHead(UtilityHead):
    """A linear layer with ``A * M`` atoms at fixed fractions (QR-DQN)."""

    def __init__(
        self, feature_size: int, num_actions: int, num_atoms: int, options: Any = None
    ) -> None:
        """Initializes the head; see :class:`UtilityHead`."""
        super().__init__(feature_size, num_actions, num_atoms, options)
        layer = nn.Linear(feature_size, num_actions * num_atoms)
        self.weight, self.bias = layer.weight, layer.bias

    def one_step(self, xp: Namespace, fractions: Tensor | None = None) -> Step:
        """See :meth:`UtilityHead.one_step`."""
        linear, shape = xp.linear(self), (self.num_actions, self.num_atoms)
        return lambda features: linear(features).reshape(*features.shape[:-1], *shape)

    def of_actions(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """See :meth:`UtilityHead.of_actions`.

        On the CPU, rows are grouped by action, and each group is multiplied only by the
        head's slice for that action. The forward and backward passes then skip the
        atoms of other actions.
        """
        if self.num_atoms == 1 or features.device.type != "cpu":
            return super().of_actions(features, actions)
        rows = features.flatten(0, -2)
        flat = actions.flatten()
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=self.num_actions).tolist()
        weight = self.weight.unflatten(0, (self.num_actions, self.num_atoms))
        bias = self.bias.unflatten(0, (self.num_actions, self.num_atoms))
        groups = rows.index_select(0, order).split(counts)
        chosen = torch.cat(
            [F.linear(g, w, b) for g, w, b in zip(groups, weight, bias, strict=True)]
        )
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel())
        return chosen.index_select(0, inverse).unflatten(0, actions.shape)
