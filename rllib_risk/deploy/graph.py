"""A network as a list of operations, read from JSON and run with NumPy.

Loading runs no code of the artefact: a node names an operation of
:data:`.operations.OPERATIONS` and the values that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from rllib_risk.deploy.errors import ArtefactError
from rllib_risk.deploy.operations import OPERATIONS

# A Graph or an OnnxSession: a function from inputs by name to outputs by name.
Decide = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class Graph:
    """A list of operations from named inputs to named outputs.

    Attributes:
        inputs: Names of the inputs.
    """

    def __init__(
        self, record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
    ) -> None:
        """Resolves every name.

        Args:
            record: ``inputs``, a list of names; ``nodes``, lists ``[operation, [names
                of the values that it reads], {its settings}]``, whose results are named
                ``v0``, ``v1`` and so on; and ``outputs``, names of values by output.
            tensors: Constants by name.

        Raises:
            ArtefactError: If an operation or a name is unknown.
        """
        self.inputs: tuple[str, ...] = tuple(record["inputs"])
        self._constants: list[Any] = []
        places: dict[str, int] = {}
        for name, tensor in tensors.items():
            places[name] = len(places)
            self._constants.append(tensor)
        for name in self.inputs:
            places[name] = len(places)
        self._steps: list[tuple[Callable[..., Any], list[int]]] = []
        for k, (operation, read, settings) in enumerate(record["nodes"]):
            function = OPERATIONS.get(operation)
            if function is None or not set(read) <= places.keys():
                raise ArtefactError(
                    f"Node {k} of the network is {operation!r} of {', '.join(read)},"
                    " but this version does not know the operation or a value. Load the"
                    " artefact with the version that wrote it, or a later one."
                )
            if settings:
                function = partial(function, **settings)
            self._steps.append((function, [places[name] for name in read]))
            places[f"v{k}"] = len(places)
        self._outputs = {name: places[v] for name, v in record["outputs"].items()}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the operations.

        Args:
            inputs: One array for each of :attr:`inputs`.

        Returns:
            The outputs.
        """
        values = [*self._constants, *[inputs[name] for name in self.inputs]]
        for function, read in self._steps:
            values.append(function(*[values[i] for i in read]))
        return {name: values[i] for name, i in self._outputs.items()}
