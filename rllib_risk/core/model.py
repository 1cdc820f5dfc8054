"""The team's network in the shape that RLlib's TorchPolicyV2 stack expects."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.models import ModelCatalog
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from torch import Tensor, nn

from rllib_risk.models.team import TeamNetwork, TeamNetworkConfig, TeamSizes

MODEL_NAME = "rllib_risk_team"


def team_sizes(obs_space: spaces.Space, action_space: spaces.Space) -> TeamSizes:
    """Reads the sizes of the team contract off its spaces.

    Args:
        obs_space: ``Dict(obs [N, D], state [S], action_mask [N, A])``.
        action_space: ``MultiDiscrete([A] * N)``.

    Returns:
        The sizes.

    Raises:
        ValueError: If these are not the spaces of a team environment.
    """
    obs_space = getattr(obs_space, "original_space", obs_space)
    if not isinstance(obs_space, spaces.Dict) or "action_mask" not in obs_space.spaces:
        raise ValueError(
            f"Expected the observation space of a team environment, got {obs_space}."
            " Wrap the environment in rllib_risk.env_wrappers.team_env.TeamEnv."
        )
    num_agents, obs_size = obs_space["obs"].shape or (0, 0)
    _, num_actions = obs_space["action_mask"].shape or (0, 0)
    (state_size,) = obs_space["state"].shape or (0,)
    return TeamSizes(num_agents, num_actions, obs_size, state_size)


class TeamModel(TorchModelV2, nn.Module):
    """A thin shell around :class:`TeamNetwork`.

    ``forward`` serves RLlib's own sampler, one step at a time. Our sampler and our
    losses talk to :attr:`network` directly.

    Attributes:
        network: The team's network.
    """

    def __init__(
        self,
        obs_space: spaces.Space,
        action_space: spaces.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        **network: Any,
    ) -> None:
        """Initializes the model; see :class:`TorchModelV2`.

        Args:
            obs_space: The team's observation space.
            action_space: The team's action space.
            num_outputs: Utilities in all, ``N * A``.
            model_config: RLlib's model settings; none of them matters here.
            name: Name of the model.
            **network: The keys of :class:`TeamNetworkConfig`.
        """
        nn.Module.__init__(self)
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        config = TeamNetworkConfig(**network)
        self.network = TeamNetwork(team_sizes(obs_space, action_space), config)

    def get_initial_state(self) -> list[Tensor]:
        """What lasts between steps, for one environment; see TorchModelV2."""
        return [part.squeeze(0) for part in self.network.initial_carry(1)]

    def forward(
        self, input_dict: dict[str, Any], state: list[Tensor], seq_lens: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Utilities ``[E, N * A]`` of one step, and the next state."""
        obs = input_dict["obs"]
        decision, carry = self.network.step(
            obs["obs"].float(), obs["action_mask"], list(state)
        )
        return decision.utilities.flatten(1), carry

    def value_function(self) -> Tensor:
        """There is none; RLlib's base class asks for the method."""
        return torch.zeros(1)


def register_model() -> None:
    """Registers the model in RLlib's catalog."""
    ModelCatalog.register_custom_model(MODEL_NAME, TeamModel)
