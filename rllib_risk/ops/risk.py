"""Risk measures of a return distribution that is given by equally likely atoms.

Every measure here is a weighted sum of the *sorted* atoms: one row of weights per risk
level. A level is chosen by picking a row, a gradient reaches an atom with the weight it
has in that row, and all levels of one distribution come from a single matrix product.

Letters: ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor


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
    fraction = level if isinstance(level, Fraction) else Fraction(str(level))
    if not 0 < fraction <= 1:
        raise ValueError(f"A risk level must be in (0, 1], not {level}.")
    return fraction


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
        mode: ``ceil`` keeps ``ceil(alpha M)`` whole atoms; ``exact`` gives the last one
            the fractional weight of Rockafellar and Uryasev (2000).

    Returns:
        float32 ``[K, M]``.

    Raises:
        ValueError: If ``norm`` or ``mode`` is unknown, or they do not go together.
    """
    if norm not in ("count", "eq2_raw", "code_offby1") or mode not in ("ceil", "exact"):
        raise ValueError(f"Unknown CVaR form: norm={norm!r}, mode={mode!r}.")
    if mode == "exact" and norm != "count":
        raise ValueError("cvar_mode 'exact' is defined for cvar_norm 'count' only.")
    weights = torch.zeros(len(levels), num_atoms, dtype=torch.float64)
    for row, level in zip(weights, map(as_fraction, levels), strict=True):
        kept = num_kept_atoms(level, num_atoms)
        if mode == "exact":
            whole = level.numerator * num_atoms // level.denominator
            row[:whole] = float(1 / (level * num_atoms))
            if whole < num_atoms:
                rest = level - Fraction(whole, num_atoms)
                row[whole] = float(rest / level)
        elif norm == "count":
            row[:kept] = 1.0 / kept
        elif norm == "eq2_raw":
            row[:kept] = 1.0 / num_atoms
        else:
            row[:kept] = 1.0 / max(kept - 1, 1)
    return weights.float()


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
