"""Encoders: from an agent's inputs, step by step, to features.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` number
of features, ``C`` size of the state that lasts between steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.part import Part
from rllib_risk.config.schema import MOST_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step


class Encoder(Part, nn.Module):
    """What an agent makes of its observations.

    An encoder of your own sets :attr:`feature_size` and defines :meth:`forward`, and
    :meth:`one_step` if acting is to be fast. What lasts between steps is one row of
    numbers, the *state*. It begins with the features of the step and is zero before
    the first one.

    Attributes:
        feature_size: ``H``.
        memory_size: Numbers of the state beside the features.
        has_memory: Whether features depend on earlier steps.
    """

    feature_size: int
    memory_size: int = 0
    has_memory: bool = True

    def __init__(self, sizes: TeamSizes, input_size: int, options: Any = None) -> None:
        """Initializes the encoder.

        Args:
            sizes: What the environment fixes. An input begins with the observation,
                ``sizes.obs_size`` numbers; then come the agent's last action and its
                id, one-hot, unless the configuration leaves them out.
            input_size: ``I``.
            options: See :class:`~rllib_risk.config.part.Part`.
        """
        super().__init__(options)

    @property
    def state_size(self) -> int:
        """``C``."""
        return self.feature_size + self.memory_size

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encodes a stretch of time.

        Args:
            inputs: ``[R, T, I]``.
            state: ``[R, C]`` before the first step, or None for zeros.

        Returns:
            Features ``[R, T, H]`` and the state after the last step ``[R, C]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def one_step(self, xp: Namespace) -> Step:
        """One step of acting; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Operations on tensors, or on arrays.

        Returns:
            From inputs ``[R, I]`` and a state ``[R, C]`` to the next state ``[R, C]``.
        """

        def step(inputs: Tensor, state: Tensor) -> Tensor:
            return self(inputs.unsqueeze(1), state)[1]

        return xp.without_own_step(self, step)

    def features_of(self, state: Rows) -> Rows:
        """The features of the step that led to a state.

        Args:
            state: ``[..., C]``.

        Returns:
            ``[..., H]``.
        """
        # Without further memory the slice is spared: with few rows every call counts.
        return state[..., : self.feature_size] if self.memory_size else state

    def readout(self, features: Rows, xp: Namespace = TORCH) -> Rows:
        """What last layers read of the features.

        Args:
            features: ``[..., H]``.
            xp: Operations on tensors, or on arrays.

        Returns:
            ``[..., H]``.
        """
        return features


_CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class StandardEncoder(Encoder):
    """Linear, ReLU, then a GRU or LSTM over time (or a second linear layer without
    memory).

    The GRU is PyMARL's agent body: ``I -> 64 -> GRU 64``. The LSTM is that of DrIGM
    (robust value factorization), where a ReLU stands between it and the last layer and
    QTRAN reads the LSTM's output before that ReLU. So the features are this output, and
    :meth:`readout` gives what last layers read. PyTorch's default initialisation. The
    cell runs over all steps in one call.

    Attributes:
        cell: ``gru``, ``lstm`` or ``none``.
    """

    @dataclass(frozen=True)
    class Options:
        hidden_size: int = option(
            64, "Width of the agent network.", low=1, high=MOST_WIDTH, fixed=True
        )
        recurrent: bool = option(True, "Memory over time; false for none.", fixed=True)
        rnn_cell: Literal["gru", "lstm"] = option(
            "gru", "What that memory is.", fixed=True
        )

    options: Options

    def __init__(
        self, sizes: TeamSizes, input_size: int, options: Options | None = None
    ) -> None:
        """Initializes the encoder; see :class:`Encoder`.

        Raises:
            ValueError: If ``rnn_cell`` is unknown.
        """
        super().__init__(sizes, input_size, options)
        size, recurrent = self.options.hidden_size, self.options.recurrent
        if self.options.rnn_cell not in _CELLS:
            raise ValueError(
                f"Unknown rnn_cell {self.options.rnn_cell!r}; known: gru, lstm."
            )
        self.cell = self.options.rnn_cell if recurrent else "none"
        self.feature_size = size
        self.memory_size = size if self.cell == "lstm" else 0
        self.has_memory = recurrent
        self.fc1 = nn.Linear(input_size, size)
        self.body: nn.Module
        if self.cell == "none":
            self.body = nn.Linear(size, size)
        else:
            self.body = _CELLS[self.cell](size, size, batch_first=True)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """See :meth:`Encoder.forward`."""
        if self.cell == "none":
            features = self.one_step(TORCH)(inputs, state)
            return features, features[:, -1]
        embedded = self._embedding(TORCH)(inputs)
        parts = None
        if state is not None:
            # [1, R, H] each: the GRU's state, or the LSTM's output and cell
            halves = state.unsqueeze(0).split(self.feature_size, dim=-1)
            parts = [half.contiguous() for half in halves]
        if self.cell == "gru":
            features, last = self.body(embedded, None if parts is None else parts[0])
            return features, last.squeeze(0)
        features, ends = self.body(embedded, parts)
        return features, torch.cat(ends, dim=-1).squeeze(0)

    def _embedding(self, xp: Namespace) -> Step:
        first = xp.linear(self.fc1)
        return lambda inputs: xp.relu_(first(inputs))

    def one_step(self, xp: Namespace) -> Step:
        """See :meth:`Encoder.one_step`."""
        embed = self._embedding(xp)
        if self.cell == "none":
            second = xp.linear(self.body)
            return lambda inputs, state: xp.relu_(second(embed(inputs)))
        cell: Step = getattr(xp, self.cell)(self.body)
        return lambda inputs, state: cell(embed(inputs), state)

    def readout(self, features: Rows, xp: Namespace = TORCH) -> Rows:
        """See :meth:`Encoder.readout`: behind an LSTM their ReLU."""
        return xp.relu(features) if self.cell == "lstm" else features
