"""Traces a network's acting step into a list of operations, for export.

A network defines its step once, as ``one_step(xp)`` (see :mod:`.arrays`). If ``xp`` is
a :class:`Tracer`, the step receives :class:`Traced` values, which hold an example. Each
operation is computed on the example by :mod:`rllib_risk.deploy.operations` and
recorded. A value that does not depend on an input becomes a constant.

Letters: ``R`` rows, ``I`` input size, ``H`` hidden size, ``O`` output size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from rllib_risk.deploy.operations import OPERATIONS
from rllib_risk.networks.arrays import Numpy, Step, conv_settings

# Rows of the example. Any number works, because no size of a network depends on it.
_NUM_EXAMPLE_ROWS = 2


class UntraceableError(ValueError):
    """Raised for an acting step that cannot be traced; the message says why."""


class Tensors:
    """The constants of one or more networks. Equal constants are stored once.

    Attributes:
        arrays: Constants by name.
    """

    def __init__(self) -> None:
        """Initializes an empty collection."""
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[tuple, str] = {}

    def name(self, array: np.ndarray) -> str:
        """Stores a constant and returns its name.

        Args:
            array: The constant; a copy is stored.
        """
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._names:
            self._names[key] = f"t{len(self._names)}"
            self.arrays[self._names[key]] = array.copy()
        return self._names[key]


class Traced:
    """A value of a network's step: an example and the name of its source.

    Slices, arithmetic, ``reshape``, ``swapaxes``, ``sum(axis)`` and ``mean(axis)`` work
    as for arrays. The first number of :attr:`shape` is -1 for the rows, unless the
    value is a constant.
    """

    # With None, NumPy calls this class's operators for `array * traced`.
    __array_ufunc__ = None

    def __init__(self, tracer: Tracer, example: Any, name: str | None = None) -> None:
        """Initializes the value.

        Args:
            tracer: The tracer that records operations.
            example: Example of the value.
            name: Name of the input or operation that gives the value. None: a constant.
        """
        self.tracer = tracer
        self.example = np.asarray(example)
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value, with -1 for the rows."""
        if self.name is None:
            return self.example.shape
        return (-1, *self.example.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.example.ndim

    def _op(self, operation: str, *others: Any, **settings: Any) -> Traced:
        return self.tracer.record(operation, self, *others, **settings)

    def __add__(self, other: Any) -> Traced:
        return self._op("add", other)

    def __radd__(self, other: Any) -> Traced:
        return self.tracer.record("add", other, self)

    def __sub__(self, other: Any) -> Traced:
        return self._op("subtract", other)

    def __rsub__(self, other: Any) -> Traced:
        return self.tracer.record("subtract", other, self)

    def __mul__(self, other: Any) -> Traced:
        return self._op("multiply", other)

    def __rmul__(self, other: Any) -> Traced:
        return self.tracer.record("multiply", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return self._op("divide", other)

    def __matmul__(self, other: Any) -> Traced:
        return self._op("matmul", other)

    def __rmatmul__(self, other: Any) -> Traced:
        return self.tracer.record("matmul", other, self)

    def __gt__(self, other: Any) -> Traced:
        return self._op("greater", other)

    def __bool__(self) -> bool:
        raise UntraceableError("it branches on a value that is only known in acting")

    def _axis(self, axis: int) -> int:
        return axis if axis >= 0 else self.ndim + axis

    def sum(self, axis: int) -> Traced:
        """Sum over an axis."""
        return self._op("total", axis=self._axis(axis))

    def mean(self, axis: int) -> Traced:
        """Mean over an axis."""
        return self._op("mean", axis=self._axis(axis))

    def reshape(self, *shape: Any) -> Traced:
        """Changes the shape."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return self._op("reshape", shape=list(sizes))

    def swapaxes(self, first: int, second: int) -> Traced:
        """Swaps two axes."""
        return self._op("swap", first=self._axis(first), second=self._axis(second))

    def __getitem__(self, key: Any) -> Traced:
        if isinstance(key, Traced):
            return self._op("take", key)
        keys = key if isinstance(key, tuple) else (key,)
        value, axis = self, 0
        for item in keys:
            if item is Ellipsis:
                named = sum(k is not None and k is not Ellipsis for k in keys)
                axis = self.ndim - named
            elif item is None:
                value = value._op("expand", axis=axis)
                axis += 1
            elif isinstance(item, slice):
                value = value._cut(axis, item)
                axis += 1
            elif isinstance(item, int):
                size = value.example.shape[axis]
                at = item if item >= 0 else size + item
                value = value._op("pick", axis=axis, at=at)
            else:
                raise UntraceableError(
                    f"it uses an index of type {type(item).__name__}"
                )
        return value

    def _cut(self, axis: int, item: slice) -> Traced:
        start, stop, step = item.indices(self.example.shape[axis])
        if step != 1:
            raise UntraceableError("it uses a slice with a step")
        if item == slice(None):
            return self
        return self._op("cut", axis=axis, start=start, stop=stop)


class Tracer(Numpy):
    """Array namespace that records the operations it computes.

    Attributes:
        tensors: The constants.
        inputs: Names of the inputs that were requested.
        nodes: Recorded operations; see :class:`rllib_risk.deploy.graph.Graph`.
    """

    def __init__(self, tensors: Tensors) -> None:
        """Initializes a tracer without operations.

        Args:
            tensors: The constants. Several networks may share them.
        """
        self.tensors = tensors
        self.inputs: list[str] = []
        self.nodes: list[tuple[str, list[str], dict[str, Any]]] = []

    def input(self, name: str, dtype: Any, *shape: int) -> Traced:
        """Adds an input of the network.

        Args:
            name: Name of the input.
            dtype: Data type of the input.
            *shape: Shape of the input without the rows.
        """
        self.inputs.append(name)
        return Traced(self, np.ones((_NUM_EXAMPLE_ROWS, *shape), dtype), name)

    def record(self, operation: str, *read: Any, **settings: Any) -> Traced:
        """Computes an operation and records it, unless the result is a constant.

        Args:
            operation: Name in :data:`rllib_risk.deploy.operations.OPERATIONS`.
            *read: Inputs of the operation: traced values, arrays or numbers.
            **settings: Settings of the operation.
        """
        like = next(v.example.dtype for v in read if isinstance(v, Traced))
        values = [self._traced(v, like) for v in read]
        examples = [v.example for v in values]
        result = OPERATIONS[operation](*examples, **settings)
        if all(v.name is None for v in values):
            return Traced(self, result)
        names = [v.name or self.tensors.name(v.example) for v in values]
        self.nodes.append((operation, names, settings))
        return Traced(self, result, f"v{len(self.nodes) - 1}")

    def _traced(self, value: Any, like: np.dtype) -> Traced:
        if isinstance(value, Traced):
            return value
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, (bool, int, float)):
            value = np.asarray(value, like)  # as in NumPy's arithmetic with arrays
        return Traced(self, value)

    # Methods of the array namespace.

    def relu(self, rows: Any) -> Traced:
        """See :meth:`.arrays.Torch.relu`."""
        return self.record("relu", rows)

    def relu_(self, rows: Any) -> Traced:
        """See :meth:`.arrays.Torch.relu_`."""
        return self.record("relu", rows)

    def sort(self, rows: Any) -> Traced:
        """See :meth:`.arrays.Torch.sort`."""
        return self.record("sort", rows)

    def mean(self, rows: Any) -> Traced:
        """See :meth:`.arrays.Torch.mean`."""
        return rows.mean(-1)

    def affine(self, weight: Tensor, bias: Tensor) -> Step:
        """See :meth:`.arrays.Torch.affine`."""
        return lambda rows: self.record("linear", rows, weight, bias)

    def layer_norm(self, layer: nn.LayerNorm) -> Step:
        """See :meth:`.arrays.Torch.layer_norm`."""
        weight, bias, epsilon = layer.weight, layer.bias, layer.eps
        return lambda rows: self.record(
            "layer_norm", rows, weight, bias, epsilon=epsilon
        )

    def conv(self, layer: nn.Conv2d) -> Step:
        """See :meth:`.arrays.Torch.conv`."""
        weight, bias, settings = conv_settings(layer)
        return lambda rows: self.record("conv", rows, weight, bias, **settings)

    def concat(self, *parts: Any) -> Traced:
        """See :meth:`.arrays.Torch.concat`."""
        return self.record("concat", *parts)

    def gru(self, layer: nn.GRU) -> Step:
        """See :meth:`.arrays.Torch.gru`; gates r, z, n."""
        size = layer.hidden_size
        w_input, w_hidden, b_input, b_hidden = layer.parameters()
        inner, outer = self.affine(w_input, b_input), self.affine(w_hidden, b_hidden)

        def step(rows: Any, state: Any) -> Traced:
            from_input, from_hidden = inner(rows), outer(state)  # [R, 3 H]
            gates = from_input[:, : 2 * size] + from_hidden[:, : 2 * size]
            gates = self.record("sigmoid", gates)
            new = from_hidden[:, 2 * size :] * gates[:, :size]
            new = self.record("tanh", new + from_input[:, 2 * size :])
            return new + gates[:, size:] * (state - new)

        return step

    def lstm(self, layer: nn.LSTM) -> Step:
        """See :meth:`.arrays.Torch.lstm`; gates i, f, g, o."""
        size = layer.hidden_size
        w_input, w_hidden, b_input, b_hidden = layer.parameters()
        inner, outer = self.affine(w_input, b_input), self.affine(w_hidden, b_hidden)

        def step(rows: Any, state: Any) -> Traced:
            gates = inner(rows) + outer(state[:, :size])  # [R, 4 H]
            keep = self.record("sigmoid", gates[:, : 2 * size])
            new = self.record("tanh", gates[:, 2 * size : 3 * size])
            show = self.record("sigmoid", gates[:, 3 * size :])
            cell = keep[:, size:] * state[:, size:] + keep[:, :size] * new
            output = show * self.record("tanh", cell)
            return self.record("concat", output, cell)

        return step

    def constant(self, tensor: Tensor) -> Traced:
        """See :meth:`.arrays.Torch.constant`."""
        return Traced(self, tensor.detach().cpu().numpy())

    def of_torch(self, function: Step) -> Step:
        """Raises an error: a function of tensors needs PyTorch."""
        raise UntraceableError(
            f"{getattr(function, '__qualname__', function)} is computed with PyTorch"
        )

    def without_own_step(self, part: object, function: Step) -> Step:
        """Raises an error: the part defines no acting step."""
        kind = type(part)
        raise UntraceableError(
            f"{kind.__module__}:{kind.__qualname__} defines no one_step(xp)"
        )
