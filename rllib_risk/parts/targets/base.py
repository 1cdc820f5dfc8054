"""Base classes and shared functions of Bellman targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_RATE
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.targets import lambda_returns
from rllib_risk.parts.base import Part
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View


class Target(Part):
    """Target of the mixed values and of the joint critic.

    A custom target defines :meth:`targets`. A target with a dual variable is a
    :class:`DualTarget`.

    Attributes:
        robust: Whether the target is the worst case of a set of size ``rho``.
        nested: Whether the target is CVaR at level ``alpha`` of one step's outcomes.
    """

    robust: ClassVar[bool] = False
    nested: ClassVar[bool] = False

    def targets(self, view: View) -> Tensor:
        """Computes the targets; called without gradients.

        Args:
            view: The batch.

        Returns:
            Targets ``[B, T, G]``. Values in padding are ignored.
        """
        raise NotImplementedError(f"{type(self).__name__} must define targets().")

    def target_atoms(self, view: View, next_atoms: Tensor) -> Tensor:
        """Computes target atoms, for a loss that fits distributions.

        By default ``T_j = r + gamma (1 - terminated) Z^-(tau', a*; tau'_j)``. If the
        target has the keys of :class:`LambdaOptions`, each quantile has its own
        TD(lambda) target.

        Args:
            view: The batch.
            next_atoms: The target network's atoms of the next step, ``[B, T, G, M]``.

        Returns:
            Target atoms ``[B, T, G, M]``. Values in padding are ignored.
        """
        o = self.options
        if hasattr(o, "td_lambda"):
            td_lambda = view.now(o.td_lambda)
            return lambda_atoms(view, next_atoms, td_lambda, o.td_lambda_cut)
        return view.rewards.unsqueeze(-1) + view.discount.unsqueeze(-1) * next_atoms


class DualTarget(Target):
    """A target with a dual variable, which is trained with a separate loss."""

    @dataclass(frozen=True)
    class Options:
        dual_lr: float | list = option(
            1e-3,
            "Adam learning rate of the dual variable; a number, or points"
            " [[env_steps, value], ...].",
            low=0.0,
            low_open=True,
            high=MAX_RATE,
        )
        dual_block: int = option(
            4,
            "Number of consecutive updates of the dual variable. The same number of"
            " updates of the values follows, each on its own batch.",
            low=1,
            unit="updates",
        )

    options: Any

    @property
    def auxiliary_lr(self) -> float | list:
        """See :class:`Options`."""
        return self.options.dual_lr

    @property
    def auxiliary_block(self) -> int:
        """See :class:`Options`."""
        return self.options.dual_block

    def make_dual(self, sizes: TeamSizes, num_values: int) -> nn.Module | None:
        """Creates the dual variable, which is then :attr:`View.dual`.

        Args:
            sizes: Sizes of the team and its observations.
            num_values: ``G``.

        Returns:
            A module, or None if no dual variable is needed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_dual().")

    def dual_loss(self, view: View) -> Tensor:
        """Computes the loss of the dual variable.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dual_loss().")


@dataclass(frozen=True)
class LambdaOptions:
    """Keys of targets with TD(lambda)."""

    td_lambda: float | list = option(
        0.0,
        "Lambda of the TD(lambda) targets. A number, or points [[env_steps, value],"
        " ...]. 0: one-step targets.",
        low=0.0,
        high=1.0,
    )
    td_lambda_cut: Literal["none", "watkins"] = option(
        "none",
        "Where a lambda-return is cut: nowhere (none, Peng), or at the first action"
        " that is not greedy (watkins).",
    )


@dataclass(frozen=True)
class RobustOptions:
    """Keys of targets that are robust to a set of transition kernels."""

    rho: float = option(
        0.0,
        "Size of the uncertainty set of a robust target: fraction of the kernel that is"
        " replaced (contamination), or radius in total variation (tv). 0: the plain"
        " target.",
        low=0.0,
        high=1.0,
        fixed=True,
    )
    v_min: float = option(
        0.0,
        "Return from the fail state of a robust target, in units of unscaled rewards.",
    )
    robust_over: Literal["next_value", "transition"] = option(
        "next_value",
        "What the uncertain transition of a robust target decides: only the next value"
        " (next_value; state and action determine the reward), or the reward as well"
        " (transition).",
    )


def lambda_targets(
    view: View, rewards: Tensor, gamma: float, td_lambda: float, cut: str
) -> Tensor:
    """Computes TD(lambda) targets from the next values.

    Args:
        view: The batch.
        rewards: Rewards, ``[B, T, 1]``.
        gamma: Discount.
        td_lambda: Current value of lambda.
        cut: ``none`` or ``watkins``.

    Returns:
        Targets ``[B, T, G]``.
    """
    trace = None
    if cut == "watkins" and td_lambda != 0.0:
        trace = _trace(view, view.next_values)
    return lambda_returns(
        rewards,
        view.next_values,
        view.terminateds,
        view.mask,
        gamma=gamma,
        td_lambda=td_lambda,
        trace=trace,
    )


def lambda_atoms(view: View, next_atoms: Tensor, td_lambda: float, cut: str) -> Tensor:
    """Computes TD(lambda) targets for each quantile, as in RiskQ's code.

    Every quantile has its own lambda-return, from the quantiles of the same fraction at
    later steps.

    Args:
        view: The batch.
        next_atoms: Next atoms at the same fractions at all steps, ``[B, T, G, M]``.
        td_lambda: Current value of lambda.
        cut: ``none`` or ``watkins``.

    Returns:
        Target atoms ``[B, T, G, M]``.
    """
    groups, atoms = next_atoms.shape[-2:]
    trace = None
    if cut == "watkins" and td_lambda != 0.0:
        trace = _trace(view, next_atoms[..., 0])
        # The trace of a single group broadcasts over its atoms.
        trace = trace.repeat_interleave(atoms, dim=-1) if groups > 1 else trace
    returns = lambda_returns(
        view.rewards,
        next_atoms.flatten(-2),
        view.terminateds,
        view.mask,
        gamma=view.gamma,
        td_lambda=td_lambda,
        trace=trace,
    )
    return returns.unflatten(-1, (groups, atoms))


def _trace(view: View, values: Tensor) -> Tensor:
    """Trace of Watkins' Q(lambda): 1 where the action is greedy, ``[B, T, G]``."""
    trace = (view.actions == view.greedy).to(values)
    return trace.prod(dim=-1, keepdim=True) if values.shape[-1] == 1 else trace


def refuse_atoms(config: Any) -> Iterator[str]:
    """Yields an error if a robust target is used with a loss that fits distributions.

    Args:
        config: The configuration.

    Yields:
        The message.
    """
    if VALUE_PARTS.part("loss", config).fits_atoms:
        yield (
            f"target: a robust target is a worst-case mean, but loss {config.loss!r}"
            " fits a whole distribution. Set loss: td."
        )
