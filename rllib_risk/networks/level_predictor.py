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
            history: Encodes the steps before; of the same kind as the agent's own.
            num_outputs: ``A * M``.
            num_levels: ``K``.
            embed_dim: ``d``, size of the embedding that is compared.
            scale: Factor on the inner products.
            tie_embeddings: One map for both sides (the paper's reading) instead of two.
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
        """Logits of the levels.

        Args:
            features: The agent's features, ``[R, T, H]``; detached here.
            history_features: Those of :attr:`history`, ``[R, T, H]``.
            head: The agent's head; its weights are detached.

        Returns:
            ``[R, T, K]``.
        """
        if not self.history_trains:
            history_features = history_features.detach()
        return self.comparison(TORCH, head)(features.detach(), history_features)

    def comparison(self, xp: Namespace, head: LinearHead) -> Step:
        """The same in acting; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Operations on tensors, or on arrays.
            head: The agent's head.

        Returns:
            From the agent's and the history's features ``[..., H]`` to logits
            ``[..., K]``.
        """
        weight, bias, *expected_map = self.embedding_maps(head)
        map_current, map_expected = xp.affine(weight, bias), xp.affine(*expected_map)
        # The agent's encoder has the same cell, and so the same readout.
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
