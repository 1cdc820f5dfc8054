"""The network of one agent (or of all agents, if they share parameters).

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` hidden
size, ``C`` size of the state that lasts between steps, ``A`` actions, ``M`` atoms,
``K`` risk levels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.networks.quantile_head import QuantileHead

# What "rnn_cell" may be.
_CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class Encoder(nn.Module):
    """Linear, ReLU, then a GRU or LSTM over time (or a second linear layer without
    memory).

    The GRU is PyMARL's agent body: ``I -> 64 -> GRU 64``. The LSTM is that of DrIGM
    (robust value factorization), where a ReLU stands between it and the last layer and
    QTRAN reads the LSTM's output before that ReLU. So the features are this output, and
    :meth:`readout` gives what last layers read. PyTorch's default initialisation. The
    cell runs over all steps in one call.

    Attributes:
        cell: ``gru``, ``lstm`` or ``none``.
        state_size: ``C``: ``H``, or for an LSTM ``2 H``, its output and then its cell.
            The first ``H`` are always the features of the last step.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        recurrent: bool,
        rnn_cell: str = "gru",
    ) -> None:
        """Initializes the encoder.

        Args:
            input_size: ``I``.
            hidden_size: ``H``.
            recurrent: False replaces the cell by a linear layer with ReLU.
            rnn_cell: ``gru`` or ``lstm``.

        Raises:
            ValueError: If ``rnn_cell`` is unknown.
        """
        super().__init__()
        if rnn_cell not in _CELLS:
            raise ValueError(
                f"Unknown rnn_cell {rnn_cell!r}; known: {', '.join(_CELLS)}."
            )
        self.cell = rnn_cell if recurrent else "none"
        self.state_size = 2 * hidden_size if self.cell == "lstm" else hidden_size
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.body: nn.Module = (
            _CELLS[rnn_cell](hidden_size, hidden_size, batch_first=True)
            if recurrent
            else nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encodes a stretch of time.

        Args:
            inputs: ``[R, T, I]``.
            state: ``[R, C]`` before the first step, or None for zeros.

        Returns:
            Features ``[R, T, H]`` and the state after the last step ``[R, C]``.
        """
        embedded = F.relu(self.fc1(inputs))
        if self.cell == "none":
            features = F.relu(self.body(embedded))
            return features, features[:, -1]
        parts = None
        if state is not None:
            # [1, R, H] each: the GRU's state, or the LSTM's output and cell
            halves = state.unsqueeze(0).split(self.fc1.out_features, dim=-1)
            parts = [half.contiguous() for half in halves]
        if self.cell == "gru":
            features, last = self.body(embedded, None if parts is None else parts[0])
            return features, last.squeeze(0)
        features, ends = self.body(embedded, parts)
        return features, torch.cat(ends, dim=-1).squeeze(0)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Encodes one step of acting.

        With few rows the calls cost more than the arithmetic: one fused cell is several
        times cheaper than a sequence of one.

        Args:
            inputs: ``[R, I]``.
            state: ``[R, C]``.

        Returns:
            The next state ``[R, C]``, the step's features first.
        """
        embedded = F.linear(inputs, self.fc1.weight, self.fc1.bias).relu_()
        if self.cell == "none":
            return F.relu(self.body(embedded))
        if self.cell == "gru":
            return torch.gru_cell(embedded, state, *self.body.parameters())
        parts = state.chunk(2, dim=-1)
        return torch.cat(
            torch.lstm_cell(embedded, parts, *self.body.parameters()), dim=-1
        )

    def features_of(self, state: Tensor) -> Tensor:
        """The features of the step that led to a state.

        Args:
            state: ``[..., C]``.

        Returns:
            ``[..., H]``.
        """
        # A GRU is spared the slice: with few rows every call into PyTorch counts.
        return state[..., : self.state_size // 2] if self.cell == "lstm" else state

    def readout(self, features: Tensor) -> Tensor:
        """What last layers read of the features: behind an LSTM their ReLU.

        Args:
            features: ``[..., H]``.

        Returns:
            ``[..., H]``.
        """
        return F.relu(features) if self.cell == "lstm" else features


class RiskLevelPredictor(nn.Module):
    """Predicts one of ``K`` risk levels per agent and step: RMIX, Section 4.1.

    Compares an embedding of the current return distribution with one of the return
    distribution as it was expected from the history. Both embeddings are linear maps
    without bias, of atoms that are themselves linear in what the agent's head reads
    (:meth:`Encoder.readout`, here as there); the two maps are multiplied first, so that
    the ``A x M`` atoms of the history are never formed.

    No gradient reaches the agent's encoder or head from here. In the released code none
    reaches the predictor either (its level comes from an argmax); see
    ``docs/algorithms/rmix.md``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        recurrent: bool,
        num_outputs: int,
        num_levels: int,
        embed_dim: int,
        *,
        rnn_cell: str = "gru",
        scale: float,
        tie_embeddings: bool,
        history_trains: bool,
    ) -> None:
        """Initializes the predictor.

        Args:
            input_size: ``I``, the size of the agent's own input.
            hidden_size: ``H``.
            recurrent: Whether the history encoder has memory.
            num_outputs: ``A * M``.
            num_levels: ``K``.
            embed_dim: ``d``, size of the embedding that is compared.
            rnn_cell: ``gru`` or ``lstm``, as the agent's own.
            scale: Factor on the inner products.
            tie_embeddings: One map for both sides (the paper's reading) instead of two.
            history_trains: Whether gradients reach the history encoder.
        """
        super().__init__()
        self.num_levels = num_levels
        self.embed_dim = embed_dim
        self.scale = scale
        self.history_trains = history_trains
        self.history = Encoder(input_size, hidden_size, recurrent, rnn_cell)
        self.embed_history = nn.Linear(num_outputs, embed_dim * num_levels, bias=False)
        self.embed_current: nn.Linear | None = (
            None if tie_embeddings else nn.Linear(num_outputs, embed_dim, bias=False)
        )
        self._maps_of: tuple = ()
        self._maps: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def forward(
        self, features: Tensor, history_features: Tensor, head: nn.Linear
    ) -> Tensor:
        """Logits of the levels.

        Args:
            features: The agent's features, ``[R, T, H]``; detached here.
            history_features: Those of :attr:`history`, ``[R, T, H]``.
            head: The agent's last layer, ``H -> A * M``; its weights are detached.

        Returns:
            ``[R, T, K]``.
        """
        if not self.history_trains:
            history_features = history_features.detach()
        # The agent's encoder has the same cell, and so the same readout.
        read = self.history.readout(features.detach())
        history_read = self.history.readout(history_features)
        weight, bias, history_weight, history_bias = self.embedding_maps(head)
        current = F.linear(read, weight, bias)
        expected = F.linear(history_read, history_weight, history_bias)
        expected = expected.unflatten(-1, (self.embed_dim, self.num_levels))
        if self.embed_current is None:
            current = current.unflatten(-1, (self.embed_dim, self.num_levels))
            return (current * expected).sum(dim=-2)
        return (current.unsqueeze(-2) @ expected).squeeze(-2)

    def embedding_maps(self, head: nn.Linear) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight and bias from what the head reads to embeddings: the current side's,
        scaled, and the history's."""
        parameters = [self.embed_history.weight, head.weight, head.bias]
        if self.embed_current is not None:
            parameters.append(self.embed_current.weight)
        if torch.is_grad_enabled():
            return self._multiply(*parameters)
        # Acting asks for the same products at every step. Every in-place change of a
        # parameter (an optimizer step, new weights) raises its version.
        key = tuple([(p.data_ptr(), p._version) for p in parameters])
        if self._maps is None or self._maps_of != key:
            self._maps_of, self._maps = key, self._multiply(*parameters)
        return self._maps

    def _multiply(
        self, history: Tensor, head: Tensor, bias: Tensor, current: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        head, bias = head.detach(), bias.detach()
        expected = (history @ head, history @ bias)
        if current is None:
            return expected[0] * self.scale, expected[1] * self.scale, *expected
        return (current @ head) * self.scale, (current @ bias) * self.scale, *expected


class AgentNetwork(nn.Module):
    """Encoder, a head to ``M`` return atoms per action, and perhaps a level predictor.

    Attributes:
        num_actions: ``A``.
        num_atoms: ``M``; 1 makes a plain action value.
        head: A linear layer to ``A * M`` atoms at fixed fractions, or one function of
            the fraction (IQN).
        predictor: The risk level predictor, or None.
    """

    def __init__(
        self,
        input_size: int,
        num_actions: int,
        num_atoms: int,
        hidden_size: int,
        recurrent: bool,
        predictor: RiskLevelPredictor | None,
        *,
        rnn_cell: str = "gru",
        sampled: bool = False,
    ) -> None:
        """Initializes the network.

        Args:
            input_size: ``I``.
            num_actions: ``A``.
            num_atoms: ``M``.
            hidden_size: ``H``.
            recurrent: Whether there is memory.
            predictor: The risk level predictor, or None.
            rnn_cell: ``gru`` or ``lstm``.
            sampled: Whether atoms belong to fractions that are given with each call.
        """
        super().__init__()
        self.num_actions = num_actions
        self.num_atoms = num_atoms
        self.encoder = Encoder(input_size, hidden_size, recurrent, rnn_cell)
        self.head: nn.Linear | QuantileHead = (
            QuantileHead(hidden_size, num_actions)
            if sampled
            else nn.Linear(hidden_size, num_actions * num_atoms)
        )
        self.predictor = predictor

    @property
    def linear_head(self) -> nn.Linear:
        """The head, where fractions are fixed."""
        return cast("nn.Linear", self.head)

    def step(self, inputs: Tensor, state: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """One step of acting, up to the head.

        Args:
            inputs: ``[R, I]``.
            state: ``[R, C]``.
            *past: With a predictor the history encoder's inputs ``[R, I]`` and state
                ``[R, C]``.

        Returns:
            The next state ``[R, C]``, the features first; with a predictor also the
            next history state ``[R, C]`` and the level logits ``[R, K]``.
        """
        state = self.encoder.step(inputs, state)
        if self.predictor is None:
            return (state,)
        encoder = self.predictor.history
        history = encoder.step(*past)
        logits = self.predictor(
            encoder.features_of(state), encoder.features_of(history), self.linear_head
        )
        return state, history, logits

    def predictor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the risk level predictor; none if there is no predictor."""
        return [] if self.predictor is None else list(self.predictor.parameters())

    def atoms(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Return atoms of every action.

        Args:
            features: ``[..., H]``.
            fractions: ``[..., M]`` where quantiles are sampled.

        Returns:
            ``[..., A, M]``, in no order.
        """
        read = self.encoder.readout(features)
        if isinstance(self.head, QuantileHead):
            return self.head(read, fractions)
        return self.head(read).unflatten(-1, (self.num_actions, self.num_atoms))

    def atoms_of(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """Return atoms of one action per row.

        On the CPU rows are grouped by action and each group meets only its own slice of
        the head, so that neither the forward nor the backward pass touches the atoms of
        actions that nobody asked for.

        Args:
            features: ``[..., H]``.
            actions: int64 ``[...]``.
            fractions: ``[..., M]`` where quantiles are sampled.

        Returns:
            ``[..., M]``.
        """
        if isinstance(self.head, QuantileHead):
            read = self.encoder.readout(features)
            return self.head.of_actions(read, cast("Tensor", fractions), actions)
        if self.num_atoms == 1 or features.device.type != "cpu":
            index = actions[..., None, None].expand(*actions.shape, 1, self.num_atoms)
            return self.atoms(features).gather(-2, index).squeeze(-2)
        rows = self.encoder.readout(features).flatten(0, -2)
        flat = actions.flatten()
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=self.num_actions).tolist()
        weight = self.head.weight.unflatten(0, (self.num_actions, self.num_atoms))
        bias = self.head.bias.unflatten(0, (self.num_actions, self.num_atoms))
        groups = rows.index_select(0, order).split(counts)
        chosen = torch.cat(
            [F.linear(g, w, b) for g, w, b in zip(groups, weight, bias, strict=True)]
        )
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel())
        return chosen.index_select(0, inverse).unflatten(0, actions.shape)
