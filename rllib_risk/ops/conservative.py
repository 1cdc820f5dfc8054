"""Conservative (CQL) penalties for offline learning.

Letters: ``N`` agents, ``A`` actions, ``M`` atoms, ``K`` sampled joint actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Added to probabilities so that their logarithms are finite, as in CFCQL's code.
_MIN_PROBABILITY = 1e-5


def conservative_penalty(
    values: Tensor, actions: Tensor, action_mask: Tensor
) -> Tensor:
    """CQL penalty: log-sum-exp of the action values minus the value of the one taken.

    ``log sum_a exp q(a) - q(taken)``, with the sum over available actions: CQL(H) of
    Kumar et al. (2020), Eq. 4. It equals the negative log-likelihood of the action
    under the softmax of the values. It is at least 0, and ``log A`` where all values
    are equal. Its gradient, ``softmax(q) - onehot(taken)``, pushes the value of the
    action taken up and all others down.

    Args:
        values: Action values ``[..., A]``, or atoms ``[..., A, M]``. For atoms, the
            penalty is the mean of the penalties of the atoms, as in MA-CQR (Eldeeb et
            al., 2024).
        actions: Actions taken, int64 ``[...]``.
        action_mask: Nonzero where an action is available, ``[..., A]``.

    Returns:
        Penalties ``[...]``.
    """
    if values.dim() == action_mask.dim():
        values = values.unsqueeze(-1)
    legal = values
    # If every action is available, skip the copy: it costs as much as the sum.
    if not action_mask.all():
        legal = torch.where(action_mask.unsqueeze(-1) > 0, values, -torch.inf)
    index = actions[..., None, None].expand(*actions.shape, 1, values.shape[-1])
    taken = values.gather(-2, index).squeeze(-2)  # [..., M]
    return (legal.logsumexp(dim=-2) - taken).mean(dim=-1)


def sampled_penalty(sampled: Tensor, taken: Tensor) -> Tensor:
    """CQL penalty of a joint action, estimated from sampled joint actions.

    ``log [exp Q(u) + sum_k exp Q(u_k)] - Q(u)``, where ``u`` is the joint action taken
    and ``u_k`` are the sampled ones: QMIX+CQL of Formanek et al. (2024), as in their
    code. It is at least 0, and ``log (K + 1)`` where all values are equal.

    Args:
        sampled: Values of joint actions drawn at random, ``[..., K]``.
        taken: Value of the joint action taken, ``[...]``.

    Returns:
        Penalties ``[...]``.
    """
    together = torch.cat([sampled, taken.unsqueeze(-1)], dim=-1)
    return together.logsumexp(dim=-1) - taken


def counterfactual_penalty(
    values: Tensor, taken: Tensor, action_mask: Tensor, weights: Tensor
) -> Tensor:
    """Counterfactual CQL penalty over deviations of single agents (CFCQL).

    ``sum_i w_i log sum_a exp Q(a, u_-i) - Q(u)``, with the sums over available actions:
    CFCQL's penalty for discrete actions (Shao et al., 2023, Eq. 9). The sampling
    distribution is the softmax over an agent's actions. The penalty is at least 0 if
    the weights sum to 1.

    Args:
        values: ``Q(a, u_-i)``, the team's value if agent ``i`` alone changes its action
            to ``a``, ``[..., N, A]``.
        taken: ``Q(u)``, the value of the joint action taken, ``[...]``.
        action_mask: Nonzero where an action is available, ``[..., N, A]``.
        weights: ``w_i``, weights of the agents, ``[..., N]``.

    Returns:
        Penalties ``[...]``.
    """
    legal = torch.where(action_mask > 0, values, -torch.inf)
    return (weights * legal.logsumexp(dim=-1)).sum(dim=-1) - taken


def divergence_weights(
    values: Tensor, behaviour: Tensor, action_mask: Tensor, temperature: float
) -> Tensor:
    """CFCQL's agent weights: larger for agents further from the behaviour policy.

    ``softmax_i (temperature * D_i)`` of the divergence ``D_i = sum_a mu_i(a) log
    [mu_i(a) / beta_i(a)]`` between the softmax ``mu_i`` of an agent's counterfactual
    values and the behaviour policy ``beta_i`` (Shao et al., 2023, Section 4.3). As in
    their code, ``1e-5`` is first added to both probabilities.

    Args:
        values: See :func:`counterfactual_penalty`, ``[..., N, A]``.
        behaviour: Action probabilities of the behaviour policy, ``[..., N, A]``.
        action_mask: Nonzero where an action is available, ``[..., N, A]``.
        temperature: Temperature, at least 0. At 0 all agents have the same weight.

    Returns:
        ``[..., N]``; the weights sum to 1.
    """
    legal = action_mask > 0
    mu = torch.where(legal, values, -torch.inf).softmax(dim=-1) + _MIN_PROBABILITY
    ratio = mu.log() - (behaviour + _MIN_PROBABILITY).log()
    divergence = torch.where(legal, mu * ratio, 0.0).sum(dim=-1)
    return (temperature * divergence).softmax(dim=-1)
