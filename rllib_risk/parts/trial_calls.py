"""Calls parts of the user's own, and says whose fault it is where that fails."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from rllib_risk.parts.base import Choice

_TRIED = "when it is tried on zeros"


def call_own(
    choice: Choice, method: str, call: Callable[..., Any], *args: Any, **named: Any
) -> Any:
    """Calls a method of a part of the user's own.

    Args:
        choice: The part.
        method: Name of the method, for the message.
        call: The method.
        *args: Its arguments.
        **named: Its arguments by name.

    Returns:
        What it returns.

    Raises:
        ValueError: If it fails, with the part, the cause and the line.
    """
    try:
        return call(*args, **named)
    except Exception as error:  # a part of the user's own may fail in any way
        if method == "__init__" and isinstance(error, ValueError):
            raise  # says what the class is called with
        cause = str(error).partition("\n")[0] or "no message"
        raise ValueError(
            f"{choice.key}: {method} of {choice.name!r} fails {_TRIED}:"
            f" {type(error).__name__}: {cause}{_place(error, choice)}"
        ) from error


def _place(error: Exception, choice: Choice) -> str:
    """The last line of the part's own file that led to an error."""
    file = inspect.getfile(choice.part)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" ({file}:{lines[-1]})" if lines else ""


def check_scalar(
    choice: Choice, method: str, result: Any, module: nn.Module, owner: str
) -> None:
    """Goes backward through a loss; refuses what an update could not use.

    Args:
        choice: The part that made it.
        method: The method that made it.
        result: What the method returned.
        module: What must get gradients.
        owner: What the message calls it.

    Raises:
        ValueError: If it is no scalar tensor with gradients of the module.
    """
    found = ""
    if not isinstance(result, Tensor):
        found = type(result).__name__ if result is not None else "None"
    elif result.numel() != 1:
        found = f"a tensor of shape {list(result.shape)}"
    elif not result.requires_grad:
        found = "a tensor without gradient"
    else:
        module.zero_grad(set_to_none=True)
        call_own(choice, method, result.backward)
        if all(p.grad is None for p in module.parameters()):
            found = f"one that does not depend on {owner}"
    if found:
        raise ValueError(
            f"{choice.key}: {method} of {choice.name!r} must return a scalar tensor"
            f" with gradients of {owner} {_TRIED}, and it returned {found}."
        )
