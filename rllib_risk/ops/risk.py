"""Risk measures of a return distribution of equally likely atoms.

Every measure here except :func:`mean_variance` is a weighted sum of the *sorted* atoms.
Each risk level has one row of weights, so one matrix product computes all levels of a
distribution. The gradient of an atom is its weight in the row of the chosen level.

Such a measure is a distortion of probability. A distortion has two forms:

* fractions: a map ``beta`` of [0, 1] such that the measure is ``E[Z(beta(tau))]`` with
  ``tau`` uniform and ``Z`` the quantile function. It is used for quantiles at sampled
  fractions (IQN: Dabney et al., 2018, Section 3): :func:`distort_fractions`.
* weights: ``Z`` of ``M`` atoms is a step function with atom ``j`` on the fractions
  ``((j - 1)/M, j/M]``. Let ``g`` be the inverse of ``beta``. ``beta(tau)`` lies in that
  interval for ``tau`` from ``g((j - 1)/M)`` to ``g(j/M)``. So atom ``j`` has the weight
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

# Default parameter of each distortion: the value used in IQN's experiments.
DISTORTION_PARAMETERS = {"wang": -0.75, "cpw": 0.71, "power": -2.0}


def as_fraction(level: float | str | Fraction) -> Fraction:
    """Converts a risk level to the exact fraction of its decimal: ``0.3`` is 3/10.

    Atom counts need integer arithmetic: in float32 ``ceil(0.3 * 100)`` is 31.

    Args:
        level: A risk level in (0, 1].

    Returns:
        The level as a fraction.

    Raises:
        ValueError: If the level is outside (0, 1].
    """
    try:
        fraction = level if isinstance(level, Fraction) else Fraction(str(level))
    except ValueError:  # such as nan
        raise ValueError(f"A risk level must be in (0, 1], not {level}.") from None
    if not 0 < fraction <= 1:
        raise ValueError(f"A risk level must be in (0, 1], not {level}.")
    return fraction


def simple_level(level: float | Fraction) -> Fraction:
    """Rounds a risk level to a fraction with a small denominator.

    A schedule yields 0.30000000000000004, for which CVaR would keep 31 atoms of 100.

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
        The count, computed in integer arithmetic.
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

    RMIX (Qiu et al., NeurIPS 2021), Section 3. ``count`` is the mean of the kept atoms;
    only in this form is level 1 the mean. ``eq2_raw`` is the printed Eq. 2, which lacks
    the factor 1/alpha. ``code_offby1`` divides by one atom less than it keeps, as the
    released code does; a single kept atom is divided by 1.

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
        ValueError: If ``norm`` or ``mode`` is unknown, or they cannot be combined.
    """
    norms, modes = ("count", "eq2_raw", "code_offby1"), (*_COUNTS, "exact")
    if norm not in norms or mode not in modes:
        raise ValueError(
            f"Unknown CVaR form: norm={norm!r}, mode={mode!r}. Use a norm of {norms}"
            f" and a mode of {modes}."
        )
    if mode == "exact" and norm != "count":
        raise ValueError(
            f"cvar_mode 'exact' needs cvar_norm 'count', not {norm!r}: set one of them."
        )
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

    VaR is the quantile at the level: the ``ceil(alpha M)``-th lowest atom. It is the
    lowest atom with a probability of at least ``alpha`` at or below it.

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
    """Raises an error for an unknown distortion or an invalid parameter.

    Args:
        kind: ``wang``, ``cpw`` or ``power``.
        parameter: Parameter ``eta`` of the distortion.

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
            f"The parameter of cpw must be at least 0.2795, not {parameter}: below that"
            " its map of fractions is not increasing."
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
    # There is no closed form. After 60 bisections the interval is below the resolution
    # of float64.
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

    The maps are those of IQN (Dabney et al., 2018, Section 3), with parameter ``eta``:

    * ``wang`` (Wang, 2000): ``Phi(Phi^-1(tau) + eta)``; risk averse for ``eta < 0``,
      risk seeking for ``eta > 0``.
    * ``cpw``: ``tau^eta / (tau^eta + (1 - tau)^eta)^(1 / eta)``, with 0.71 from Wu and
      Gonzalez (1996); 1 is the mean. In prospect theory (Tversky and Kahneman, 1992)
      this curve distorts cumulative probability: below 1, rare losses and gains count
      more. IQN maps fractions with it, which is the inverse distortion: below 1 both
      tails count *less*, and above 1 more.
    * ``power``: ``tau^(1 / (1 + |eta|))`` for ``eta >= 0`` (seeking), else ``1 - (1 -
      tau)^(1 / (1 + |eta|))`` (averse).

    Args:
        kind: ``wang``, ``cpw`` or ``power``.
        fractions: Fractions in [0, 1], any shape.
        parameter: ``eta``.

    Returns:
        Fractions of the same shape and dtype, computed in float64.

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
        float32 ``[M]``, not negative; they sum to 1.

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
    # The outer edges are exactly 0 and 1; the maps could change their last bits.
    zero, one = edges.new_zeros(1), edges.new_ones(1)
    return torch.cat([zero, masses, one]).diff().float()


def mean_variance(atoms: Tensor, penalty: float) -> Tensor:
    """Mean minus ``penalty`` times variance: Markowitz (1952).

    The atoms are the whole distribution, so the variance divides by ``M``, not
    ``M - 1``. It is quadratic in the atoms, so it is not a weighted sum of them.

    Args:
        atoms: Atoms ``[..., M]`` in any order.
        penalty: Weight of the variance, at least 0, per unit of return. If rewards are
            doubled, halve it.

    Returns:
        Utilities ``[...]``.

    Raises:
        ValueError: If the penalty is negative or not finite.
    """
    if not (math.isfinite(penalty) and penalty >= 0):
        raise ValueError(
            f"The penalty of mean_variance must be at least 0, not {penalty}."
        )
    return atoms.mean(dim=-1) - penalty * atoms.var(dim=-1, correction=0)


def sort_atoms(atoms: Tensor) -> Tensor:
    """Sorts the last axis in ascending order.

    On the CPU it uses NumPy's vectorised sort, which is several times faster than
    ``torch.sort`` and gives the same values and gradients.

    Args:
        atoms: Atoms ``[..., M]`` in any order.

    Returns:
        Ascending atoms ``[..., M]``.
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
        atoms: Atoms ``[..., M]`` in any order.
        level: Risk level in (0, 1].
        norm: See :func:`cvar_weights`.
        mode: See :func:`cvar_weights`.

    Returns:
        CVaRs ``[...]``.
    """
    weights = cvar_weights([level], atoms.shape[-1], norm=norm, mode=mode)
    return sort_atoms(atoms) @ weights[0].to(atoms)


def straight_through_level(level_values: Tensor, level_probs: Tensor) -> Tensor:
    """Straight-through value at the most likely risk level.

    The forward value is the value at the most likely level. Its gradient flows back to
    the atoms through ``level_values``. ``level_probs`` gets the gradient of the
    expectation over levels, so that the level predictor learns despite the argmax.

    Args:
        level_values: Values at all levels, ``[..., K]``.
        level_probs: Probability of each level, ``[..., K]``.

    Returns:
        Values ``[...]``.
    """
    chosen = level_probs.argmax(dim=-1, keepdim=True)
    hard = level_values.gather(-1, chosen).squeeze(-1)
    soft = (level_probs * level_values.detach()).sum(dim=-1)
    # The bracket is exactly zero: the forward value is the hard choice to the last bit.
    return hard + (soft - soft.detach())
