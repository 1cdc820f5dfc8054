"""A head that gives the return's quantile at any fraction: implicit quantiles.

Letters: ``A`` actions, ``H`` number of features, ``M`` fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.networks.arrays import Namespace, Rows, Step
from rllib_risk.networks.heads import UtilityHead

_NUM_COSINES = 64


class QuantileHead(UtilityHead):
    """From features and fractions to quantiles: IQN (Dabney et al., 2018), Eq. 4.

    A fraction is embedded as ``phi(tau) = ReLU(Linear(cos(pi j tau)))``, ``j`` from 0
    on, and the embedding multiplies the features. A hidden layer with ReLU and a linear
    layer follow. Nothing forces the quantiles to rise with the fraction.

    Attributes:
        embedding: Linear, cosines to ``H``.
        hidden: Linear, ``H`` to ``H``.
        output: Linear, ``H`` to ``A``.
    """

    samples = True
    frequencies: Tensor

    def __init__(
        self, feature_size: int, num_actions: int, num_atoms: int, options: Any = None
    ) -> None:
        """Initializes the head; see :class:`UtilityHead`."""
        super().__init__(feature_size, num_actions, num_atoms, options)
        self.embedding = nn.Linear(_NUM_COSINES, feature_size)
        self.hidden = nn.Linear(feature_size, feature_size)
        self.output = nn.Linear(feature_size, num_actions)
        # A constant, not a parameter: it does not belong in a checkpoint.
        frequencies = torch.pi * torch.arange(_NUM_COSINES, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        if config.num_atoms == 1:
            yield "num_atoms: must be above 1 for quantiles: sampled."

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

    def one_step(self, xp: Namespace, fractions: Tensor | None = None) -> Step:
        """See :meth:`UtilityHead.one_step`.

        Raises:
            ValueError: If there are no fractions.
        """
        if fractions is None:
            raise ValueError("Sampled quantiles need fractions.")
        embedded = xp.constant(self.embed(fractions))
        hidden, output = xp.linear(self.hidden), xp.linear(self.output)

        def quantiles(features: Rows) -> Rows:
            rows = xp.relu_(hidden(features[..., None, :] * embedded))  # [..., M, H]
            return output(rows).swapaxes(-1, -2)

        return quantiles
