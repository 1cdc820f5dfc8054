"""A head that gives the return's quantile at any fraction: implicit quantiles.

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
from rllib_risk.config.schema import MOST_WIDTH
from rllib_risk.networks.arrays import Namespace, Rows, Step
from rllib_risk.networks.heads import UtilityHead

_NUM_COSINES = 64


class QuantileHead(UtilityHead):
    """From features and fractions to quantiles: IQN (Dabney et al., 2018), Eq. 4.

    A fraction is embedded as ``phi(tau) = ReLU(Linear(cos(pi j tau)))``, ``j`` from 0
    on, and the embedding multiplies the features. A hidden layer with ReLU and a linear
    layer follow; ``quantile_hidden_layer: false`` leaves the hidden layer out, as in
    DFAC's code. Nothing forces the quantiles to rise with the fraction.

    Attributes:
        embedding: Linear, cosines to ``H``.
        hidden: Linear, ``H`` to ``H``, or None.
        output: Linear, ``H`` to ``A``.
    """

    @dataclass(frozen=True)
    class Options:
        shared_fractions: bool = option(
            False,
            "All agents of a step get the same sampled fractions, in ascending order,"
            " as mixing their distributions needs; false: each agent its own.",
            fixed=True,
        )
        quantile_hidden_layer: bool = option(
            True,
            "Hidden layer of sampled quantiles, after the features are multiplied by"
            " the embedded fraction.",
            fixed=True,
        )
        acting_atoms: int | None = option(
            None,
            "Fractions (2m - 1)/(2M) at which sampled quantiles choose actions in"
            " acting; null: num_atoms.",
            low=2,
            high=MOST_WIDTH,
        )

    options: Any
    samples = True
    frequencies: Tensor

    def __init__(
        self, feature_size: int, num_actions: int, num_atoms: int, options: Any = None
    ) -> None:
        """Initializes the head; see :class:`UtilityHead`."""
        super().__init__(feature_size, num_actions, num_atoms, options)
        # A subclass of one's own may have Options without these keys.
        given = vars(QuantileHead.Options()) | vars(self.options)
        self.shares_fractions = given["shared_fractions"]
        self._acting_atoms: int | None = given["acting_atoms"]
        self.embedding = nn.Linear(_NUM_COSINES, feature_size)
        self.hidden = None
        if given["quantile_hidden_layer"]:
            self.hidden = nn.Linear(feature_size, feature_size)
        self.output = nn.Linear(feature_size, num_actions)
        # A constant, not a parameter: it does not belong in a checkpoint.
        frequencies = torch.pi * torch.arange(_NUM_COSINES, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        if config.num_atoms == 1 and config.acting_atoms is None:
            yield (
                "num_atoms: must be above 1 for quantiles: sampled, or set"
                " acting_atoms, since the mean of one quantile says little."
            )

    @property
    def acting_atoms(self) -> int:
        """See :class:`UtilityHead`."""
        return self._acting_atoms or self.num_atoms

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

        Without a hidden layer the other actions are not computed.
        """
        if self.hidden is not None or fractions is None:
            return super().of_actions(features, actions, fractions)
        weighted = features * self.output.weight[actions]  # [..., H]
        atoms = _products(weighted.unsqueeze(-2), self.embed(fractions)).squeeze(-2)
        return atoms + self.output.bias[actions].unsqueeze(-1)


def _products(rows: Rows, embedded: Rows) -> Rows:
    """Products of weighted features and embedded fractions.

    Args:
        rows: ``[..., A, H]``.
        embedded: ``[..., M, H]``; with 1 in the place of ``N`` where agents share their
            fractions.

    Returns:
        ``[..., A, M]``.
    """
    turned = embedded.swapaxes(-1, -2)
    if embedded.ndim < 3 or embedded.shape[-3] == rows.shape[-3]:
        return rows @ turned
    # One product for all agents: a broadcast one would copy the embeddings for each.
    *lead, agents, actions, size = rows.shape
    joined = rows.reshape(*lead, agents * actions, size) @ turned.squeeze(-3)
    return joined.reshape(*lead, agents, actions, -1)
