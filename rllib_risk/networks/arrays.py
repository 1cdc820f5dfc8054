"""Array namespaces: one definition of an acting step for PyTorch and for NumPy.

An acting step is about fifty operations on a few rows. Most calls into PyTorch cost
several times the arithmetic. On the CPU acting therefore uses NumPy for everything
except the linear layers. A network defines its step once, in a method ``one_step(xp)``,
where ``xp`` is :data:`TORCH` or :data:`NUMPY`::

    def one_step(self, xp):
        first, second = xp.linear(self.first), xp.linear(self.second)
        return lambda rows, state: xp.relu(second(xp.relu(first(rows))))

The returned function works on tensors or on arrays. Slices, products, ``reshape``,
``swapaxes``, ``sum(axis)`` and ``mean(axis)`` are the same for both; the other
operations are methods of ``xp``. Layers share the memory of the network's parameters.

Letters: ``R`` rows, ``I`` input size, ``H`` hidden size, ``O`` output size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.ops.risk import sort_atoms

# A tensor or an array.
Rows = Any
Step = Callable[..., Rows]


class Torch:
    """Array namespace of tensors, with gradients."""

    relu = staticmethod(F.relu)

    def relu_(self, rows: Rows) -> Rows:
        """In-place ReLU, for rows that no other code reads."""
        return rows.relu_()

    def sort(self, rows: Rows) -> Rows:
        """Sorts the last axis in ascending order."""
        return sort_atoms(rows)

    def mean(self, rows: Rows) -> Rows:
        """Mean over the last axis."""
        return rows.mean(dim=-1)

    def affine(self, weight: Tensor, bias: Tensor) -> Step:
        """Affine map ``[..., I] -> [..., O]`` of weight ``[O, I]`` and bias ``[O]``."""
        return lambda rows: F.linear(rows, weight, bias)

    def linear(self, layer: nn.Module) -> Step:
        """Affine map of a module that has ``weight`` and ``bias``."""
        return self.affine(layer.weight, layer.bias)  # type: ignore[arg-type]

    def layer_norm(self, layer: nn.LayerNorm) -> Step:
        """Layer normalisation over the last axis, with scale and shift."""
        shape, epsilon = layer.normalized_shape, layer.eps
        return lambda rows: F.layer_norm(rows, shape, layer.weight, layer.bias, epsilon)

    def conv(self, layer: nn.Conv2d) -> Step:
        """Convolution ``[R, C, H, W]`` to ``[R, C', H', W']``."""
        weight, bias, settings = conv_settings(layer)
        return lambda rows: F.conv2d(rows, weight, bias, **settings)

    def concat(self, *parts: Rows) -> Rows:
        """Concatenation along the last axis."""
        return torch.cat(parts, dim=-1)

    def gru(self, layer: nn.GRU) -> Step:
        """One step of a GRU, ``(rows [R, I], state [R, H]) -> [R, H]``."""
        # One fused cell is several times cheaper than a sequence of length one.
        parameters = list(layer.parameters())
        return lambda rows, state: torch.gru_cell(rows, state, *parameters)

    def lstm(self, layer: nn.LSTM) -> Step:
        """One step of an LSTM, ``(rows [R, I], state [R, 2 H]) -> [R, 2 H]``.

        The state is the output, followed by the cell state.
        """
        parameters = list(layer.parameters())

        def step(rows: Tensor, state: Tensor) -> Tensor:
            parts = list(state.chunk(2, dim=-1))
            return torch.cat(torch.lstm_cell(rows, parts, *parameters), dim=-1)

        return step

    def constant(self, tensor: Tensor) -> Rows:
        """A tensor that stays constant while the step is in use."""
        return tensor

    def of_torch(self, function: Step) -> Step:
        """Wraps a function of tensors, such as a module."""
        return function

    def without_own_step(self, part: object, function: Step) -> Step:
        """Wraps a function of tensors of a part that defines no step for NumPy."""
        return function


class Numpy:
    """Array namespace of NumPy arrays, without gradients."""

    def relu(self, rows: Rows) -> Rows:
        """ReLU."""
        return np.maximum(rows, 0.0)

    def relu_(self, rows: Rows) -> Rows:
        """In-place ReLU, for rows that no other code reads."""
        return np.maximum(rows, 0.0, out=rows)

    def sort(self, rows: Rows) -> Rows:
        """Sorts the last axis in ascending order."""
        return np.sort(rows, axis=-1)

    def mean(self, rows: Rows) -> Rows:
        """Mean over the last axis, by PyTorch: it gives the same bits as learning."""
        return torch.from_numpy(rows).mean(dim=-1).numpy()

    def affine(self, weight: Tensor, bias: Tensor) -> Step:
        """See :meth:`Torch.affine`."""
        weight, bias = weight.detach(), bias.detach()
        # NumPy's product is slightly faster for a few rows. But from a few dozen rows
        # on its BLAS library starts threads on all cores, which costs more time than it
        # saves.
        return lambda rows: F.linear(torch.from_numpy(rows), weight, bias).numpy()

    def linear(self, layer: nn.Module) -> Step:
        """See :meth:`Torch.linear`."""
        return self.affine(layer.weight, layer.bias)  # type: ignore[arg-type]

    def layer_norm(self, layer: nn.LayerNorm) -> Step:
        """See :meth:`Torch.layer_norm`, by PyTorch: the same bits as learning."""
        # This takes half the time of `of_torch`, which disables autograd in every call.
        weight, bias = layer.weight.detach(), layer.bias.detach()
        shape, epsilon = layer.normalized_shape, layer.eps
        return lambda rows: F.layer_norm(
            torch.from_numpy(rows), shape, weight, bias, epsilon
        ).numpy()

    def conv(self, layer: nn.Conv2d) -> Step:
        """See :meth:`Torch.conv`. PyTorch computes it."""
        return self.of_torch(TORCH.conv(layer))

    def concat(self, *parts: Rows) -> Rows:
        """See :meth:`Torch.concat`."""
        return np.concatenate(parts, axis=-1)

    def gru(self, layer: nn.GRU) -> Step:
        """See :meth:`Torch.gru`. As PyTorch's ``GRUCell``, with gates r, z, n."""
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
        """See :meth:`Torch.lstm`. As PyTorch's ``LSTMCell``, with gates i, f, g, o."""
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
        """See :meth:`Torch.of_torch`. It has the overhead of calls into PyTorch."""

        def call(*arrays: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return function(*map(torch.from_numpy, arrays)).detach().numpy()

        return call

    def without_own_step(self, part: object, function: Step) -> Step:
        """See :meth:`Torch.without_own_step`. PyTorch computes the step."""
        return self.of_torch(function)


def conv_settings(layer: nn.Conv2d) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Weight ``[C', C, K, K]``, bias ``[C']``, stride and padding of a convolution.

    Args:
        layer: A convolution with a bias, and the same stride and padding on both axes.
    """
    bias = layer.bias
    assert bias is not None and isinstance(layer.padding, tuple)
    return (
        layer.weight,
        bias,
        {"stride": layer.stride[0], "padding": layer.padding[0]},
    )


def _sigmoid(x: np.ndarray) -> None:
    """In-place sigmoid as ``(1 + tanh(x / 2)) / 2``, which cannot overflow."""
    x *= 0.5
    np.tanh(x, out=x)
    x += 1.0
    x *= 0.5


TORCH, NUMPY = Torch(), Numpy()
# Type of ``xp``.
Namespace = Torch | Numpy


def defines_step(
    part: type, base: type, same_as: tuple[str, ...] = ("forward",)
) -> bool:
    """Whether a part defines an acting step that is up to date; see :func:`step_of`.

    Args:
        part: Class of the part.
        base: Base class of its kind of part.
        same_as: Methods that must give the same result as ``one_step``.
    """

    def mro_index(method: str) -> int:
        return next(i for i, cls in enumerate(part.__mro__) if method in vars(cls))

    step = mro_index("one_step")
    return part.__mro__[step] is not base and step <= min(map(mro_index, same_as))


def step_of(
    part: Any,
    base: type,
    xp: Namespace,
    *arguments: Any,
    same_as: tuple[str, ...] = ("forward",),
) -> Step:
    """Returns a part's acting step, and ignores a ``one_step`` that is out of date.

    A subclass of a part may override ``forward`` and inherit ``one_step``. Acting would
    then differ from learning. In that case the step of ``base`` is used, which calls
    ``forward``.

    Args:
        part: An encoder, a head or a risk measure.
        base: Base class of its kind of part, whose step calls ``forward``.
        xp: Array namespace, :data:`TORCH` or :data:`NUMPY`.
        *arguments: Further arguments of ``one_step``.
        same_as: Methods that must give the same result as ``one_step``.

    Returns:
        See ``one_step`` of the base class.
    """
    own = defines_step(type(part), base, same_as)
    kind: Any = type(part) if own else base
    return kind.one_step(part, xp, *arguments)
