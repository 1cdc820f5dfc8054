"""RMIX's quantile regression, a second loss of the networks, and its start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_RATE
from rllib_risk.ops.quantile import dummy_reward_targets
from rllib_risk.parts.base import Part
from rllib_risk.parts.fractions import GridOptions, fractions_of
from rllib_risk.parts.losses.quantile import (
    HuberOptions,
    refuse_other_fractions,
    regress,
)
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View


class Gate(Part):
    """Decides when RMIX's quantile regression starts; this base class never starts it.

    Attributes:
        regresses: Whether there is a quantile regression.
        needs_success: Whether the gate needs the success rate of evaluations.
    """

    regresses: ClassVar[bool] = False
    needs_success: ClassVar[bool] = False

    def is_open(self, env_steps: int, success_rate: float | None) -> bool:
        """Whether the regression may start.

        Args:
            env_steps: Env steps sampled so far.
            success_rate: Success rate of the last evaluation; None if unknown.
        """
        return False


class QuantileRegression(Gate):
    """RMIX's quantile regression of the agents' atoms; Algorithm 1, Eq. 7 and 8.

    A custom gate defines :meth:`is_open`.
    """

    @dataclass(frozen=True)
    class Options(GridOptions, HuberOptions):
        qr_interval: int = option(
            1000,
            "Minimum interval between updates of the quantile regression, in"
            " qr_interval_unit.",
            low=1,
        )
        qr_interval_unit: Literal["env_steps", "train_steps"] = option(
            "env_steps", "Unit of qr_interval."
        )
        qr_lr: float = option(
            5e-5,
            "Adam learning rate of the quantile regression.",
            low=0.0,
            low_open=True,
            high=MAX_RATE,
        )
        qr_eps: float = option(
            3.125e-4,
            "Adam epsilon of the quantile regression.",
            low=0.0,
            low_open=True,
        )
        qr_target: Literal["cvar_dummy", "implied_reward"] = option(
            "cvar_dummy",
            "Dummy reward in the targets of the quantile regression: the paper's CVaR"
            " (cvar_dummy), or the reward that CVaR implies, with which both losses"
            " agree (implied_reward).",
        )
        qr_replaces_td: bool = option(
            False,
            "Whether an update of the quantile regression replaces the TD update.",
        )

    options: Any
    regresses: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.num_atoms == 1:
            yield (
                f"num_atoms: must be above 1 for qr_gate: {config.qr_gate}. Set"
                " num_atoms to 2 or more, or qr_gate: never."
            )
        if VALUE_PARTS.part("loss", config).fits_atoms:
            yield (
                f"qr_gate: loss {config.loss!r} is already a quantile regression. Set"
                " qr_gate: never."
            )
        yield from refuse_other_fractions(config)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Creates the regression's separate Adam, as in the released RMIX code.

        Args:
            parameters: Parameters of the online network.
        """
        return torch.optim.Adam(parameters, self.options.qr_lr, eps=self.options.qr_eps)

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """Computes target atoms of each agent; see :func:`dummy_reward_targets`.

        Args:
            view: The batch.

        Returns:
            Target atoms ``[B, T, N, M]``; zero in padding.
        """
        target, following, greedy = (
            view.target_network,
            view.encoded.following,
            view.next_greedy,
        )
        next_atoms = target.atoms_of(following, greedy)
        utilities = view.network.utilities_of(view.online, view.actions)
        implied = None
        if self.options.qr_target == "implied_reward":
            implied = target.utilities_of(following, greedy)
        targets = dummy_reward_targets(utilities, next_atoms, view.discount, implied)
        return torch.where(view.mask.unsqueeze(-1) > 0, targets, 0.0)

    def loss(self, view: View, targets: Tensor | None = None) -> Tensor:
        """Computes the mean regression loss of the atoms of the actions taken.

        Args:
            view: The batch.
            targets: Target atoms. None: use :meth:`targets`.

        Returns:
            A scalar.
        """
        o = self.options
        if targets is None:
            targets = self.targets(view)
        atoms = view.network.atoms_of(view.online, view.actions)  # [B, T, N, M]
        fractions = fractions_of(view, atoms, o.qr_fractions)
        return view.mean(regress(atoms, targets, fractions, o))


class StepGate(QuantileRegression):
    """Starts the regression after a number of env steps."""

    @dataclass(frozen=True)
    class Options(QuantileRegression.Options):
        qr_start_step: int = option(
            100_000,
            "Env steps after which the quantile regression starts.",
            low=0,
            unit="env steps",
        )

    def is_open(self, env_steps: int, success_rate: float | None) -> bool:
        """See :meth:`Gate.is_open`."""
        return env_steps > self.options.qr_start_step


class SuccessGate(QuantileRegression):
    """Starts the regression when the success rate of evaluations is high enough."""

    @dataclass(frozen=True)
    class Options(QuantileRegression.Options):
        qr_gate_threshold: float = option(
            0.35,
            "Evaluation success rate above which the quantile regression starts.",
            low=0.0,
            high=1.0,
        )

    needs_success: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from super().refusals(config)
        if not config.evaluation_interval:
            yield (
                f"qr_gate: {config.qr_gate!r} needs the success rate of evaluations."
                " Set evaluation_interval above 0, or another qr_gate."
            )

    def is_open(self, env_steps: int, success_rate: float | None) -> bool:
        """See :meth:`Gate.is_open`."""
        return (
            success_rate is not None and success_rate > self.options.qr_gate_threshold
        )
