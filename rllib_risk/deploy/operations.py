"""The operations that an exported network is made of, in NumPy.

Three modules use the table. :mod:`rllib_risk.networks.tracing` evaluates the operations
and records them, :mod:`.graph` runs them, and :mod:`.onnx_export` translates them one
by one. The first axis of every value that depends on an input is rows, one for each
agent and environment. Axes are counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any  # np.ndarray, or a NumPy number


def linear(rows: Array, weight: Array, bias: Array) -> Array:
    """An affine map ``[..., I]`` to ``[..., O]``: weight ``[O, I]``, bias ``[O]``."""
    return rows @ weight.T + bias


def conv(rows: Array, weight: Array, bias: Array, stride: int, padding: int) -> Array:
    """A convolution ``[R, C, H, W]`` to ``[R, C', H', W']`` with zero padding.

    Args:
        rows: Images.
        weight: Filters, ``[C', C, K, K]``.
        bias: ``[C']``.
        stride: Step between two positions of a filter, on both axes.
        padding: Number of zeros on each side of both axes.
    """
    sides = (0, 0), (0, 0), (padding, padding), (padding, padding)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(rows, sides), weight.shape[2:], axis=(2, 3)
    )[:, :, ::stride, ::stride]  # [R, C, H', W', K, K]
    found = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))
    return (found + bias).transpose(0, 3, 1, 2)


def relu(rows: Array) -> Array:
    """The positive part."""
    return np.maximum(rows, np.float32(0.0))


def layer_norm(rows: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Mean 0 and variance 1 along the last axis, then scale and shift, ``[H]`` each."""
    centred = rows - rows.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias


def sigmoid(rows: Array) -> Array:
    """The sigmoid as ``(1 + tanh(x / 2)) / 2``, which cannot overflow."""
    return (np.tanh(rows * np.float32(0.5)) + np.float32(1.0)) * np.float32(0.5)


def concat(*parts: Array) -> Array:
    """Concatenation along the last axis."""
    return np.concatenate(parts, axis=-1)


def cut(rows: Array, axis: int, start: int, stop: int) -> Array:
    """A slice along an axis."""
    return rows[(slice(None),) * axis + (slice(start, stop),)]


def pick(rows: Array, axis: int, at: int) -> Array:
    """One position of an axis; the result does not have this axis."""
    return rows[(slice(None),) * axis + (at,)]


def expand(rows: Array, axis: int) -> Array:
    """Inserts an axis of length 1."""
    return np.expand_dims(rows, axis)


def reshape(rows: Array, shape: Sequence[int]) -> Array:
    """Changes the shape; its first number may be -1, which is computed as in NumPy."""
    return rows.reshape(shape)


def swap(rows: Array, first: int, second: int) -> Array:
    """Swaps two axes."""
    return rows.swapaxes(first, second)


def take(table: Array, index: Array) -> Array:
    """Rows of a table, ``[..., *]`` for indices ``[...]``; -1 is the last row."""
    return table[index]


def where(condition: Array, then: Array, otherwise: Array) -> Array:
    """Selects from two arrays, element by element."""
    return np.where(condition, then, otherwise)


def sort(rows: Array) -> Array:
    """Sorts in ascending order along the last axis."""
    return np.sort(rows, axis=-1)


def mean(rows: Array, axis: int) -> Array:
    """The mean over an axis."""
    return rows.mean(axis)


def total(rows: Array, axis: int) -> Array:
    """The sum over an axis."""
    return rows.sum(axis)


def argmax(rows: Array) -> Array:
    """Position of the first maximum along the last axis, int64."""
    return rows.argmax(-1)


def fill(like: Array, value: float) -> Array:
    """The same number for each row, float32 ``[R]``."""
    return np.full(len(like), value, np.float32)


def single(rows: Array) -> Array:
    """Converts to float32."""
    return rows.astype(np.float32)


OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "argmax": argmax,
    "concat": concat,
    "conv": conv,
    "cut": cut,
    "divide": np.divide,
    "expand": expand,
    "fill": fill,
    "greater": np.greater,
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": np.matmul,
    "mean": mean,
    "multiply": np.multiply,
    "pick": pick,
    "relu": relu,
    "reshape": reshape,
    "sigmoid": sigmoid,
    "single": single,
    "sort": sort,
    "subtract": np.subtract,
    "swap": swap,
    "take": take,
    "tanh": np.tanh,
    "total": total,
    "where": where,
}
