"""One step of acting, stated once for PyTorch and for NumPy.

A step of acting is some fifty operations on a few rows, and most calls into PyTorch
cost several times the arithmetic. So on the CPU acting uses NumPy for everything but
the linear layers. A network states its step once, as a method ``one_step(xp)``, where
``xp`` is :data:`TORCH` or :data:`NUMPY`::

    def one_step(self, xp):
        first, second = xp.linear(self.first), xp.linear(self.second)
        return lambda rows, state: xp.relu(second(xp.relu(first(rows))))

What it returns works on tensors or on arrays. Slices, products, ``reshape``,
``swapaxes``, ``sum(axis)`` and ``mean(axis)`` are written alike for both; the rest is
in ``xp``. Layers keep the memory of the network's parameters.

Letters: ``R`` rows, ``I`` input size, ``H`` hidden size, ``O`` output size.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.ops.risk import sort_atoms

logger = logging.getLogger(__name__)

# A tensor, or an array.
Rows = Any
Step = Callable[..., Rows]


class Torch:
    """Operations on tensors, with gradients."""

    relu = staticmethod(F.relu)

    def relu_(self, rows: Rows) -> Rows:
        """ReLU of rows that nothing else reads, in place."""
        return rows.relu_()

    def sort(self, rows: Rows) -> Rows:
        """Ascending along the last axis."""
        return sort_atoms(rows)

    def mean(self, rows: Rows) -> Rows:
        """Over the last axis."""
        return rows.mean(dim=-1)

    def affine(self, weight: Tensor, bias: Tensor) -> Step:
        """``[..., I]`` to ``[..., O]``, by a weight ``[O, I]`` and a bias ``[O]``."""
        return lambda rows: F.linear(rows, weight, bias)

    def linear(self, layer: nn.Module) -> Step:
        """The same, by anything that has ``weight`` and ``bias``."""
        return self.affine(layer.weight, layer.bias)  # type: ignore[arg-type]

    def gru(self, layer: nn.GRU) -> Step:
        """A GRU's step, ``(rows [R, I], state [R, H]) -> [R, H]``."""
        # One fused cell is several times cheaper than a sequence of one.
        parameters = list(layer.parameters())
        return lambda rows, state: torch.gru_cell(rows, state, *parameters)

    def lstm(self, layer: nn.LSTM) -> Step:
        """An LSTM's step, ``(rows [R, I], state [R, 2 H]) -> [R, 2 H]``.

        A state is the output, and then the cell.
        """
        parameters = list(layer.parameters())

        def step(rows: Tensor, state: Tensor) -> Tensor:
            parts = list(state.chunk(2, dim=-1))
            return torch.cat(torch.lstm_cell(rows, parts, *parameters), dim=-1)

        return step

    def constant(self, tensor: Tensor) -> Rows:
        """A tensor that does not change while the step is in use."""
        return tensor

    def of_torch(self, function: Step) -> Step:
        """A function of tensors, such as a module."""
        return function

    def without_own_step(self, part: object, function: Step) -> Step:
        """The same, of a part that states no step for NumPy."""
        return function


class Numpy:
    """Operations on arrays, without gradients."""

    def relu(self, rows: Rows) -> Rows:
        """ReLU."""
        return np.maximum(rows, 0.0)

    def relu_(self, rows: Rows) -> Rows:
        """ReLU of rows that nothing else reads, in place."""
        return np.maximum(rows, 0.0, out=rows)

    def sort(self, rows: Rows) -> Rows:
        """Ascending along the last axis."""
        return np.sort(rows, axis=-1)

    def mean(self, rows: Rows) -> Rows:
        """Over the last axis; PyTorch's, whose sums are those of learning."""
        return torch.from_numpy(rows).mean(dim=-1).numpy()

    def affine(self, weight: Tensor, bias: Tensor) -> Step:
        """See :meth:`Torch.affine`."""
        weight, bias = weight.detach(), bias.detach()
        # NumPy's own product is a little faster for a handful of rows, but its library
        # wakes all cores from a few dozen rows on, which costs more than it brings.
        return lambda rows: F.linear(torch.from_numpy(rows), weight, bias).numpy()

    def linear(self, layer: nn.Module) -> Step:
        """See :meth:`Torch.linear`."""
        return self.affine(layer.weight, layer.bias)  # type: ignore[arg-type]

    def gru(self, layer: nn.GRU) -> Step:
        """See :meth:`Torch.gru`; PyTorch's ``GRUCell``, gates r, z, n."""
        size = layer.hidden_size
        w_input, w_hidden, b_input, b_hidden = layer.parameters()
        inner, outer = self.affine(w_input, b_input), self.affine(w_hidden, b_hidden)

        def step(rows: np.ndarray, state: np.ndarray) -> np.ndarray:
            from_input, from_hidden = inner(rows), outer(state)  # [R, 3 H]
            gates = from_input[:, : 2 * size]
            gates += from_hidden[:, : 2 * size]
            _sigmoid(gates)
            new = from_hidden[:, 2 * size :]
            new *= gates[:, :size]
            new += from_input[:, 2 * size :]
            np.tanh(new, out=new)
            return new + gates[:, size:] * (state - new)

        return step

    def lstm(self, layer: nn.LSTM) -> Step:
        """See :meth:`Torch.lstm`; PyTorch's ``LSTMCell``, gates i, f, g, o."""
        size = layer.hidden_size
        w_input, w_hidden, b_input, b_hidden = layer.parameters()
        inner, outer = self.affine(w_input, b_input), self.affine(w_hidden, b_hidden)

        def step(rows: np.ndarray, state: np.ndarray) -> np.ndarray:
            gates = inner(rows)  # [R, 4 H]
            gates += outer(state[:, :size])
            _sigmoid(gates[:, : 2 * size])
            _sigmoid(gates[:, 3 * size :])
            new = gates[:, 2 * size : 3 * size]
            np.tanh(new, out=new)
            following = np.empty_like(state)
            cell = following[:, size:]
            np.multiply(gates[:, size : 2 * size], state[:, size:], out=cell)
            cell += gates[:, :size] * new
            np.multiply(gates[:, 3 * size :], np.tanh(cell), out=following[:, :size])
            return following

        return step

    def constant(self, tensor: Tensor) -> Rows:
        """See :meth:`Torch.constant`."""
        return tensor.detach().numpy()

    def of_torch(self, function: Step) -> Step:
        """See :meth:`Torch.of_torch`; it costs what calls into PyTorch cost."""

        def call(*arrays: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return function(*map(torch.from_numpy, arrays)).detach().numpy()

        return call

    def without_own_step(self, part: object, function: Step) -> Step:
        """See :meth:`Torch.without_own_step`; the log says it, once for each class."""
        _say_slow(f"{type(part).__module__}:{type(part).__qualname__}")
        return self.of_torch(function)


def _sigmoid(x: np.ndarray) -> None:
    """In place; ``(1 + tanh(x / 2)) / 2``, which cannot overflow."""
    x *= 0.5
    np.tanh(x, out=x)
    x += 1.0
    x *= 0.5


@functools.cache
def _say_slow(part: str) -> None:
    logger.info(
        "%s defines no one_step(xp), so acting computes it with PyTorch, which is"
        " slower. See docs/composition.md.",
        part,
    )


TORCH, NUMPY = Torch(), Numpy()
# What ``xp`` may be.
Namespace = Torch | Numpy


def step_of(
    part: Any,
    base: type,
    xp: Namespace,
    *arguments: Any,
    same_as: tuple[str, ...] = ("forward",),
) -> Step:
    """A part's step of acting, or what it inherits from the first class of its kind.

    A subclass of one of the package's parts may change the computation, and leave
    ``one_step`` as it was. Acting would then do what learning does not.

    Args:
        part: An encoder, a head or a risk measure.
        base: The first class of its kind, whose step calls the computation itself.
        xp: Operations on tensors, or on arrays.
        *arguments: More arguments of ``one_step``.
        same_as: The methods that ``one_step`` states for one step.

    Returns:
        See ``one_step`` of the base class.
    """
    classes = type(part).__mro__

    def place(method: str) -> int:
        return next(i for i, cls in enumerate(classes) if method in vars(cls))

    stated = place("one_step") <= min(map(place, same_as))
    kind: Any = type(part) if stated else base
    return kind.one_step(part, xp, *arguments)
