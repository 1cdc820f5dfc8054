"""RMIX's predictor of the risk level.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``H`` number of features,
``A`` actions, ``M`` atoms, ``K`` risk levels, ``d`` size of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.heads import LinearHead


class RiskLevelPredictor(nn.Module):
    """Predicts one of ``K`` risk levels per agent and step: RMIX, Section 4.1.

    The predictor compares an embedding of the current return distribution with an
    embedding of the distribution expected from the history. Both embeddings are linear
    maps of the atoms, without bias. The atoms are themselves linear in the head's input
    (:meth:`Encoder.readout`). The two linear maps are multiplied first, so the
    ``A x M`` atoms of the history are never formed.

    The predictor sends no gradient to the agent's encoder or head. In the released code
    the predictor gets no gradient either, because the level is an argmax; see
    ``docs/algorithms/rmix.md``.
    """

    def __init__(
        self,
        history: Encoder,
        num_outputs: int,
        num_levels: int,
        embed_dim: int,
        *,
        scale: float,
        tie_embeddings: bool,
        history_trains: bool,
    ) -> None:
        """Initializes the predictor.

        Args:
            history: Encoder of the past steps, of the same class as the agent's
                encoder.
            num_outputs: ``A * M``, number of outputs of the head.
            num_levels: ``K``, number of risk levels.
            embed_dim: ``d``, size of the embeddings.
            scale: Factor on the inner products.
            tie_embeddings: Whether both sides share one embedding, as in the paper.
            history_trains: Whether gradients reach the history encoder.
        """
        super().__init__()
        self.num_levels = num_levels
        self.embed_dim = embed_dim
        self.scale = scale
        self.history_trains = history_trains
        self.history = history
        self.embed_history = nn.Linear(num_outputs, embed_dim * num_levels, bias=False)
        self.embed_current: nn.Linear | None = (
            None if tie_embeddings else nn.Linear(num_outputs, embed_dim, bias=False)
        )
        self._maps_of: tuple = ()
        self._maps: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def forward(
        self, features: Tensor, history_features: Tensor, head: LinearHead
    ) -> Tensor:
        """Computes the logits of the risk levels.

        Args:
            features: The agent's features, ``[R, T, H]``; detached here.
            history_features: Features of :attr:`history`, ``[R, T, H]``.
            head: The agent's head; its weights are detached.

        Returns:
            Logits ``[R, T, K]``.
        """
        if not self.history_trains:
            history_features = history_features.detach()
        return self.comparison(TORCH, head)(features.detach(), history_features)

    def comparison(self, xp: Namespace, head: LinearHead) -> Step:
        """Builds the same computation for acting; see :mod:`.arrays`.

        Args:
            xp: Array namespace, :data:`.arrays.TORCH` or :data:`.arrays.NUMPY`.
            head: The agent's head.

        Returns:
            A function from the agent's and the history's features ``[..., H]`` to
            logits ``[..., K]``.
        """
        weight, bias, *expected_map = self.embedding_maps(head)
        map_current, map_expected = xp.affine(weight, bias), xp.affine(*expected_map)
        # The agent's encoder has the same cell, so its readout is the same.
        readout, tied = self.history.readout, self.embed_current is None
        shape = (self.embed_dim, self.num_levels)

        def logits(features: Rows, history_features: Rows) -> Rows:
            current = map_current(readout(features, xp))
            expected = map_expected(readout(history_features, xp))
            expected = expected.reshape(*expected.shape[:-1], *shape)
            if tied:
                return (current.reshape(expected.shape) * expected).sum(-2)
            return (current[..., None, :] @ expected)[..., 0, :]

        return logits

    def embedding_maps(self, head: LinearHead) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases of the maps from the head's input to the embeddings.

        Returns:
            Weight and bias of the current embedding, multiplied by the scale, then
            weight and bias of the history's embedding.
        """
        parameters = [self.embed_history.weight, head.weight, head.bias]
        if self.embed_current is not None:
            parameters.append(self.embed_current.weight)
        if torch.is_grad_enabled():
            return self._multiply(*parameters)
        # Acting needs the same products at every step, so they are cached. Every
        # in-place change of a parameter (an optimizer step, new weights) raises its
        # version.
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
