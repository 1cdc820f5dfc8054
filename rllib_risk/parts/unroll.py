"""What the values of whole episodes, or of one step of acting, are computed from.

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
    """Whole episodes through the encoders.

    Attributes:
        features: ``[B, T, N, H]``.
        level_logits: ``[B, T, N, K]``, or None where no level is predicted.
        fractions: Uniform quantile fractions ``[B, T, N, M]``; ascending ones
            ``[B, T, 1, M]`` where all agents share them; None where atoms have fixed
            ones.
        joint: What the joint critic reads, ``[B, T, N, F]``, or None without one.
        obs: What the mixer reads of the observations, ``[B, T, N, D]``, or None.
        all_atoms: Atoms of all actions ``[B, T, N, A, M]``, once they were asked for
            with gradients, if there are any.
    """

    features: Tensor
    level_logits: Tensor | None = None
    fractions: Tensor | None = None
    joint: Tensor | None = None
    obs: Tensor | None = None
    all_atoms: Tensor | None = None

    def at(self, steps: slice) -> Unroll:
        """The same for some of the steps."""
        return self._of_each(lambda tensor: tensor[:, steps])

    def pick(self, steps: Tensor | None) -> Unroll:
        """The same for steps of each row's own; see :func:`pick_steps`."""
        if steps is None:
            return self
        return self._of_each(lambda tensor: pick_steps(tensor, steps))

    def _of_each(self, part: Callable[[Tensor], Tensor]) -> Unroll:
        others = (self.level_logits, self.fractions, self.joint, self.obs)
        return Unroll(
            part(self.features), *(None if t is None else part(t) for t in others)
        )


def pick_steps(tensor: Tensor, steps: Tensor | None) -> Tensor:
    """Steps of each row's own.

    Args:
        tensor: ``[B, T, ...]``.
        steps: Their numbers, int64 ``[B, L]``; beyond the end is the last one. None:
            all steps.

    Returns:
        ``[B, L, ...]``.
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
    """What the network says about one step of acting.

    Attributes:
        utilities: Risk-adjusted utilities, ``[E, N, A]``.
        level_index: Index into the risk measure's levels, ``[E, N]``, or None.
        atoms: Return atoms of all actions, in no order, ``[E, N, A, M]``.
    """

    utilities: Tensor
    level_index: Tensor | None
    atoms: Tensor
