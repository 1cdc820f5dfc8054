"""Translates an exported network to ONNX, operation by operation.

Inputs and outputs keep their names and types; their first axis is dynamic. This module
needs the package ``onnx`` (``pip install "rllib-risk[onnx]"``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The lowest version in which all reductions take their axes as an input.
OPSET = 18
# The lowest version of the file format for opset 18, so that older readers accept it.
_IR_VERSION = 8

_SAME = {
    "add": "Add",
    "divide": "Div",
    "greater": "Greater",
    "matmul": "MatMul",
    "multiply": "Mul",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "subtract": "Sub",
    "tanh": "Tanh",
    "where": "Where",
}


def to_onnx(
    record: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    name: str,
) -> onnx.ModelProto:
    """Translates a network.

    Args:
        record: The network; see :class:`rllib_risk.deploy.graph.Graph`.
        tensors: Its constants by name; there may be others.
        sizes: Length of the second axis of ``obs``, ``action_mask`` and ``memory``.
        name: Name of the graph.

    Returns:
        The model, checked by ``onnx``.
    """
    writer = _Writer(tensors)
    ranks = {k: v.ndim for k, v in tensors.items()}
    ranks |= {n: 2 if n in sizes else 1 for n in record["inputs"]}
    for k, (operation, read, settings) in enumerate(record["nodes"]):
        given = [ranks[n] for n in read]
        ranks[f"v{k}"] = _rank(operation, given, settings)
        writer.translate(operation, read, settings, f"v{k}", given)
    for output, value in record["outputs"].items():
        writer.node("Identity", [value], output)  # an output may be an input
    graph = helper.make_graph(
        writer.nodes,
        name,
        [_value(n, _TYPES[n], sizes.get(n)) for n in record["inputs"]],
        [_value(n, _TYPES[n], _width(n, sizes)) for n in record["outputs"]],
        writer.constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="rllib_risk",
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


_TYPES = {
    "obs": TensorProto.FLOAT,
    "action_mask": TensorProto.BOOL,
    "last_action": TensorProto.INT64,
    "agent": TensorProto.INT64,
    "memory": TensorProto.FLOAT,
    "return_so_far": TensorProto.DOUBLE,
    "action": TensorProto.INT64,
    "next_memory": TensorProto.FLOAT,
    "utilities": TensorProto.FLOAT,
    "risk_level": TensorProto.FLOAT,
}


def _width(output: str, sizes: Mapping[str, int]) -> int | None:
    widths = {"utilities": "action_mask", "next_memory": "memory"}
    return sizes[widths[output]] if output in widths else None


def _value(name: str, kind: int, width: int | None) -> onnx.ValueInfoProto:
    shape: list[str | int | None] = ["rows"]
    if width is not None:
        shape.append(width)
    return helper.make_tensor_value_info(name, kind, shape)


def _rank(operation: str, ranks: list[int], settings: Mapping[str, Any]) -> int:
    """Number of axes of the result of an operation."""
    if operation == "reshape":
        return len(settings["shape"])
    if operation in ("pick", "mean", "total", "argmax"):
        return ranks[0] - 1
    if operation == "take":
        return ranks[0] + ranks[1] - 1
    if operation == "fill":
        return 1
    if operation in ("linear", "layer_norm", "conv"):
        return ranks[0]
    return max(ranks) + (operation == "expand")


class _Writer:
    """The nodes and constants of a graph.

    Attributes:
        nodes: ONNX nodes.
        constants: ONNX tensors that the nodes read.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self._tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: set[str] = set()

    def node(self, kind: str, read: list[str], out: str, **attributes: Any) -> None:
        """Adds a node and the constants that it reads."""
        for name in read:
            if name in self._tensors:
                self._keep(name, self._tensors[name])
        self.nodes.append(helper.make_node(kind, read, [out], **attributes))

    def constant(self, values: Any) -> str:
        """Adds a constant of the translation, such as an axis or a shape."""
        array = np.asarray(values)
        name = f"c_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tolist()}"
        self._keep(name, array)
        return name

    def _keep(self, name: str, array: np.ndarray) -> None:
        if name not in self._known:
            self._known.add(name)
            self.constants.append(numpy_helper.from_array(array, name))

    def translate(
        self,
        operation: str,
        read: list[str],
        settings: Mapping[str, Any],
        out: str,
        ranks: list[int],
    ) -> None:
        """Adds the ONNX nodes of an operation."""
        if operation in _SAME:
            self.node(_SAME[operation], read, out)
        else:
            getattr(self, f"_{operation}")(read, out, ranks, **settings)

    def _linear(self, read: list[str], out: str, ranks: list[int]) -> None:
        rows, weight, bias = read
        turned = f"{weight}_turned"
        self._keep(turned, np.ascontiguousarray(self._tensors[weight].T))
        self.node("MatMul", [rows, turned], f"{out}_product")
        self.node("Add", [f"{out}_product", bias], out)

    def _layer_norm(
        self, read: list[str], out: str, ranks: list[int], epsilon: float
    ) -> None:
        self.node("LayerNormalization", read, out, axis=-1, epsilon=epsilon)

    def _conv(
        self, read: list[str], out: str, ranks: list[int], stride: int, padding: int
    ) -> None:
        self.node("Conv", read, out, strides=[stride] * 2, pads=[padding] * 4)

    def _concat(self, read: list[str], out: str, ranks: list[int]) -> None:
        self.node("Concat", read, out, axis=-1)

    def _cut(
        self,
        read: list[str],
        out: str,
        ranks: list[int],
        axis: int,
        start: int,
        stop: int,
    ) -> None:
        bounds = [self.constant(np.array([n])) for n in (start, stop, axis)]
        self.node("Slice", [*read, *bounds], out)

    def _pick(
        self, read: list[str], out: str, ranks: list[int], axis: int, at: int
    ) -> None:
        self.node("Gather", [*read, self.constant(np.int64(at))], out, axis=axis)

    def _expand(self, read: list[str], out: str, ranks: list[int], axis: int) -> None:
        self.node("Unsqueeze", [*read, self.constant(np.array([axis]))], out)

    def _reshape(
        self, read: list[str], out: str, ranks: list[int], shape: list[int]
    ) -> None:
        self.node("Reshape", [*read, self.constant(np.array(shape))], out)

    def _swap(
        self, read: list[str], out: str, ranks: list[int], first: int, second: int
    ) -> None:
        order = list(range(ranks[0]))
        order[first], order[second] = order[second], order[first]
        self.node("Transpose", read, out, perm=order)

    def _take(self, read: list[str], out: str, ranks: list[int]) -> None:
        # Gather counts negative indices from the end, as NumPy does.
        self.node("Gather", read, out, axis=0)

    def _sort(self, read: list[str], out: str, ranks: list[int]) -> None:
        # TopK with k equal to the length of the last axis sorts all values.
        self.node("Shape", read, f"{out}_size", start=-1)
        self.nodes.append(
            helper.make_node(
                "TopK", [*read, f"{out}_size"], [out, f"{out}_order"], largest=0
            )
        )

    def _mean(self, read: list[str], out: str, ranks: list[int], axis: int) -> None:
        axes = self.constant(np.array([axis]))
        self.node("ReduceMean", [*read, axes], out, keepdims=0)

    def _total(self, read: list[str], out: str, ranks: list[int], axis: int) -> None:
        axes = self.constant(np.array([axis]))
        self.node("ReduceSum", [*read, axes], out, keepdims=0)

    def _argmax(self, read: list[str], out: str, ranks: list[int]) -> None:
        self.node("ArgMax", read, out, axis=-1, keepdims=0)

    def _fill(self, read: list[str], out: str, ranks: list[int], value: float) -> None:
        self.node("Shape", read, f"{out}_rows", end=1)
        number = numpy_helper.from_array(np.array([value], np.float32))
        self.node("ConstantOfShape", [f"{out}_rows"], out, value=number)

    def _single(self, read: list[str], out: str, ranks: list[int]) -> None:
        self.node("Cast", read, out, to=TensorProto.FLOAT)
