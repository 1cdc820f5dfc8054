"""What agents read: their observation, their last action and their id.

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

    parameter_sharing: bool = option(True, "One network for all agents.", fixed=True)
    obs_last_action: bool = option(
        True, "Agents read their own last action.", fixed=True
    )
    agent_ids: bool = option(True, "Agents read their own id.", fixed=True)


class AgentInputs(nn.Module):
    """Joins what an agent reads to one row of numbers.

    The agent's input is its observation, its last action (one-hot, zeros at the start)
    and its own id (one-hot), as in PyMARL; the last two are derived here, never stored.
    ``obs_last_action: false`` and ``agent_ids: false`` leave them out; without ids,
    agents that share a network act alike wherever they have seen and done the same.

    Attributes:
        size: ``I``.
        shown: Numbers of an input that show the last action: ``A``, or 0.
        agent_ids: Whether its last ``N`` numbers are the agent's id.
        shared: Whether one network reads the inputs of all agents.
        ids: One-hot ids, ``[N, N]``.
    """

    ids: Tensor

    def __init__(self, sizes: TeamSizes, options: TeamOptions) -> None:
        """Initializes the inputs.

        Args:
            sizes: What the environment fixes.
            options: What agents read, and whether they share a network.
        """
        super().__init__()
        n = sizes.num_agents
        self.shown = sizes.num_actions if options.obs_last_action else 0
        self.agent_ids = options.agent_ids
        self.size = sizes.obs_size + self.shown + (n if options.agent_ids else 0)
        self.shared = options.parameter_sharing or n == 1
        self.register_buffer("ids", torch.eye(n), persistent=False)

    def forward(
        self, obs: Tensor, actions: Tensor, previous: Tensor | None = None
    ) -> Tensor:
        """The inputs over episodes.

        Args:
            obs: ``[B, T, N, D]``.
            actions: The actions between the observations, int64 ``[B, T - 1, N]``.
            previous: Those before the first observation, int64 ``[B, N]``, -1 where
                there was none; not given: nowhere was one.

        Returns:
            ``[B, T, N, I]``.
        """
        b, t, n, obs_size = obs.shape
        # In the order of memory in which the encoders go through them, so that nothing
        # has to be copied there.
        if self.shared:
            inputs = obs.new_zeros(b, n, t, self.size).transpose(1, 2)
        else:
            inputs = obs.new_zeros(n, b, t, self.size).permute(1, 2, 0, 3)
        inputs[..., :obs_size] = obs
        if self.shown:
            if previous is None:
                previous = torch.full_like(actions[:, 0], -1)
            last = torch.cat([previous.unsqueeze(1), actions], dim=1).unsqueeze(-1)
            # PyTorch's one_hot makes 64-bit integers, most of the time of all this.
            one_hot = inputs[..., obs_size : obs_size + self.shown]
            one_hot.scatter_(-1, last.clamp(min=0), (last >= 0).to(obs.dtype))
        if self.agent_ids:
            inputs[..., -n:] = self.ids
        return inputs

    def one_step(self, obs: Tensor, last_action: Tensor) -> Tensor:
        """The inputs at one step of acting.

        Args:
            obs: ``[E, N, D]``.
            last_action: One-hot, zeros at the start, ``[E, N, A]``.

        Returns:
            ``[E, N, I]``.
        """
        parts = [obs]
        if self.shown:
            parts.append(last_action)
        if self.agent_ids:
            parts.append(self.ids.expand(*obs.shape[:-2], -1, -1))
        return torch.cat(parts, dim=-1)
