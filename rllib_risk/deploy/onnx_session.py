"""Runs an ONNX network with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rllib_risk.deploy.errors import ArtefactError

OUTPUTS = ("action", "next_memory", "utilities", "risk_level")


class OnnxSession:
    """A network in an ``.onnx`` file; see :class:`.graph.Graph`."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Args:
            path: Path of the ``.onnx`` file.

        Raises:
            ArtefactError: If onnxruntime is not installed or cannot read the file.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ArtefactError(
                f"{path} needs onnxruntime, which is not installed. Run pip install"
                " onnxruntime, or export with --format safetensors."
            ) from error
        options = onnxruntime.SessionOptions()
        # The matrices are too small for a second thread to help.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ArtefactError(f"{path} cannot be opened: {error}") from error
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the network; see :class:`.graph.Graph`."""
        given = {name: inputs[name] for name in self._inputs}
        found = self._session.run(OUTPUTS, given)
        return dict(zip(OUTPUTS, found, strict=True))
