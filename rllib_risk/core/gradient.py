"""Optimizers and gradient steps, the same for all learners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_risk.ops.schedule import schedule_value

# Where a parameter group keeps what its learning rate follows.
_SCHEDULE = "schedule"


def make_optimizer(
    config: Mapping[str, Any], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer that a configuration names.

    Args:
        config: Its keys and values.
        groups: Parameters and learning rates, which may be schedules.

    Returns:
        Adam, or RMSprop with PyMARL's constants.
    """
    groups = scheduled(groups)
    eps = config["optimizer_eps"]
    if config["optimizer"] == "adam":
        return torch.optim.Adam(groups, eps=1e-8 if eps is None else eps)
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
) -> float:
    """One gradient step.

    Args:
        optimizer: The optimizer.
        loss: A scalar.
        parameters: Groups of parameters. Each is clipped on its own.
        clip: Largest L2 norm of a group's gradient; None: no limit.

    Returns:
        The L2 norm of the gradient of all groups together, before clipping.

    Raises:
        FloatingPointError: If the gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
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
