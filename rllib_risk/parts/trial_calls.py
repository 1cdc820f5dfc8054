"""Calls methods of custom parts and names the part in errors."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from rllib_risk.data.sizes import NeedsStateError
from rllib_risk.parts.base import Choice

_TRIED = "when it is tried on zeros"


def call_own(
    choice: Choice, method: str, call: Callable[..., Any], *args: Any, **named: Any
) -> Any:
    """Calls a method of a custom part.

    Args:
        choice: The part.
        method: Name of the method, for the message.
        call: The method.
        *args: Positional arguments of the method.
        **named: Keyword arguments of the method.

    Returns:
        The method's result.

    Raises:
        NeedsStateError: If the part needs a state, and the environment has none.
        ValueError: If the method fails. The message names the part, the cause and the
            line.
    """
    try:
        return call(*args, **named)
    except Exception as error:  # a custom part may raise anything
        if isinstance(error, NeedsStateError):
            raise
        if isinstance(error, ValueError) and f"{error}".startswith(f"{choice.key}: "):
            raise  # it already names the part
        cause = str(error).partition("\n")[0] or "no message"
        raise ValueError(
            f"{choice.key}: {method} of {choice.name!r} fails {_TRIED}:"
            f" {type(error).__name__}: {cause}{_location(error, choice)}"
        ) from error


def _location(error: Exception, choice: Choice) -> str:
    """File and last line of the part's file in the traceback of an error."""
    file = inspect.getfile(choice.part)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" ({file}:{lines[-1]})" if lines else ""


def check_scalar(
    choice: Choice, method: str, result: Any, module: nn.Module, owner: str
) -> None:
    """Checks that a loss is a scalar with gradients, and computes the gradients.

    Args:
        choice: The part that returned the loss.
        method: Name of the method that returned it.
        result: The method's result.
        module: The module that must get gradients.
        owner: Name of that module in the message.

    Raises:
        ValueError: If the result is not a scalar tensor with gradients of the module.
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
