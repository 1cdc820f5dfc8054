"""The conservative penalties of offline learning.

Letters: ``N`` agents, ``A`` actions, ``M`` atoms, ``K`` sampled joint actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Added to probabilities, so that their logarithms are finite; CFCQL's code has it.
_LEAST_CHANCE = 1e-5


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


def sampled_penalty(sampled: Tensor, taken: Tensor) -> Tensor:
    """The same of a team's joint actions; a sample stands for all of them.

    ``log [exp Q(u) + sum_k exp Q(u_k)] - Q(u)``, with ``u`` the joint action taken and
    ``u_k`` the sampled ones: QMIX+CQL of Formanek et al. (2024), as their code has it.
    It is at least 0, and ``log (K + 1)`` where all values are equal.

    Args:
        sampled: Values of joint actions drawn at random, ``[..., K]``.
        taken: Value of the joint action taken, ``[...]``.

    Returns:
        ``[...]``.
    """
    together = torch.cat([sampled, taken.unsqueeze(-1)], dim=-1)
    return together.logsumexp(dim=-1) - taken


def counterfactual_penalty(
    values: Tensor, taken: Tensor, action_mask: Tensor, weights: Tensor
) -> Tensor:
    """The penalty of one agent's deviations from the joint action taken.

    ``sum_i w_i log sum_a exp Q(a, u_-i) - Q(u)``, with the sums over available actions:
    CFCQL's penalty for discrete actions (Shao et al., 2023, Eq. 9, with the softmax
    over an agent's actions as its sampling distribution). It is at least 0 where the
    weights add up to 1.

    Args:
        values: ``Q(a, u_-i)``, the team's value where agent ``i`` alone does something
            else, ``[..., N, A]``.
        taken: ``Q(u)``, ``[...]``.
        action_mask: Nonzero where an action is available, ``[..., N, A]``.
        weights: ``w_i``, ``[..., N]``.

    Returns:
        ``[...]``.
    """
    legal = torch.where(action_mask > 0, values, -torch.inf)
    return (weights * legal.logsumexp(dim=-1)).sum(dim=-1) - taken


def divergence_weights(
    values: Tensor, behaviour: Tensor, action_mask: Tensor, temperature: float
) -> Tensor:
    """CFCQL's weights of agents: more for those that depart further from the data.

    ``softmax_i (temperature * D_i)`` of the divergence ``D_i = sum_a mu_i(a) log
    [mu_i(a) / beta_i(a)]`` from the data's policy ``beta_i`` to the softmax ``mu_i`` of
    an agent's counterfactual values (Shao et al., 2023, Section 4.3). As in their code
    ``1e-5`` is added to both probabilities before anything else.

    Args:
        values: See :func:`counterfactual_penalty`, ``[..., N, A]``.
        behaviour: Probabilities of the data's policy, ``[..., N, A]``.
        action_mask: Nonzero where an action is available, ``[..., N, A]``.
        temperature: At least 0; 0: all agents have the same weight.

    Returns:
        ``[..., N]``; they add up to 1.
    """
    legal = action_mask > 0
    mu = torch.where(legal, values, -torch.inf).softmax(dim=-1) + _LEAST_CHANCE
    ratio = mu.log() - (behaviour + _LEAST_CHANCE).log()
    divergence = torch.where(legal, mu * ratio, 0.0).sum(dim=-1)
    return (temperature * divergence).softmax(dim=-1)
