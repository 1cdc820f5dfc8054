"""The conservative penalty of offline learning.

Letters: ``A`` actions, ``M`` atoms.
"""

from __future__ import annotations

import torch
from torch import Tensor


def conservative_penalty(
    values: Tensor, actions: Tensor, action_mask: Tensor
) -> Tensor:
    """How far the best values lie above those of the actions taken.

    ``log sum_a exp q(a) - q(taken)``, with the sum over available actions: CQL(H) of
    Kumar et al. (2020), Eq. 4, and minus the log-likelihood of the action under the
    softmax of the values. It is at least 0, ``log A`` where all values are equal, and
    its gradient, ``softmax(q) - onehot(taken)``, pulls the value of the action taken up
    and all others down.

    Args:
        values: ``[..., A]``, or atoms ``[..., A, M]``: then the mean over atoms of the
            penalty of each, as MA-CQR has it (Eldeeb et al., 2024).
        actions: int64 ``[...]``.
        action_mask: Nonzero where an action is available, ``[..., A]``.

    Returns:
        ``[...]``.
    """
    if values.dim() == action_mask.dim():
        values = values.unsqueeze(-1)
    legal = values
    # Where every action is available, a copy would cost as much as the sum does.
    if not action_mask.all():
        legal = torch.where(action_mask.unsqueeze(-1) > 0, values, -torch.inf)
    index = actions[..., None, None].expand(*actions.shape, 1, values.shape[-1])
    taken = values.gather(-2, index).squeeze(-2)  # [..., M]
    return (legal.logsumexp(dim=-2) - taken).mean(dim=-1)
