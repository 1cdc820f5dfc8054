"""Agents' inputs: their observation, their last action and their id.

Letters: ``B`` episodes, ``E`` environments, ``T`` steps, ``N`` agents, ``A`` actions,
``D`` observation size, ``I`` input size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.data.sizes import TeamSizes


@dataclass(frozen=True)
class TeamOptions:
    """Keys of every team's acting network that belong to no part."""

    parameter_sharing: bool = option(
        True, "Whether all agents share one network.", fixed=True
    )
    obs_last_action: bool = option(
        True, "Whether an agent's input includes its last action.", fixed=True
    )
    agent_ids: bool = option(
        True, "Whether an agent's input includes its id.", fixed=True
    )


def as_numbers(obs: Tensor) -> Tensor:
    """Converts the bytes of images to float32; other observations stay as they are."""
    return obs.float() if obs.dtype == torch.uint8 else obs


class AgentInputs(nn.Module):
    """Concatenates observation, last action and id of an agent to its input.

    The last action (one-hot, zeros at the start) and the id (one-hot) are added as in
    PyMARL. Both are computed here and never stored. ``obs_last_action: false`` and
    ``agent_ids: false`` leave them out. Without ids, agents that share a network act in
    the same way after the same observations and actions.

    Attributes:
        size: ``I``.
        shown: Size of the last action in an input: ``A``, or 0.
        agent_ids: Whether the last ``N`` numbers of an input are the agent's id.
        shared: Whether one network reads the inputs of all agents.
        ids: One-hot ids, ``[N, N]``.
    """

    ids: Tensor

    def __init__(self, sizes: TeamSizes, options: TeamOptions) -> None:
        """Initializes the inputs.

        Args:
            sizes: Sizes of the team and its observations.
            options: Keys for the contents of inputs and for parameter sharing.
        """
        super().__init__()
        n = sizes.num_agents
        self.shown = sizes.num_actions if options.obs_last_action else 0
        self.agent_ids = options.agent_ids
        self.size = sizes.obs_size + self.shown + (n if options.agent_ids else 0)
        self.shared = options.parameter_sharing or n == 1
        self.register_buffer("ids", torch.eye(n, device="cpu"), persistent=False)

    def forward(
        self, obs: Tensor, actions: Tensor, previous: Tensor | None = None
    ) -> Tensor:
        """Builds the inputs for episodes or sequences.

        Args:
            obs: Observations, ``[B, T, N, D]``.
            actions: Actions between the observations, int64 ``[B, T - 1, N]``.
            previous: Actions before the first observation, int64 ``[B, N]``; -1 where
                an episode starts. None: -1 everywhere.

        Returns:
            Inputs ``[B, T, N, I]``.
        """
        b, t, n, obs_size = obs.shape
        # This memory layout is the one that the encoders read, which avoids a copy.
        if self.shared:
            inputs = obs.new_zeros(b, n, t, self.size).transpose(1, 2)
        else:
            inputs = obs.new_zeros(n, b, t, self.size).permute(1, 2, 0, 3)
        inputs[..., :obs_size] = obs
        if self.shown:
            if previous is None:
                previous = torch.full_like(actions[:, 0], -1)
            last = torch.cat([previous.unsqueeze(1), actions], dim=1).unsqueeze(-1)
            # F.one_hot would create 64-bit integers and take most of the time here.
            one_hot = inputs[..., obs_size : obs_size + self.shown]
            one_hot.scatter_(-1, last.clamp(min=0), (last >= 0).to(obs.dtype))
        if self.agent_ids:
            inputs[..., -n:] = self.ids
        return inputs

    def one_step(self, obs: Tensor, last_action: Tensor) -> Tensor:
        """Builds the inputs for one acting step.

        Args:
            obs: Observations, ``[E, N, D]``.
            last_action: One-hot last actions, zeros at the start, ``[E, N, A]``.

        Returns:
            Inputs ``[E, N, I]``.
        """
        parts = [as_numbers(obs)]
        if self.shown:
            parts.append(last_action)
        if self.agent_ids:
            parts.append(self.ids.expand(*obs.shape[:-2], -1, -1))
        return torch.cat(parts, dim=-1)
