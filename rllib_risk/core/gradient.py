"""Optimizers and gradient steps of all learners."""

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

# Key of a parameter group that holds the schedule of its learning rate.
_SCHEDULE = "schedule"
_ADAMS = {"adam": torch.optim.Adam, "radam": torch.optim.RAdam}


@dataclass(frozen=True)
class Share:
    """The share of one learner in an update of several learners.

    Attributes:
        rows: The learner's rows of the batch.
        add_up: Adds up tensors over all learners, in place. It returns True in the
            learner that makes the step. Only there do the tensors hold the sums.
        copy: Sets tensors of all learners to the values in the learner that makes the
            step.
    """

    rows: RowShare
    add_up: Callable[[Sequence[Tensor]], bool]
    copy: Callable[[Sequence[Tensor]], None]

    def mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """Computes :func:`masked_mean` over the rows of all learners.

        Args:
            values: Values of this learner's rows, without gradient, ``[b, T, G]``.
            mask: Mask of these rows, ``[b, T, 1]``.

        Returns:
            A scalar, the same in every learner.
        """
        mean = masked_mean(values, mask) * self.rows.weight
        self.add_up([mean])
        self.copy([mean])
        return mean


def make_optimizer(
    config: Mapping[str, Any], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Creates the optimizer that a configuration names.

    Args:
        config: Keys and values of the configuration.
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
    """Prepares parameter groups for :func:`follow_schedules`.

    Args:
        groups: Parameters and learning rates, which may be schedules.

    Returns:
        The groups with their learning rates at env step 0, and with their schedules.
    """
    return [
        group | {"lr": schedule_value(group["lr"], 0), _SCHEDULE: group["lr"]}
        for group in groups
    ]


def follow_schedules(optimizer: torch.optim.Optimizer, env_steps: int) -> None:
    """Sets learning rates that follow a schedule to their present values.

    Args:
        optimizer: Optimizer. Only groups from :func:`scheduled` change.
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
    """Makes one gradient step.

    Every loss is a mean over the learned steps of a batch. With several learners it is
    the sum of ``weight`` times the mean over each learner's rows. Its gradient is the
    sum of the learners' gradients. This sum is clipped once, as the gradient of a
    single learner is.

    Args:
        optimizer: The optimizer.
        loss: Loss, a scalar.
        parameters: Groups of parameters. Each group is clipped separately.
        clip: Largest L2 norm of a group's gradient; None: no limit.
        share: This learner's share of the update; None: it is the only learner.
        stopwatch: Measures the parts of the step; None: no measurement.

    Returns:
        The L2 norm of the gradient of all groups together, before clipping. NaN in a
        learner that contributes its gradient but makes no step.

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
