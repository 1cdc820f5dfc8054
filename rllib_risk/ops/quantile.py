"""Quantile regression between two sets of equally likely atoms.

Letters: ``M`` predicted atoms, ``M2`` target atoms, ``N`` agents, ``G`` outputs of the
mixer (1, or ``N``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rllib_risk.ops.shapes import check_shapes

# QR-DQN's loss, and the losses of two released codes. The released losses collapse all
# atoms to one value.
LossForm = Literal["qrdqn", "rmix_released", "riskq_released"]


def huber(error: Tensor, kappa: float = 1.0) -> Tensor:
    """Huber loss: quadratic within ``kappa``, linear outside.

    RMIX Eq. 8 prints the two branches swapped, which would give ``-kappa^2/2`` at zero.

    Args:
        error: Errors, any shape.
        kappa: Error at which the loss becomes linear.

    Returns:
        The loss per element.
    """
    size = error.abs()
    return torch.where(size <= kappa, 0.5 * error**2, kappa * (size - 0.5 * kappa))


def quantile_fractions(num_atoms: int, kind: str = "midpoint") -> Tensor:
    """The fraction of probability mass that lies below each atom.

    Args:
        num_atoms: ``M``.
        kind: ``midpoint``: ``(2m - 1) / (2M)`` as in QR-DQN (Dabney et al., 2018),
            Eq. 9. ``right_edge``: ``m / M``, the printed form of RMIX.

    Returns:
        float32 ``[M]``.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    edges = torch.arange(1, num_atoms + 1, dtype=torch.float64)
    if kind == "midpoint":
        return ((2 * edges - 1) / (2 * num_atoms)).float()
    if kind == "right_edge":
        return (edges / num_atoms).float()
    raise ValueError(f"Unknown quantile fractions {kind!r}.")


def pairwise_quantile_huber_loss(
    atoms: Tensor,
    target_atoms: Tensor,
    fractions: Tensor,
    kappa: float = 1.0,
    *,
    form: LossForm = "qrdqn",
) -> Tensor:
    """Quantile-Huber loss, computed over all ``M x M2`` pairs.

    QR-DQN (Dabney et al., 2018), Eq. 10; RMIX Eq. 7 and 8 with the branches corrected.
    The loss is the sum over predicted atoms of the mean over target atoms, divided by
    ``kappa``.

    Args:
        atoms: Predicted atoms, ``[..., M]``.
        target_atoms: Target atoms, ``[..., M2]``. They get no gradient.
        fractions: Fraction of each predicted atom, ``[M]``, or ``[..., M]`` if the
            fractions were sampled.
        kappa: Huber threshold.
        form: With ``qrdqn`` the fraction belongs to the predicted atom. In both
            released forms it belongs to the target atom. Every predicted atom then has
            the same loss, and the distribution collapses to a point. The released forms
            need ``M == M2``. ``riskq_released`` gives a target at or below the atom the
            weight ``1 - tau``, as QR-DQN does. ``rmix_released`` gives that weight to a
            target above the atom.

    Returns:
        Losses ``[...]``.

    Raises:
        ValueError: If ``form`` is unknown.
    """
    error = target_atoms.detach().unsqueeze(-2) - atoms.unsqueeze(-1)  # [..., M, M2]
    if form == "qrdqn":
        tau, counted = fractions.unsqueeze(-1), error.detach() < 0
    elif form == "riskq_released":
        tau, counted = fractions.unsqueeze(-2), error.detach() <= 0
    elif form == "rmix_released":
        tau, counted = fractions.unsqueeze(-2), error.detach() > 0
    else:
        raise ValueError(f"Unknown form of the quantile loss {form!r}.")
    weight = (tau - counted.to(error)).abs()
    return (weight * huber(error, kappa) / kappa).mean(dim=-1).sum(dim=-1)


def quantile_huber_loss(
    atoms: Tensor, target_atoms: Tensor, fractions: Tensor, kappa: float = 1.0
) -> Tensor:
    """Quantile-Huber loss in ``O(M log M)``, equal to the pairwise one.

    See :func:`pairwise_quantile_huber_loss`. For one predicted atom the loss is
    piecewise quadratic in its value. If the target atoms are sorted, each piece is a
    range of targets. The sum over a range needs only the number of targets in it, their
    sum and their sum of squares. These come from prefix sums at three positions found
    by bisection. No ``M x M2`` tensor is formed.

    Args:
        atoms: Predicted atoms, ``[..., M]``.
        target_atoms: Target atoms, ``[..., M2]``. They get no gradient.
        fractions: Fraction of each predicted atom, ``[M]``, or ``[..., M]`` if the
            fractions were sampled.
        kappa: Huber threshold.

    Returns:
        ``[...]``, in the dtype of ``atoms``.
    """
    # Sums of squares cancel each other; float64 keeps the result accurate to float32.
    theta = atoms.double()
    with torch.no_grad():
        # searchsorted copies and warns if its arguments are not contiguous.
        targets = torch.sort(target_atoms.double(), dim=-1).values.contiguous()
        zero = torch.zeros_like(targets[..., :1])
        prefix = torch.cat([zero, targets.cumsum(-1)], -1)  # [..., M2 + 1]
        prefix_sq = torch.cat([zero, targets.square().cumsum(-1)], -1)
        where = theta.detach().contiguous()
        low = torch.searchsorted(targets, where - kappa, right=False)
        mid = torch.searchsorted(targets, where, right=False)
        high = torch.searchsorted(targets, where + kappa, right=True)
        last = torch.full_like(low, targets.shape[-1])
        first = torch.zeros_like(low)

    def linear(start: Tensor, stop: Tensor, sign: int) -> Tensor:
        # sum over targets in [start, stop) of kappa * (sign * (T - theta) - kappa / 2)
        count = (stop - start).double()
        total = prefix.gather(-1, stop) - prefix.gather(-1, start)
        return kappa * (sign * (total - count * theta) - 0.5 * kappa * count)

    def square(start: Tensor, stop: Tensor) -> Tensor:
        # sum over targets in [start, stop) of (T - theta)^2 / 2
        count = (stop - start).double()
        total = prefix.gather(-1, stop) - prefix.gather(-1, start)
        total_sq = prefix_sq.gather(-1, stop) - prefix_sq.gather(-1, start)
        return 0.5 * (total_sq - 2.0 * theta * total + count * theta.square())

    # Targets below the atom (T < theta) have weight 1 - tau, those above have tau.
    below = linear(first, low, -1) + square(low, mid)
    above = square(mid, high) + linear(high, last, 1)
    tau = fractions.to(theta)
    per_atom = ((1.0 - tau) * below + tau * above) / (kappa * targets.shape[-1])
    return per_atom.sum(dim=-1).to(atoms.dtype)


def dummy_reward_targets(
    utilities: Tensor,
    next_atoms: Tensor,
    discount: Tensor,
    next_utilities: Tensor | None = None,
) -> Tensor:
    """Target atoms of agents that have no reward of their own; RMIX Eq. 7.

    ``T_j = c_i + gamma (1 - terminated) theta^-_{i,j}(tau', a*_i)``. Only the team has
    a reward, so the agent's utility (its CVaR) ``c_i`` takes the place of the reward.
    If the next utilities are given, the dummy reward is ``c_i - gamma (1 - terminated)
    c'_i``. The utility of the target then equals the current utility.

    Args:
        utilities: ``c_i`` of the actions taken, ``[B, T, N]``.
        next_atoms: Atoms of the next greedy actions, ``[B, T, N, M]``.
        discount: ``gamma (1 - terminated)``, ``[B, T, 1]``.
        next_utilities: ``c'_i``, utilities of ``next_atoms``, ``[B, T, N]``. None: the
            paper's targets.

    Returns:
        Target atoms ``[B, T, N, M]``.

    Raises:
        ValueError: If the shapes do not match.
    """
    check_shapes(agents=(utilities, next_atoms[..., 0]))
    check_shapes(steps=(utilities[..., :1], discount))
    dummy = utilities
    if next_utilities is not None:
        check_shapes(utilities=(utilities, next_utilities))
        dummy = dummy - discount * next_utilities
    return dummy.unsqueeze(-1) + discount.unsqueeze(-1) * next_atoms


def mean_and_shape(values: Tensor, atoms: Tensor) -> Tensor:
    """Team atoms: the mixed mean plus the agents' deviations from their means.

    ``Z(tau) = f + sum_i (theta_i(tau) - E theta_i)``: the mean-shape decomposition of
    DFAC (Sun, Lee and Lee, ICML 2021). ``E`` is the mean over the given atoms.

    Args:
        values: ``f``, the mixer's output for the means ``E theta_i``, ``[..., G]``.
        atoms: ``theta_i``, at the same fractions for all agents, ``[..., N, M]``.

    Returns:
        Atoms ``[..., G, M]``. With ``G = N`` every agent keeps its own deviations.
    """
    shape = atoms - atoms.mean(dim=-1, keepdim=True)
    if values.shape[-1] == 1:
        shape = shape.sum(dim=-2, keepdim=True)
    return values.unsqueeze(-1) + shape
