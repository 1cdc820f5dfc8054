"""A head that gives the return's quantile at any fraction: implicit quantiles.

Letters: ``A`` actions, ``H`` hidden size, ``M`` fractions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QuantileHead(nn.Module):
    """From features and fractions to quantiles: IQN (Dabney et al., 2018), Eq. 4.

    A fraction is embedded as ``phi(tau) = ReLU(Linear(cos(pi j tau)))``, ``j`` from 0
    on, and the embedding multiplies the features. A hidden layer with ReLU and a linear
    layer follow. Nothing forces the quantiles to rise with the fraction.

    Attributes:
        embedding: Linear, cosines to ``H``.
        hidden: Linear, ``H`` to ``H``.
        output: Linear, ``H`` to ``A``.
    """

    frequencies: Tensor

    def __init__(
        self, hidden_size: int, num_actions: int, num_cosines: int = 64
    ) -> None:
        """Initializes the head.

        Args:
            hidden_size: ``H``.
            num_actions: ``A``.
            num_cosines: Number of cosines.
        """
        super().__init__()
        self.embedding = nn.Linear(num_cosines, hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_actions)
        # A constant, not a parameter: it does not belong in a checkpoint.
        frequencies = torch.pi * torch.arange(num_cosines, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def embed(self, fractions: Tensor) -> Tensor:
        """Embeddings of fractions, which need no features: for acting, once a round.

        Args:
            fractions: ``[..., M]`` in [0, 1].

        Returns:
            ``[..., M, H]``.
        """
        return F.relu(
            self.embedding(torch.cos(fractions[..., None] * self.frequencies))
        )

    def forward(self, features: Tensor, fractions: Tensor) -> Tensor:
        """Quantiles of every action.

        Args:
            features: ``[..., H]``.
            fractions: ``[M]``, or ``[..., M]`` for each row its own.

        Returns:
            ``[..., A, M]``, in the order of the fractions.
        """
        product = features.unsqueeze(-2) * self.embed(fractions)  # [..., M, H]
        return self.output(F.relu(self.hidden(product))).transpose(-1, -2)

    def of_actions(
        self, features: Tensor, fractions: Tensor, actions: Tensor
    ) -> Tensor:
        """Quantiles of one action per row.

        Args:
            features: ``[..., H]``.
            fractions: ``[M]`` or ``[..., M]``.
            actions: int64 ``[...]``.

        Returns:
            ``[..., M]``.
        """
        quantiles = self(features, fractions)
        index = actions[..., None, None].expand(*actions.shape, 1, quantiles.shape[-1])
        return quantiles.gather(-2, index).squeeze(-2)
