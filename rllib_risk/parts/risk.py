"""Risk measures as parts of the network: from return atoms to one utility per action.

Letters: ``A`` actions, ``M`` atoms (or sampled quantiles), ``K`` risk levels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rllib_risk.ops.risk import (
    DISTORTION_PARAMETERS,
    cvar_weights,
    distort_fractions,
    distortion_weights,
    mean_variance,
    simple_level,
    sort_atoms,
    straight_through_level,
    var_weights,
)
from rllib_risk.parts.imports import import_part

# Per unit of return, so that no number suits every environment.
DEFAULT_VARIANCE_PENALTY = 0.1


class RiskMeasure(nn.Module):
    """What a risk measure must do. To write one of your own, override :meth:`forward`.

    For sampled quantiles override :meth:`distort` too, and :meth:`of_samples` where the
    measure is not the mean of the quantiles at distorted fractions.

    Attributes:
        num_atoms: ``M``.
        levels: The risk levels that can be reported, as floats.
    """

    levels: tuple[float, ...] = (1.0,)

    def __init__(self, num_atoms: int) -> None:
        """Initializes the measure.

        Args:
            num_atoms: ``M``.
        """
        super().__init__()
        self.num_atoms = num_atoms

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """Utility of the action whose atoms are given, with gradients.

        Args:
            atoms: Equally likely, in any order, ``[..., M]``.
            level_logits: Logits of the predicted risk level, ``[..., K]``; None where
                none is predicted.

        Returns:
            ``[...]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    @torch.no_grad()
    def of_all_actions(
        self, atoms: Tensor, level_logits: Tensor | None = None
    ) -> Tensor:
        """Utilities of all actions, without gradients: for acting and for the argmax.

        Args:
            atoms: ``[..., A, M]``.
            level_logits: The same for all actions, ``[..., K]``, or None.

        Returns:
            ``[..., A]``.
        """
        if level_logits is not None:
            shape = (*atoms.shape[:-1], level_logits.shape[-1])
            level_logits = level_logits.unsqueeze(-2).expand(shape)  # [..., A, K]
        return self(atoms, level_logits)

    def distort(self, fractions: Tensor) -> Tensor:
        """Where to ask for quantiles, given fractions drawn uniformly from [0, 1].

        Args:
            fractions: Any shape.

        Returns:
            The same shape.

        Raises:
            ValueError: If the measure has no map of fractions.
        """
        raise ValueError(
            f"The risk measure {type(self).__name__} has no map of fractions (no"
            " distort()), so it cannot be used with sampled quantiles."
        )

    def of_samples(self, atoms: Tensor) -> Tensor:
        """Utility from quantiles at fractions that :meth:`distort` gave.

        Args:
            atoms: ``[..., M]``.

        Returns:
            ``[...]``.
        """
        return atoms.mean(dim=-1)

    def set_level(self, alpha: float) -> None:
        """Moves a static risk level; nothing happens where the measure has none.

        Args:
            alpha: The level, in (0, 1].
        """


class Mean(RiskMeasure):
    """The risk-neutral measure: the mean of the atoms."""

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        return atoms.squeeze(-1) if atoms.shape[-1] == 1 else atoms.mean(dim=-1)

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.distort`."""
        return fractions


class MeanVariance(RiskMeasure):
    """Mean minus a multiple of the variance, as in ``rllib_risk.ops.risk``."""

    def __init__(self, num_atoms: int, penalty: float) -> None:
        """Initializes the measure.

        Args:
            num_atoms: ``M``.
            penalty: Factor of the variance, at least 0.
        """
        super().__init__(num_atoms)
        mean_variance(torch.zeros(1), penalty)  # refuses it now rather than later
        self.penalty = penalty

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        return mean_variance(atoms, self.penalty)

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.distort`."""
        return fractions

    def of_samples(self, atoms: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.of_samples`."""
        return mean_variance(atoms, self.penalty)


class SortedAtoms(RiskMeasure):
    """A weighted sum of the ascending atoms, with one row of weights per level.

    Attributes:
        weights: ``[K, M]``.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, straight_through: bool = False) -> None:
        """Initializes the measure.

        Args:
            weights: ``[K, M]``.
            straight_through: Whether the predictor of the level gets a gradient.
        """
        super().__init__(weights.shape[-1])
        self.straight_through = straight_through
        # A constant, not a parameter: it does not belong in a checkpoint.
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        ascending = sort_atoms(atoms)
        if level_logits is None:
            return ascending @ self.weights[0]
        if self.straight_through and torch.is_grad_enabled():
            level_values = ascending @ self.weights.T  # [..., K]
            return straight_through_level(level_values, level_logits.softmax(dim=-1))
        chosen = self.weights[level_logits.argmax(dim=-1)]  # [..., M]
        return (ascending * chosen).sum(dim=-1)

    @torch.no_grad()
    def of_all_actions(
        self, atoms: Tensor, level_logits: Tensor | None = None
    ) -> Tensor:
        """See :meth:`RiskMeasure.of_all_actions`."""
        ascending = sort_atoms(atoms)
        if level_logits is None:
            return ascending @ self.weights[0]
        chosen = self.weights[level_logits.argmax(dim=-1)]  # [..., M]
        return (ascending @ chosen.unsqueeze(-1)).squeeze(-1)


class Distorted(SortedAtoms):
    """Wang, CPW or power: :func:`rllib_risk.ops.risk.distort_fractions`."""

    def __init__(self, kind: str, parameter: float, num_atoms: int) -> None:
        """Initializes the measure.

        Args:
            kind: ``wang``, ``cpw`` or ``power``.
            parameter: Its ``eta``.
            num_atoms: ``M``.
        """
        super().__init__(distortion_weights(kind, parameter, num_atoms).unsqueeze(0))
        self.kind = kind
        self.parameter = parameter

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.distort`."""
        return distort_fractions(self.kind, fractions, self.parameter)


class LevelMeasure(SortedAtoms):
    """CVaR or VaR at one static level, or at the level that is predicted.

    CVaR: RMIX (Qiu et al., NeurIPS 2021), Eq. 2 to 6.
    """

    def __init__(
        self,
        kind: str,
        levels: Sequence[float | Fraction],
        num_atoms: int,
        *,
        predicted: bool,
        straight_through: bool,
        norm: str = "count",
        mode: str = "ceil",
    ) -> None:
        """Initializes the measure.

        Args:
            kind: ``cvar`` or ``var``.
            levels: One static level, or the ``K`` levels to predict from.
            num_atoms: ``M``.
            predicted: Whether the level is predicted.
            straight_through: Whether the predictor gets a gradient.
            norm: See :func:`rllib_risk.ops.risk.cvar_weights`.
            mode: See :func:`rllib_risk.ops.risk.cvar_weights`.

        Raises:
            ValueError: If a level is out of range or there are several static ones.
        """
        if len(levels) != 1 and not predicted:
            raise ValueError(f"There is one static risk level, not {len(levels)}.")
        rows = partial(_level_weights, kind, num_atoms=num_atoms, norm=norm, mode=mode)
        exact = [simple_level(level) for level in levels]
        super().__init__(rows(exact), straight_through)
        self._rows = rows
        self._kind, self._norm, self._predicted = kind, norm, predicted
        self.levels = tuple(float(level) for level in exact)

    @torch.no_grad()
    def set_level(self, alpha: float) -> None:
        """See :meth:`RiskMeasure.set_level`; nothing happens to predicted levels.

        The weights change in place, under everyone who holds them.
        """
        level = simple_level(alpha)
        if self._predicted or self.levels == (float(level),):
            return
        self.weights.copy_(self._rows([level]))
        self.levels = (float(level),)

    def distort(self, fractions: Tensor) -> Tensor:
        """``alpha tau`` for CVaR, ``alpha`` itself for VaR, at the static level.

        Args:
            fractions: Any shape.

        Returns:
            The same shape.

        Raises:
            ValueError: If the level is predicted, or for a CVaR that is not normalised.
        """
        if self._predicted or self._norm != "count":
            raise ValueError(
                "Sampled quantiles need a static risk level and cvar_norm 'count'."
            )
        if self._kind == "var":
            return torch.full_like(fractions, self.levels[0])
        return self.levels[0] * fractions


def _level_weights(
    kind: str, levels: Sequence[Fraction], num_atoms: int, norm: str, mode: str
) -> Tensor:
    if kind == "cvar":
        return cvar_weights(levels, num_atoms, norm=norm, mode=mode)
    if kind == "var":
        return var_weights(levels, num_atoms)
    raise ValueError(f"Unknown risk measure with a level: {kind!r}.")


class RiskConfig(Protocol):
    """What :func:`make_risk` reads; every name is that of its configuration key."""

    @property
    def risk_measure(self) -> str: ...
    @property
    def risk_mode(self) -> str: ...
    @property
    def alpha(self) -> float | Sequence[Sequence[float]]: ...
    @property
    def risk_levels(self) -> int: ...
    @property
    def cvar_norm(self) -> str: ...
    @property
    def cvar_mode(self) -> str: ...
    @property
    def risk_grad(self) -> str: ...
    @property
    def risk_parameter(self) -> float | None: ...
    @property
    def risk_kwargs(self) -> Mapping[str, Any]: ...


def make_risk(config: RiskConfig, num_atoms: int) -> RiskMeasure:
    """The risk measure that a configuration names.

    Args:
        config: The keys. Where ``alpha`` is a schedule, its first value counts; later
            ones come through :meth:`RiskMeasure.set_level`.
        num_atoms: ``M``.

    Returns:
        The measure.

    Raises:
        ValueError: If the measure does not exist or one of its keys is out of range.
    """
    kind, parameter = config.risk_measure, config.risk_parameter
    if kind == "mean":
        return Mean(num_atoms)
    if kind == "mean_variance":
        penalty = DEFAULT_VARIANCE_PENALTY if parameter is None else parameter
        return MeanVariance(num_atoms, penalty)
    if kind in DISTORTION_PARAMETERS:
        eta = DISTORTION_PARAMETERS[kind] if parameter is None else parameter
        return Distorted(kind, eta, num_atoms)
    if kind in ("cvar", "var"):
        return _make_level_measure(kind, config, num_atoms)
    return _make_own(kind, num_atoms, config.risk_kwargs)


def _make_own(path: str, num_atoms: int, kwargs: Mapping[str, Any]) -> RiskMeasure:
    """Makes a user's measure and tries it once: a wrong shape would broadcast."""
    part = import_part(path, RiskMeasure, "risk_measure")
    try:
        inspect.signature(part).bind(num_atoms, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"risk_measure {path!r} is called with (num_atoms, **risk_kwargs),"
            f" risk_kwargs = {dict(kwargs)}: {error}."
        ) from error
    risk: RiskMeasure = part(num_atoms, **kwargs)
    shape = list(risk.of_all_actions(torch.zeros(2, 3, num_atoms)).shape)
    if shape != [2, 3]:
        raise ValueError(
            f"risk_measure {path!r} must reduce [..., M] to [...];"
            f" from [2, 3, {num_atoms}] it made {shape}."
        )
    return risk


def _make_level_measure(kind: str, config: RiskConfig, num_atoms: int) -> LevelMeasure:
    levels: list[float | Fraction]
    if config.risk_mode == "dynamic":
        levels = [
            Fraction(k, config.risk_levels) for k in range(1, config.risk_levels + 1)
        ]
    elif isinstance(config.alpha, (int, float)):
        levels = [config.alpha]
    else:
        levels = [config.alpha[0][1]]
    return LevelMeasure(
        kind,
        levels,
        num_atoms,
        predicted=config.risk_mode == "dynamic",
        straight_through=config.risk_grad == "straight_through",
        norm=config.cvar_norm,
        mode=config.cvar_mode,
    )
