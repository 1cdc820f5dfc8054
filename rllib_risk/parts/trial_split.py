"""Checks that custom parts work if several learners share a batch.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.data.splitting import RowShare
from rllib_risk.parts.base import Choice
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.draws import RowGenerator

# Learned steps of each episode of the batch, and the rows of two learners. The first
# learner has 1/4 of the episodes and 4/10 of the steps, so that the check detects a
# loss that is a mean over episodes.
_LENGTHS = np.array([4, 2, 3, 1])
_ROWS = np.array([0]), np.array([1, 2, 3])
# Rounding causes differences of 1e-6. A mean over episodes causes some per cent.
_TOLERANCE = 1e-3


def check_splits(
    sizes: TeamSizes,
    own: Mapping[str, Choice],
    gradient: Callable[[Batch, torch.Generator], Tensor],
) -> None:
    """Compares the gradient of a batch with the weighted sum of its parts' gradients.

    Args:
        sizes: Sizes of the team and its observations.
        own: The custom parts, by the key of their slot.
        gradient: Computes the gradient of a batch's losses with a random generator.

    Raises:
        ValueError: If the gradients differ, or a part fails.
    """
    names = ", ".join(f"{key} {choice.name!r}" for key, choice in own.items())
    batch = _random_batch(sizes)
    try:
        whole = gradient(batch, torch.Generator().manual_seed(0))
        parts = sum(_of_rows(batch, rows, gradient) for rows in _ROWS)
    except Exception as error:  # a custom part may raise anything
        cause = str(error).partition("\n")[0] or "no message"
        raise ValueError(
            f"num_learners: {names} fails when it is tried on part of a batch:"
            f" {type(error).__name__}: {cause}"
        ) from error
    difference = (parts - whole).norm() / whole.norm().clamp_min(1e-30)
    if difference > _TOLERANCE:
        raise ValueError(
            f"num_learners: with {names} the gradients of parts of a batch do not add"
            f" up to that of the batch (difference {100 * difference.item():.2g} %)."
            " Each episode must count by itself, and a loss must be a mean over learned"
            " steps (View.mean). Set num_learners: 0, or change the part."
        )


def _of_rows(
    batch: Batch,
    rows: np.ndarray,
    gradient: Callable[[Batch, torch.Generator], Tensor],
) -> Tensor:
    weight = float(_LENGTHS[rows].sum() / _LENGTHS.sum())
    generator = RowGenerator()
    generator.share = RowShare(rows, len(_LENGTHS), 0, weight, _LENGTHS)
    generator.manual_seed(0)
    tensors = {key: t[rows] for key, t in vars(batch).items() if t is not None}
    return weight * gradient(Batch(**tensors), generator)


def _random_batch(sizes: TeamSizes) -> Batch:
    rng = np.random.default_rng(0)
    b, t, n = len(_LENGTHS), int(_LENGTHS.max()), sizes.num_agents

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    mask = torch.arange(t) < torch.from_numpy(_LENGTHS)[:, None]  # [B, T]
    actions = rng.integers(sizes.num_actions, size=(b, t, n))
    return Batch(
        obs=normal(b, t + 1, n, sizes.obs_size),
        state=normal(b, t + 1, sizes.state_size),
        action_mask=torch.ones(b, t + 1, n, sizes.num_actions),
        actions=torch.from_numpy(actions),
        rewards=normal(b, t, 1),
        terminateds=torch.zeros(b, t, 1),
        mask=mask.unsqueeze(-1).float(),
    )
