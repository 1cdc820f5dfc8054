"""QPLEX: Wang et al., "QPLEX: Duplex Dueling Multi-Agent Q-Learning", ICLR 2021.

Idea: split every agent's value into the value of its best action and the advantage of
the action taken, which is at most 0. The advantages have positive weights, which may
depend on the joint action. So the joint argmax is each agent's own, and the team's
value has no other restriction.

Equations: ``Q_tot = sum_i Vhat_i + sum_i lambda_i(s, u) Ahat_i``, ``lambda_i > 0``,
with ``Vhat_i = w_i(s) max_a Q_i + b_i(s)`` and ``Ahat_i = w_i(s) (Q_i - max_a
Q_i)``; target as for QMIX.

As in the released code, the advantages are detached in ``(lambda_i - 1) Ahat_i``, and
the state replaces the joint history. The default of four heads with one layer is the
StarCraft setting; ``qplex_heads: 10`` and ``qplex_lambda_layers: 3`` are the setting of
the matrix games. The released StarCraft runs use attention over units (Qatten) for
``w_i``. It needs features of units and is not implemented here. ``lambda_i`` is
computed in ``DuplexMixer.importance``, ``rllib_risk/parts/mixers/duplex.py``.
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
