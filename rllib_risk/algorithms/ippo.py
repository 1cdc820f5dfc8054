"""IPPO: de Witt et al., "Is Independent Learning All You Need in the StarCraft
Multi-Agent Challenge?", 2020; the version of Yu et al., NeurIPS 2022.

Idea: MAPPO with a critic that sees only the agent's own input. No state is needed.

Equations: those of ``mappo.py``, with one value for every agent.

Hyper-parameters are those of MAPPO's released code. ``docs/algorithms/ippo.md`` lists
the differences.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.actor_critic.ppo import PPOTeamAlgorithm
from rllib_risk.algorithms.actor_critic.ppo_config import PPOTeamConfig
from rllib_risk.core.config import TeamConfig


class IPPOConfig(PPOTeamConfig):
    """Configuration of IPPO."""

    overrides: ClassVar[dict[str, Any]] = PPOTeamConfig.overrides | {
        "critic_input": "agent"
    }


class IPPO(PPOTeamAlgorithm):
    """IPPO; see the module's docstring."""

    config_class: ClassVar[type[TeamConfig]] = IPPOConfig
