"""Checks of the shapes of tensors."""

from __future__ import annotations

from torch import Tensor


def check_shapes(**groups: tuple[Tensor, ...]) -> None:
    """Refuses tensors of different shapes, which would broadcast without a word.

    Args:
        **groups: Tensors that must have one shape, under a name for the message.

    Raises:
        ValueError: If they differ.
    """
    for name, tensors in groups.items():
        shape = tensors[0].shape
        if any(tensor.shape != shape for tensor in tensors):
            found = ", ".join(str(list(tensor.shape)) for tensor in tensors)
            raise ValueError(f"{name} must have one shape, and have {found}.")
