"""Checks of the shapes of tensors."""

from __future__ import annotations

from torch import Tensor


def check_shapes(**groups: tuple[Tensor, ...]) -> None:
    """Checks that tensors have one shape; different shapes could broadcast silently.

    Args:
        **groups: Tensors that must have one shape, by a name for the message.

    Raises:
        ValueError: If the shapes of a group differ.
    """
    for name, tensors in groups.items():
        shape = tensors[0].shape
        if any(tensor.shape != shape for tensor in tensors):
            found = ", ".join(str(list(tensor.shape)) for tensor in tensors)
            raise ValueError(f"{name} must have one shape, but have {found}.")
