"""QPLEX: Wang et al., "QPLEX: Duplex Dueling Multi-Agent Q-Learning", ICLR 2021.

Idea: split every agent's value into that of its best action and the advantage, never
positive, of the action taken. Positive weights on the advantages, which may depend
on the joint action, leave the joint argmax to the agents and yet restrict nothing
else.

Equations: ``Q_tot = sum_i Vhat_i + sum_i lambda_i(s, u) Ahat_i``, ``lambda_i > 0``,
with ``Vhat_i = w_i(s) max_a Q_i + b_i(s)`` and ``Ahat_i = w_i(s) (Q_i - max_a
Q_i)``; target as for QMIX.

As in the released code the advantages are detached in ``(lambda_i - 1) Ahat_i``, and
the state stands for the joint history. Four heads of one layer are the StarCraft
settings; ``qplex_heads: 10`` and ``qplex_lambda_layers: 3`` those of the matrix
games. The released StarCraft runs use attention over units (Qatten) for ``w_i``;
that needs features of units and is not here. ``lambda_i`` is computed in
``DuplexMixer.importance``, ``rllib_risk/parts/mixers/duplex.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class QPLEXConfig(ValueConfig):
    """Configuration of QPLEX."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "qplex"}


class QPLEX(ValueAlgorithm):
    """QPLEX; see the module's docstring."""

    config_class = QPLEXConfig
