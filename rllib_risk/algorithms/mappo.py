"""MAPPO: Yu et al., "The Surprising Effectiveness of PPO in Cooperative Multi-Agent
Games", NeurIPS 2022 (Datasets and Benchmarks).

Idea: proximal policy optimisation for every agent, with one critic that sees the global
state in training. Agents share their parameters. The returns that the critic learns are
normalised by their running mean and standard deviation.

Equations: ``A`` by generalised advantage estimation, ``x_i = pi_i / pi_i_old``,
``L_actor = -mean min(x_i A, clip(x_i, 1 - c, 1 + c) A) - w entropy(pi_i)``,
``L_critic = mean max(l(y - V), l(y - V_old - clip(V - V_old, -c, c)))`` with the
Huber loss ``l`` and normalised returns ``y``.

Hyper-parameters are those of the released code. ``docs/algorithms/mappo.md`` lists the
differences.
"""

from __future__ import annotations

from typing import ClassVar

from rllib_risk.algorithms.actor_critic.ppo import PPOTeamAlgorithm
from rllib_risk.algorithms.actor_critic.ppo_config import PPOTeamConfig
from rllib_risk.core.config import TeamConfig


class MAPPOConfig(PPOTeamConfig):
    """Configuration of MAPPO."""


class MAPPO(PPOTeamAlgorithm):
    """MAPPO; see the module's docstring."""

    config_class: ClassVar[type[TeamConfig]] = MAPPOConfig
