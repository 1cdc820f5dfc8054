"""Risk measures of a return distribution that is given by equally likely atoms.

Every measure here but :func:`mean_variance` is a weighted sum of the *sorted* atoms:
one row of weights per risk level. A level is chosen by picking a row, a gradient
reaches an atom with the weight it has in that row, and all levels of one distribution
come from a single matrix product.

Such a measure is a distortion of probability. There are two views of one distortion:

* fractions: a map ``beta`` of [0, 1] such that the measure is ``E[Z(beta(tau))]`` with
  ``tau`` uniform and ``Z`` the quantile function. It serves quantiles at sampled
  fractions (IQN: Dabney et al., 2018, Section 3): :func:`distort_fractions`.
* weights: ``Z`` of ``M`` atoms is a step function, atom ``j`` on the fractions
  ``((j - 1)/M, j/M]``. ``beta(tau)`` lies there for ``tau`` from ``g((j - 1)/M)`` to
  ``g(j/M)``, where ``g`` is the inverse of ``beta``, so that this atom has the weight
  ``g(j/M) - g((j - 1)/M)``: :func:`distortion_weights`.

Letters: ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

# The parameter of each distortion where none is given: what IQN was measured with.
DISTORTION_PARAMETERS = {"wang": -0.75, "cpw": 0.71, "power": -2.0}


def as_fraction(level: float | str | Fraction) -> Fraction:
    """The decimal a user wrote, exactly: ``0.3`` becomes 3/10.

    Atom counts must come from integers: in float32 ``ceil(0.3 * 100)`` is 31.

    Args:
        level: A risk level in (0, 1].

    Returns:
        The level as a fraction.

    Raises:
        ValueError: If the level is outside (0, 1].
    """
    try:
        fraction = level if isinstance(level, Fraction) else Fraction(str(level))
    except ValueError:  # nan, for one
        raise ValueError(f"A risk level must be in (0, 1], not {level}.") from None
    if not 0 < fraction <= 1:
        raise ValueError(f"A risk level must be in (0, 1], not {level}.")
    return fraction


def simple_level(level: float | Fraction) -> Fraction:
    """The simplest fraction that is meant by a level.

    A schedule yields 0.30000000000000004, which as written keeps 31 atoms of 100.

    Args:
        level: A risk level in (0, 1].

    Returns:
        The closest fraction whose denominator has at most six digits.

    Raises:
        ValueError: If the level is outside (0, 1].
    """
    simple = as_fraction(level).limit_denominator(999_999)
    if simple == 0:
        raise ValueError(f"A risk level must be at least 1e-6, not {level}.")
    return simple


def num_kept_atoms(level: float | str | Fraction, num_atoms: int) -> int:
    """Number of lowest atoms that CVaR at ``level`` averages: ``ceil(level * M)``.

    Args:
        level: Risk level in (0, 1].
        num_atoms: ``M``.

    Returns:
        The count, in integer arithmetic.
    """
    fraction = as_fraction(level)
    return -(-fraction.numerator * num_atoms // fraction.denominator)


def num_kept_atoms_float32(level: float | str | Fraction, num_atoms: int) -> int:
    """Number of lowest atoms that the released RMIX code keeps.

    The code computes ``ceil(alpha * M - 1) + 1`` in float32. Where ``alpha`` rounds up,
    this is one more than :func:`num_kept_atoms`: 31 atoms of 100 at level 0.3.

    Args:
        level: Risk level in (0, 1].
        num_atoms: ``M``.

    Returns:
        The count.
    """
    fraction = as_fraction(level)
    rounded = np.float32(fraction.numerator) / np.float32(fraction.denominator)
    last = np.ceil(rounded * np.float32(num_atoms) - np.float32(1.0))
    return min(int(last) + 1, num_atoms)


_COUNTS = {"ceil": num_kept_atoms, "ceil_float32": num_kept_atoms_float32}


def cvar_weights(
    levels: Sequence[float | str | Fraction],
    num_atoms: int,
    *,
    norm: str = "count",
    mode: str = "ceil",
) -> Tensor:
    """Weights of the ascending atoms in CVaR at each level.

    RMIX (Qiu et al., NeurIPS 2021), Section 3. ``count`` is the mean of the kept atoms,
    the only form for which level 1 is the mean. ``eq2_raw`` is the printed Eq. 2, which
    lacks the factor 1/alpha. ``code_offby1`` divides by one atom too few, as the
    released code does; where that would divide by zero it keeps the one atom.

    Args:
        levels: ``K`` risk levels in (0, 1].
        num_atoms: ``M``.
        norm: ``count``, ``eq2_raw`` or ``code_offby1``.
        mode: ``ceil`` keeps ``ceil(alpha M)`` whole atoms; ``ceil_float32`` counts them
            as the released code does (:func:`num_kept_atoms_float32`); ``exact`` gives
            the last one the fractional weight of Rockafellar and Uryasev (2000).

    Returns:
        float32 ``[K, M]``.

    Raises:
        ValueError: If ``norm`` or ``mode`` is unknown, or they do not go together.
    """
    norms, modes = ("count", "eq2_raw", "code_offby1"), (*_COUNTS, "exact")
    if norm not in norms or mode not in modes:
        raise ValueError(f"Unknown CVaR form: norm={norm!r}, mode={mode!r}.")
    if mode == "exact" and norm != "count":
        raise ValueError("cvar_mode 'exact' is defined for cvar_norm 'count' only.")
    weights = torch.zeros(len(levels), num_atoms, dtype=torch.float64)
    for row, level in zip(weights, map(as_fraction, levels), strict=True):
        if mode == "exact":
            whole = level.numerator * num_atoms // level.denominator
            row[:whole] = float(1 / (level * num_atoms))
            if whole < num_atoms:
                rest = level - Fraction(whole, num_atoms)
                row[whole] = float(rest / level)
            continue
        kept = _COUNTS[mode](level, num_atoms)
        if norm == "count":
            row[:kept] = 1.0 / kept
        elif norm == "eq2_raw":
            row[:kept] = 1.0 / num_atoms
        else:
            row[:kept] = 1.0 / max(kept - 1, 1)
    return weights.float()


def var_weights(levels: Sequence[float | str | Fraction], num_atoms: int) -> Tensor:
    """Weights of the ascending atoms in the value at risk (VaR) at each level.

    VaR is the quantile at the level, here the lowest atom with at least that much
    probability at or below it: the ``ceil(alpha M)``-th.

    Args:
        levels: ``K`` risk levels in (0, 1].
        num_atoms: ``M``.

    Returns:
        float32 ``[K, M]``, a single 1 per row.

    Raises:
        ValueError: If a level is outside (0, 1].
    """
    weights = torch.zeros(len(levels), num_atoms)
    for row, level in zip(weights, levels, strict=True):
        row[num_kept_atoms(level, num_atoms) - 1] = 1.0
    return weights


def check_distortion(kind: str, parameter: float) -> None:
    """Refuses a distortion that does not exist.

    Args:
        kind: ``wang``, ``cpw`` or ``power``.
        parameter: Its ``eta``.

    Raises:
        ValueError: If the kind is unknown or the parameter outside its range.
    """
    if kind not in DISTORTION_PARAMETERS:
        raise ValueError(
            f"Unknown distortion {kind!r}: it must be one of"
            f" {', '.join(DISTORTION_PARAMETERS)}."
        )
    if not math.isfinite(parameter):
        raise ValueError(f"The parameter of {kind} must be finite, not {parameter}.")
    if kind == "cpw" and not _cpw_is_increasing(parameter):
        raise ValueError(
            "The parameter of cpw must be at least 0.2795, where its map of fractions"
            f" begins to be increasing, not {parameter}."
        )


def _cpw_is_increasing(eta: float) -> bool:
    # With x = (1 - tau) / tau, beta' has the sign of eta - 1 + eta x^eta + x^(eta - 1).
    # For eta < 1 that is smallest at x = (1 - eta) / eta^2, where its last two terms
    # make x^(eta - 1) / eta.
    if eta <= 0:
        return False
    return eta >= 1 or ((1 - eta) / eta**2) ** (eta - 1) >= eta * (1 - eta)


def _wang(tau: Tensor, eta: float) -> Tensor:
    moved: Tensor = torch.special.ndtr(torch.special.ndtri(tau) + eta)
    return moved


def _cpw(tau: Tensor, eta: float) -> Tensor:
    mass, rest = tau**eta, (1.0 - tau) ** eta
    return mass / (mass + rest) ** (1.0 / eta)


def _inverse_cpw(fractions: Tensor, eta: float) -> Tensor:
    # It has no closed form. 60 halvings leave less than float64 can tell apart.
    low, high = torch.zeros_like(fractions), torch.ones_like(fractions)
    for _ in range(60):
        middle = (low + high) / 2
        below = _cpw(middle, eta) < fractions
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _power(tau: Tensor, exponent: float, seeking: bool) -> Tensor:
    return tau**exponent if seeking else 1.0 - (1.0 - tau) ** exponent


def distort_fractions(kind: str, fractions: Tensor, parameter: float) -> Tensor:
    """Maps uniform fractions so that the mean of their quantiles is the measure.

    As IQN (Dabney et al., 2018, Section 3) prints them, with ``eta`` the parameter:

    * ``wang`` (Wang, 2000): ``Phi(Phi^-1(tau) + eta)``; averse below 0, seeking above.
    * ``cpw``: ``tau^eta / (tau^eta + (1 - tau)^eta)^(1 / eta)``, with 0.71 from Wu and
      Gonzalez (1996); 1 is the mean. In prospect theory (Tversky and Kahneman, 1992)
      this curve distorts cumulative probability, and below 1 rare losses and gains
      count more. IQN asks for quantiles along it, which is the inverse: below 1 both
      tails count *less*, and above 1 more.
    * ``power``: ``tau^(1 / (1 + |eta|))`` for ``eta >= 0`` (seeking), else ``1 - (1 -
      tau)^(1 / (1 + |eta|))`` (averse).

    Args:
        kind: ``wang``, ``cpw`` or ``power``.
        fractions: Any shape, in [0, 1].
        parameter: ``eta``.

    Returns:
        The same shape and type. The arithmetic is in float64.

    Raises:
        ValueError: See :func:`check_distortion`.
    """
    check_distortion(kind, parameter)
    tau = fractions.double()
    if kind == "wang":
        mapped = _wang(tau, parameter)
    elif kind == "cpw":
        mapped = _cpw(tau, parameter)
    else:
        mapped = _power(tau, 1.0 / (1.0 + abs(parameter)), parameter >= 0)
    return mapped.to(fractions)


def distortion_weights(kind: str, parameter: float, num_atoms: int) -> Tensor:
    """Weights of the ascending atoms in the measure of :func:`distort_fractions`.

    Args:
        kind: ``wang``, ``cpw`` or ``power``.
        parameter: ``eta``.
        num_atoms: ``M``.

    Returns:
        float32 ``[M]``, not negative, with the sum 1.

    Raises:
        ValueError: See :func:`check_distortion`.
    """
    check_distortion(kind, parameter)
    edges = torch.arange(1, num_atoms, dtype=torch.float64) / num_atoms
    if kind == "wang":
        masses = _wang(edges, -parameter)
    elif kind == "cpw":
        masses = _inverse_cpw(edges, parameter)
    else:
        masses = _power(edges, 1.0 + abs(parameter), parameter >= 0)
    # The outer edges stay where they are, to the last bit.
    zero, one = edges.new_zeros(1), edges.new_ones(1)
    return torch.cat([zero, masses, one]).diff().float()


def mean_variance(atoms: Tensor, penalty: float) -> Tensor:
    """Mean minus ``penalty`` times variance: Markowitz (1952).

    The variance of the atoms as the whole distribution, over ``M`` and not ``M - 1``.
    It is quadratic in the atoms, so no row of weights makes it.

    Args:
        atoms: ``[..., M]`` in any order.
        penalty: At least 0, per unit of return: halve it where rewards are doubled.

    Returns:
        ``[...]``.

    Raises:
        ValueError: If the penalty is negative or not finite.
    """
    if not (math.isfinite(penalty) and penalty >= 0):
        raise ValueError(
            f"The penalty of mean_variance must be a number from 0 on, not {penalty}."
        )
    return atoms.mean(dim=-1) - penalty * atoms.var(dim=-1, correction=0)


def sort_atoms(atoms: Tensor) -> Tensor:
    """Sorts the last axis ascending.

    On the CPU NumPy's vectorised sort takes over: it is several times faster than
    ``torch.sort`` and gives the same values and gradients.

    Args:
        atoms: ``[..., M]``.

    Returns:
        ``[..., M]``.
    """
    if atoms.device.type != "cpu":
        return torch.sort(atoms, dim=-1).values
    values = atoms.detach().numpy()
    if atoms.requires_grad and torch.is_grad_enabled():
        return atoms.gather(-1, torch.from_numpy(np.argsort(values, axis=-1)))
    return torch.from_numpy(np.sort(values, axis=-1))


def cvar(
    atoms: Tensor,
    level: float | str | Fraction,
    *,
    norm: str = "count",
    mode: str = "ceil",
) -> Tensor:
    """CVaR of the atoms on the last axis at one level; see :func:`cvar_weights`.

    Args:
        atoms: ``[..., M]`` in any order.
        level: Risk level in (0, 1].
        norm: See :func:`cvar_weights`.
        mode: See :func:`cvar_weights`.

    Returns:
        ``[...]``.
    """
    weights = cvar_weights([level], atoms.shape[-1], norm=norm, mode=mode)
    return sort_atoms(atoms) @ weights[0].to(atoms)


def straight_through_level(level_values: Tensor, level_probs: Tensor) -> Tensor:
    """The value at the most likely level, with a gradient for the level predictor.

    Forward it is the hard choice. Backward, the atoms behind ``level_values`` get the
    hard choice's gradient and ``level_probs`` that of the expectation over levels, so
    that the predictor learns although an argmax stands in between.

    Args:
        level_values: Values at all levels, ``[..., K]``.
        level_probs: Probability of each level, ``[..., K]``.

    Returns:
        ``[...]``.
    """
    chosen = level_probs.argmax(dim=-1, keepdim=True)
    hard = level_values.gather(-1, chosen).squeeze(-1)
    soft = (level_probs * level_values.detach()).sum(dim=-1)
    # The bracket is exactly zero, so that the value is the hard choice to the last bit.
    return hard + (soft - soft.detach())
