"""Counterfactual advantages of agents with a stochastic policy.

Letters: ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from torch import Tensor

from rllib_risk.ops.shapes import check_shapes


def counterfactual_advantages(
    values: Tensor, probabilities: Tensor, actions: Tensor
) -> Tensor:
    """How much better an action was than what the policy would have got in its place.

    ``A_i = Q_i(u_i) - sum_a pi_i(a) Q_i(a)``, the actions of all others as they are;
    Foerster et al., "Counterfactual Multi-Agent Policy Gradients" (AAAI 2018), Eq. 4.

    Args:
        values: ``Q_i`` of every action of every agent, ``[..., N, A]``.
        probabilities: The policy, ``[..., N, A]``.
        actions: int64 ``[..., N]``.

    Returns:
        ``[..., N]``.

    Raises:
        ValueError: If shapes differ that must not.
    """
    check_shapes(actions=(values, probabilities), agents=(values[..., 0], actions))
    taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return taken - (probabilities * values).sum(dim=-1)
