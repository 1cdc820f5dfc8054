"""The standard encoder: a GRU, an LSTM or a feed-forward network.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` number
of features, ``C`` size of the hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step
from rllib_risk.networks.encoder import Encoder

_CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class StandardEncoder(Encoder):
    """Linear layer, ReLU, then a GRU, an LSTM or a second linear layer.

    The GRU network is PyMARL's agent: ``I -> 64 -> GRU 64``. The LSTM is that of DrIGM
    (robust value factorization). There a ReLU follows the LSTM, but QTRAN reads the
    output before the ReLU. So the features are the LSTM's output, and :meth:`readout`
    applies the ReLU for the head. With ``layer_norm`` each linear layer is normalised
    before its ReLU (Gallici et al., 2025). Initialisation is PyTorch's default. The
    cell runs over all steps in one call.

    Attributes:
        cell: ``gru``, ``lstm`` or ``none``.
    """

    @dataclass(frozen=True)
    class Options:
        hidden_size: int = option(
            64,
            "Number of units of the agent network's hidden layers.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        recurrent: bool = option(
            True,
            "Whether the agent network is recurrent; false: feed-forward.",
            fixed=True,
        )
        rnn_cell: Literal["gru", "lstm"] = option(
            "gru", "Recurrent cell, if recurrent is true.", fixed=True
        )
        layer_norm: bool = option(
            False,
            "Whether layer normalisation comes before every ReLU of the hidden layers,"
            " as in PQN.",
            fixed=True,
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
                f"Unknown rnn_cell {self.options.rnn_cell!r}: use gru or lstm."
            )
        self.cell = self.options.rnn_cell if recurrent else "none"
        self.feature_size = size
        self.memory_size = size if self.cell == "lstm" else 0
        self.has_memory = recurrent
        self.fc1 = nn.Linear(input_size, size)
        # Without parameters, so that checkpoints without normalisation stay the same.
        layers = 1 if recurrent else 2
        self.norms = nn.ModuleList(
            nn.LayerNorm(size) for _ in range(layers if self.options.layer_norm else 0)
        )
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
            # [1, R, H] each: the GRU's hidden state, or the LSTM's output and cell
            halves = state.unsqueeze(0).split(self.feature_size, dim=-1)
            parts = [half.contiguous() for half in halves]
        if self.cell == "gru":
            features, last = self.body(embedded, None if parts is None else parts[0])
            return features, last.squeeze(0)
        features, ends = self.body(embedded, parts)
        return features, torch.cat(ends, dim=-1).squeeze(0)

    def _embedding(self, xp: Namespace) -> Step:
        return self._layer(xp, self.fc1, 0)

    def _layer(self, xp: Namespace, linear: nn.Module, index: int) -> Step:
        """Linear layer, normalisation if there is one, and ReLU."""
        first = xp.linear(linear)
        if not self.norms:
            return lambda inputs: xp.relu_(first(inputs))
        norm = xp.layer_norm(cast("nn.LayerNorm", self.norms[index]))
        return lambda inputs: xp.relu_(norm(first(inputs)))

    def one_step(self, xp: Namespace) -> Step:
        """See :meth:`Encoder.one_step`."""
        embed = self._embedding(xp)
        if self.cell == "none":
            second = self._layer(xp, self.body, 1)
            return lambda inputs, state: second(embed(inputs))
        cell: Step = getattr(xp, self.cell)(self.body)
        return lambda inputs, state: cell(embed(inputs), state)

    def readout(self, features: Rows, xp: Namespace = TORCH) -> Rows:
        """See :meth:`Encoder.readout`. With an LSTM it is a ReLU."""
        return xp.relu(features) if self.cell == "lstm" else features
