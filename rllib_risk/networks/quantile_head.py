"""Implicit quantile head: the return's quantile at any given fraction (IQN).

Letters: ``N`` agents, ``A`` actions, ``H`` number of features, ``M`` fractions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.networks.arrays import Namespace, Rows, Step
from rllib_risk.networks.heads import UtilityHead

_NUM_COSINES = 64


class QuantileHead(UtilityHead):
    """Maps features and fractions to quantiles: IQN (Dabney et al., 2018), Eq. 4.

    A fraction is embedded as ``phi(tau) = ReLU(Linear(cos(pi j tau)))`` with ``j`` from
    0 to 63, and the embedding multiplies the features. A hidden layer with ReLU and a
    linear layer follow. ``quantile_hidden_layer: false`` removes the hidden layer, as
    in DFAC's code. The quantiles are not forced to increase with the fraction.

    Attributes:
        embedding: Linear layer from the cosines to ``H``.
        hidden: Linear layer from ``H`` to ``H``, or None.
        output: Linear layer from ``H`` to ``A``.
    """

    @dataclass(frozen=True)
    class Options:
        shared_fractions: bool = option(
            False,
            "Whether all agents of a step share the same sampled fractions, in"
            " ascending order. Mixing their distributions requires it.",
            fixed=True,
        )
        quantile_hidden_layer: bool = option(
            True,
            "Whether the head of sampled quantiles has a hidden layer after the product"
            " of features and embedded fraction.",
            fixed=True,
        )
        acting_atoms: int | None = option(
            None,
            "Number M of fractions (2m - 1)/(2M) at which acting evaluates sampled"
            " quantiles; null: num_atoms.",
            low=2,
            high=MAX_WIDTH,
        )

    options: Any
    samples = True
    frequencies: Tensor

    def __init__(
        self, feature_size: int, num_actions: int, num_atoms: int, options: Any = None
    ) -> None:
        """Initializes the head; see :class:`UtilityHead`."""
        super().__init__(feature_size, num_actions, num_atoms, options)
        self.shares_fractions = self.shares_fractions or self.options.shared_fractions
        self._acting_atoms: int | None = self.options.acting_atoms
        self.embedding = nn.Linear(_NUM_COSINES, feature_size)
        self.hidden = None
        if self.options.quantile_hidden_layer:
            self.hidden = nn.Linear(feature_size, feature_size)
        self.output = nn.Linear(feature_size, num_actions)
        # A constant, so it is not stored in checkpoints.
        frequencies = torch.pi * torch.arange(_NUM_COSINES, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`.Part.refusals`."""
        if config.num_atoms == 1 and config.acting_atoms is None:
            yield (
                "num_atoms: must be above 1 for quantiles: sampled, because one"
                " quantile does not estimate the mean. Set num_atoms to 2 or more, or"
                " set acting_atoms."
            )

    @property
    def acting_atoms(self) -> int:
        """See :class:`UtilityHead`."""
        return self._acting_atoms or self.num_atoms

    def embed(self, fractions: Tensor) -> Tensor:
        """Embeds fractions.

        The embeddings do not depend on features, so acting computes them only once per
        sampling round.

        Args:
            fractions: Fractions in [0, 1], ``[..., M]``.

        Returns:
            Embeddings ``[..., M, H]``.
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
            raise ValueError("Sampled quantiles need fractions: pass `fractions`.")
        embedded = xp.constant(self.embed(fractions))
        if self.hidden is None:
            weight, bias = xp.constant(self.output.weight), self.output.bias
            offset = xp.constant(bias)[:, None]  # [A, 1]
            return lambda features: (
                _products(features[..., None, :] * weight, embedded) + offset
            )
        hidden, output = xp.linear(self.hidden), xp.linear(self.output)

        def quantiles(features: Rows) -> Rows:
            rows = xp.relu_(hidden(features[..., None, :] * embedded))  # [..., M, H]
            return output(rows).swapaxes(-1, -2)

        return quantiles

    def of_actions(
        self, features: Tensor, actions: Tensor, fractions: Tensor | None = None
    ) -> Tensor:
        """See :meth:`UtilityHead.of_actions`.

        Without a hidden layer, only the given actions are computed.
        """
        if self.hidden is not None or fractions is None:
            return super().of_actions(features, actions, fractions)
        weighted = features * self.output.weight[actions]  # [..., H]
        atoms = _products(weighted.unsqueeze(-2), self.embed(fractions)).squeeze(-2)
        return atoms + self.output.bias[actions].unsqueeze(-1)


def _products(rows: Rows, embedded: Rows) -> Rows:
    """Multiplies weighted features by embedded fractions.

    Args:
        rows: Weighted features ``[..., A, H]``.
        embedded: Embeddings ``[..., M, H]``. The agent axis has size 1 instead of ``N``
            if agents share their fractions.

    Returns:
        Quantiles ``[..., A, M]``.
    """
    transposed = embedded.swapaxes(-1, -2)
    if embedded.ndim < 3 or embedded.shape[-3] == rows.shape[-3]:
        return rows @ transposed
    # One product for all agents: broadcasting would copy the embeddings per agent.
    *lead, agents, actions, size = rows.shape
    joined = rows.reshape(*lead, agents * actions, size) @ transposed.squeeze(-3)
    return joined.reshape(*lead, agents, actions, -1)
