"""Optimizers and gradient steps, the same for all learners."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_risk.core.stopwatch import BACKWARD, LEARNERS, OPTIMIZER, Stopwatch
from rllib_risk.data.splitting import RowShare
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.ops.targets import masked_mean

# Where a parameter group keeps what its learning rate follows.
_SCHEDULE = "schedule"
_ADAMS = {"adam": torch.optim.Adam, "radam": torch.optim.RAdam}


@dataclass(frozen=True)
class Share:
    """What one of several learners contributes to an update.

    Attributes:
        rows: The rows of the batch that it has.
        add_up: Adds up tensors over all learners, in place. It returns True in the
            learner that makes the step, and only there the tensors hold the sums.
        copy: Gives tensors the values that they have in that learner.
    """

    rows: RowShare
    add_up: Callable[[Sequence[Tensor]], bool]
    copy: Callable[[Sequence[Tensor]], None]

    def mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """:func:`masked_mean` over the rows of all learners, known to each of them.

        Args:
            values: Of this learner's rows, without gradient, ``[b, T, G]``.
            mask: ``[b, T, 1]``.

        Returns:
            A scalar.
        """
        mean = masked_mean(values, mask) * self.rows.weight
        self.add_up([mean])
        self.copy([mean])
        return mean


def make_optimizer(
    config: Mapping[str, Any], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer that a configuration names.

    Args:
        config: Its keys and values.
        groups: Parameters and learning rates, which may be schedules.

    Returns:
        Adam, RAdam (Liu et al., ICLR 2020), or RMSprop with PyMARL's constants.
    """
    groups = scheduled(groups)
    eps = config["optimizer_eps"]
    if config["optimizer"] in _ADAMS:
        return _ADAMS[config["optimizer"]](groups, eps=1e-8 if eps is None else eps)
    eps = 1e-5 if eps is None else eps
    return torch.optim.RMSprop(groups, alpha=config["rmsprop_smoothing"], eps=eps)


def scheduled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parameter groups whose learning rates :func:`follow_schedules` sets.

    Args:
        groups: Parameters and learning rates, which may be schedules.

    Returns:
        The groups, with the learning rate at the start.
    """
    return [
        group | {"lr": schedule_value(group["lr"], 0), _SCHEDULE: group["lr"]}
        for group in groups
    ]


def follow_schedules(optimizer: torch.optim.Optimizer, env_steps: int) -> None:
    """Sets learning rates that follow a schedule to their present values.

    Args:
        optimizer: Of groups from :func:`scheduled`; of others nothing changes.
        env_steps: Env steps sampled so far.
    """
    for group in optimizer.param_groups:
        if _SCHEDULE in group:
            group["lr"] = schedule_value(group[_SCHEDULE], env_steps)


def gradient_step(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    parameters: Sequence[Sequence[Tensor]],
    clip: float | None,
    share: Share | None = None,
    stopwatch: Stopwatch | None = None,
) -> float:
    """One gradient step.

    Every loss is a mean over the learned steps of a batch. So is the sum over learners
    of ``weight`` times the mean over their own rows, and its gradient is the sum of
    theirs. It is clipped after that sum, once, as one learner's gradient is.

    Args:
        optimizer: The optimizer.
        loss: A scalar.
        parameters: Groups of parameters. Each is clipped on its own.
        clip: Largest L2 norm of a group's gradient; None: no limit.
        share: What this learner contributes; None: it is the only one.
        stopwatch: Measures the parts of the step; None: they are not measured.

    Returns:
        The L2 norm of the gradient of all groups together, before clipping. NaN in a
        learner that contributes its gradient and makes no step.

    Raises:
        FloatingPointError: If the gradient is not finite.
    """
    watch = stopwatch or Stopwatch()
    optimizer.zero_grad(set_to_none=True)
    with watch.part(BACKWARD):
        (loss if share is None else loss * share.rows.weight).backward()
    if share is not None:
        gradients = [p.grad for group in parameters for p in group]
        with watch.part(LEARNERS):
            complete = share.add_up([g for g in gradients if g is not None])
        if not complete:
            return math.nan
    with watch.part(OPTIMIZER):
        limit = float("inf") if clip is None else clip
        norms = [
            torch.nn.utils.clip_grad_norm_(group, limit).item() for group in parameters
        ]
        if not np.isfinite(norms).all():
            raise FloatingPointError(
                f"The gradient is not finite (loss {loss.item()}). Lower the learning"
                " rates or reward_scale, or look for huge rewards in the environment."
            )
        optimizer.step()
    return math.hypot(*norms)
