"""Counterfactual advantages (COMA) of agents with a stochastic policy.

Letters: ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from torch import Tensor

from rllib_risk.ops.shapes import check_shapes


def counterfactual_advantages(
    values: Tensor, probabilities: Tensor, actions: Tensor
) -> Tensor:
    """Counterfactual advantage: value of the action taken minus the policy's mean.

    ``A_i = Q_i(u_i) - sum_a pi_i(a) Q_i(a)``, with the actions of all other agents
    fixed; Foerster et al., "Counterfactual Multi-Agent Policy Gradients" (AAAI 2018),
    Eq. 4.

    Args:
        values: ``Q_i`` of every action of every agent, ``[..., N, A]``.
        probabilities: The policy's action probabilities, ``[..., N, A]``.
        actions: Actions taken, int64 ``[..., N]``.

    Returns:
        Advantages ``[..., N]``.

    Raises:
        ValueError: If the shapes do not match.
    """
    check_shapes(actions=(values, probabilities), agents=(values[..., 0], actions))
    taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return taken - (probabilities * values).sum(dim=-1)
