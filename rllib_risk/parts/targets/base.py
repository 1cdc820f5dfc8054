"""What a target is, and what targets share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MOST_RATE
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.targets import lambda_returns
from rllib_risk.parts.base import Part
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View


class Target(Part):
    """What the mixed values (and a joint critic's) should be.

    A target of your own defines :meth:`targets`. One that learns something beside the
    networks is a :class:`DualTarget`.
    """

    def targets(self, view: View) -> Tensor:
        """The targets; called without gradients.

        Args:
            view: The batch.

        Returns:
            ``[B, T, G]``. What stands in the padding is cut out afterwards.
        """
        raise NotImplementedError(f"{type(self).__name__} must define targets().")

    def target_atoms(self, view: View, next_atoms: Tensor) -> Tensor:
        """The same for a loss that fits distributions.

        By default ``T_j = r + gamma (1 - terminated) Z^-(tau', a*; tau'_j)``, and
        TD(lambda) of it where the target has :class:`LambdaOptions`.

        Args:
            view: The batch.
            next_atoms: The target network's atoms of what followed, ``[B, T, G, M]``.

        Returns:
            ``[B, T, G, M]``. What stands in the padding is cut out afterwards.
        """
        o = self.options
        if isinstance(o, LambdaOptions):
            td_lambda = view.now(o.td_lambda)
            return lambda_atoms(view, next_atoms, td_lambda, o.td_lambda_cut)
        return view.rewards.unsqueeze(-1) + view.discount.unsqueeze(-1) * next_atoms


class DualTarget(Target):
    """A target that needs a variable which is learned beside the networks."""

    @dataclass(frozen=True)
    class Options:
        dual_lr: float | list = option(
            1e-3,
            "Learning rate of the dual variable (Adam); a number, or points"
            " [[env_steps, value], ...].",
            low=0.0,
            low_open=True,
            high=MOST_RATE,
        )
        dual_block: int = option(
            4,
            "Dual updates in a row, then as many of the values, each on its own batch.",
            low=1,
            unit="updates",
        )

    options: Any

    @property
    def beside_lr(self) -> float | list:
        """See :class:`Options`."""
        return self.options.dual_lr

    @property
    def beside_block(self) -> int:
        """See :class:`Options`."""
        return self.options.dual_block

    def make_dual(self, sizes: TeamSizes, num_values: int) -> nn.Module | None:
        """Makes the variable; :attr:`View.dual` is what this returns.

        Args:
            sizes: What the environment fixes.
            num_values: ``G``.

        Returns:
            A module; None: nothing is to be learned.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_dual().")

    def dual_loss(self, view: View) -> Tensor:
        """What the variable minimizes.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dual_loss().")


@dataclass(frozen=True)
class LambdaOptions:
    """Keys of targets that may look more than one step ahead."""

    td_lambda: float | list = option(
        0.0,
        "TD(lambda) of the targets; a number, or points [[env_steps, value], ...].",
        low=0.0,
        high=1.0,
    )
    td_lambda_cut: Literal["none", "watkins"] = option(
        "none",
        "Where a lambda-return stops: nowhere (Peng), or at the first action that is"
        " not greedy (Watkins).",
    )


@dataclass(frozen=True)
class RobustOptions:
    """Keys of targets that are robust to a set of transition kernels."""

    rho: float = option(
        0.0,
        "Size of that set: share of the kernel that is replaced, or its radius in total"
        " variation; 0: the plain target.",
        low=0.0,
        high=1.0,
        fixed=True,
    )
    v_min: float = option(
        0.0,
        "Return from the fail state that the worst kernel may lead to, in units of"
        " unscaled rewards.",
    )
    robust_over: Literal["next_value", "transition"] = option(
        "next_value",
        "What the transition decides: the next value (the reward follows from state and"
        " action), or the reward too.",
    )


def lambda_targets(
    view: View, rewards: Tensor, gamma: float, td_lambda: float, cut: str
) -> Tensor:
    """TD(lambda) targets of the next values.

    Args:
        view: The batch.
        rewards: ``[B, T, 1]``.
        gamma: Discount.
        td_lambda: Lambda now.
        cut: ``none`` or ``watkins``.

    Returns:
        ``[B, T, G]``.
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
    """TD(lambda) targets of a distribution, quantile by quantile (RiskQ's code).

    Every quantile has a lambda-return of its own, of the quantiles of the same fraction
    in the steps that follow.

    Args:
        view: The batch.
        next_atoms: ``[B, T, G, M]``, at the same fractions in all steps.
        td_lambda: Lambda now.
        cut: ``none`` or ``watkins``.

    Returns:
        ``[B, T, G, M]``.
    """
    groups, atoms = next_atoms.shape[-2:]
    trace = None
    if cut == "watkins" and td_lambda != 0.0:
        trace = _trace(view, next_atoms[..., 0])
        # One group's trace holds for all of its atoms as it is.
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
    """1 where Watkins' Q(lambda) goes on, ``[B, T, G]`` as ``values``."""
    trace = (view.actions == view.greedy).to(values)
    return trace.prod(dim=-1, keepdim=True) if values.shape[-1] == 1 else trace


def refuse_atoms(config: Any) -> Iterator[str]:
    """Refuses a robust target where whole distributions are fitted.

    Args:
        config: The configuration.

    Yields:
        The reason.
    """
    if VALUE_PARTS.slots["loss"].part(config.loss).fits_atoms:
        yield (
            f"target: a robust target is a worst mean, and loss {config.loss!r} fits a"
            " whole distribution; set loss: td."
        )
