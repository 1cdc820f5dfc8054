"""MA-CQR: Eldeeb, Sifaou, Simeone, Shehab and Alves, "Conservative and Risk-Aware
Offline Multi-Agent Reinforcement Learning", IEEE TCCN 2024 (arXiv 2402.08421).

Idea: learn quantiles of a team's return from a log, lower the values of actions that
the log does not contain, and optionally use only the lower tail.

Equations: ``q_j(s, u) = sum_i theta_ij(s, u_i)``, one sum per quantile (centralised,
``mixer: vdn``), or each agent on its own (independent, ``mixer: none``). Targets are
``T_k = r + gamma q^-_k(s', u*)``, where ``u*_i`` has the best mean over quantiles of
the target network. The loss is ``1/(2 N^2) sum_jk rho_tau_j(T_k - q_j)`` at ``tau_j =
xi (2j - 1)/(2N)``. It also has the conservative penalty: ``alpha`` times the sum over
agents of the mean over quantiles of ``log sum_b exp theta_ij(s, b) - theta_ij(s,
u_i)``.

Three switches define a family of algorithms, with one preset each:

========================  =======  =====  ==========================================
preset                    mixer    atoms  conservative_weight
========================  =======  =====  ==========================================
``ma_dqn``                none     1      0
``ma_qr_dqn``             none     8      0
``ma_ciql``, ``ma_ccql``  none, vdn  1    1
``ma_ciqr``, ``ma_ccqr``  none, vdn  8    1
========================  =======  =====  ==========================================

``ma_ciqr_cvar`` and ``ma_ccqr_cvar`` have ``tail_level`` (xi) 0.15. ``ma_dqn_sum`` and
``ma_qr_dqn_sum`` are the centralised forms of the first two. ``bc`` is behaviour
cloning. ``ma_ccqr`` is the default. All presets share one set of hyper-parameters. In
the released code they differ between the members, which confounds comparisons.
``docs/algorithms/ma_cqr.md`` lists all differences.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# Weight 0, not null, so that the losses of all members have the same scale.
_SCALAR: dict[str, Any] = {"num_atoms": 1, "loss": "td", "conservative_weight": 0.0}
_QUANTILES: dict[str, Any] = {
    "num_atoms": 8,
    "loss": "quantile",
    "conservative_weight": 0.0,
}
_PENALTY: dict[str, Any] = {"conservative_weight": 1.0}
_TAIL: dict[str, Any] = {"tail_level": 0.15}
_ALONE: dict[str, Any] = {"mixer": "none"}
_SUM: dict[str, Any] = {"mixer": "vdn"}


class MACQRConfig(ValueConfig):
    """Configuration of MACQR."""

    overrides: ClassVar[dict[str, Any]] = {
        "hidden_size": 256,
        "recurrent": False,
        "parameter_sharing": False,
        "agent_ids": False,
        "obs_last_action": False,
        "double_q": False,
        "sequence_length": 1,
        "batch_size_episodes": 128,
        "optimizer": "adam",
        "lr": 1e-4,
        "grad_clip": 1.0,
        "target_update_tau": 5e-3,
        **_SUM,
        **_QUANTILES,
        **_PENALTY,
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "ma_dqn": {**_ALONE, **_SCALAR},
        "ma_dqn_sum": {**_SUM, **_SCALAR},
        "ma_qr_dqn": {**_ALONE, **_QUANTILES},
        "ma_qr_dqn_sum": {**_SUM, **_QUANTILES},
        "ma_ciql": {**_ALONE, **_SCALAR, **_PENALTY},
        "ma_ccql": {**_SUM, **_SCALAR, **_PENALTY},
        "ma_ciqr": {**_ALONE, **_QUANTILES, **_PENALTY},
        "ma_ccqr": {**_SUM, **_QUANTILES, **_PENALTY},
        "ma_ciqr_cvar": {**_ALONE, **_QUANTILES, **_PENALTY, **_TAIL},
        "ma_ccqr_cvar": {**_SUM, **_QUANTILES, **_PENALTY, **_TAIL},
        "bc": {**_ALONE, "num_atoms": 1, "loss": "bc", "conservative_weight": None},
    }


class MACQR(ValueAlgorithm):
    """MACQR; see the module's docstring."""

    config_class = MACQRConfig
