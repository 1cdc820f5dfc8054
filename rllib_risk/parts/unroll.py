"""Encoded episodes, from which values are computed, and decisions of one acting step.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``H`` number of features, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Unroll:
    """Outputs of the encoders for whole episodes.

    Attributes:
        features: Features ``[B, T, N, H]``.
        level_logits: Level logits ``[B, T, N, K]``; None if no level is predicted.
        fractions: Sampled uniform fractions ``[B, T, N, M]``, or ascending fractions
            ``[B, T, 1, M]`` if all agents share them. None if the fractions are fixed.
        joint: Encoding for the joint critic, ``[B, T, N, F]``; None without a critic.
        obs: Observations for the mixer, ``[B, T, N, D]``; None if it needs none.
        all_atoms: Atoms of all actions, ``[B, T, N, A, M]``; None until they are
            computed with the gradients that the features need.
    """

    features: Tensor
    level_logits: Tensor | None = None
    fractions: Tensor | None = None
    joint: Tensor | None = None
    obs: Tensor | None = None
    all_atoms: Tensor | None = None

    def at(self, steps: slice) -> Unroll:
        """Selects a slice of the steps."""
        return self._map(lambda tensor: tensor[:, steps])

    def pick(self, steps: Tensor | None) -> Unroll:
        """Selects different steps of each row; see :func:`pick_steps`."""
        if steps is None:
            return self
        return self._map(lambda tensor: pick_steps(tensor, steps))

    def _map(self, part: Callable[[Tensor], Tensor]) -> Unroll:
        others = (self.level_logits, self.fractions, self.joint, self.obs)
        return Unroll(
            part(self.features), *(None if t is None else part(t) for t in others)
        )


def pick_steps(tensor: Tensor, steps: Tensor | None) -> Tensor:
    """Selects different steps of each row.

    Args:
        tensor: Rows of steps, ``[B, T, ...]``.
        steps: Indices of the steps, int64 ``[B, L]``. An index beyond the end selects
            the last step. None: all steps.

    Returns:
        Selected steps, ``[B, L, ...]``.
    """
    if steps is None:
        return tensor
    num_rows, num_steps = tensor.shape[:2]
    steps = steps.clamp(max=num_steps - 1)
    begins = num_steps * torch.arange(num_rows, device=steps.device)
    rows = (steps + begins.unsqueeze(-1)).flatten()
    return tensor.flatten(0, 1).index_select(0, rows).unflatten(0, steps.shape)


@dataclass
class Decision:
    """Outputs of the network for one acting step.

    Attributes:
        utilities: Risk-adjusted utilities, ``[E, N, A]``.
        level_index: Index into the risk measure's levels, ``[E, N]``, or None.
        atoms: Unsorted return atoms of all actions, ``[E, N, A, M]``.
    """

    utilities: Tensor
    level_index: Tensor | None
    atoms: Tensor
