"""The team's network in the shape that RLlib's TorchPolicyV2 stack expects."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.models import ModelCatalog
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from torch import Tensor, nn

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.env_wrappers.images import ImageRows
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Decision

MODEL_NAME = "rllib_risk_team"


def team_sizes(obs_space: spaces.Space, action_space: spaces.Space) -> TeamSizes:
    """Reads the sizes of a team from its spaces.

    Args:
        obs_space: Observations, ``Dict(obs [N, D], state [S], action_mask [N, A])``.
        action_space: Actions, ``MultiDiscrete([A] * N)``.

    Returns:
        The sizes.

    Raises:
        ValueError: If the observation space is not one of a team environment.
    """
    obs_space = getattr(obs_space, "original_space", obs_space)
    if not isinstance(obs_space, spaces.Dict) or "action_mask" not in obs_space.spaces:
        raise ValueError(
            f"Expected the observation space of a team environment, got {obs_space}."
            " Wrap the environment in rllib_risk.env_wrappers.team_env.TeamEnv."
        )
    rows = obs_space["obs"]
    num_agents, obs_size = rows.shape or (0, 0)
    _, num_actions = obs_space["action_mask"].shape or (0, 0)
    (state_size,) = obs_space["state"].shape or (0,)
    image = rows.image if isinstance(rows, ImageRows) else None
    return TeamSizes(num_agents, num_actions, obs_size, state_size, image)


class TeamModel(TorchModelV2, nn.Module):
    """A thin wrapper around :class:`TeamNetwork`.

    RLlib's own sampler calls ``forward`` and :meth:`step`, one step at a time. This
    package's sampler and losses use :attr:`network` directly.

    RLlib carries the state from step to step. The state of a policy that acts on a
    window of the last ``W`` steps is ``W`` memories. Each step updates all of them and
    acts on the oldest one. Then the oldest one is dropped and an empty one is added. So
    the memory that acts has seen the last ``W`` steps, or the whole episode so far.

    Attributes:
        network: The team's network.
        window: Number of last steps to act on. None: the whole episode so far.
        padded: Whether zeros fill the window at the start of an episode.
    """

    def __init__(
        self,
        obs_space: spaces.Space,
        action_space: spaces.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        window: int | None = None,
        padded: bool = False,
        **network: Any,
    ) -> None:
        """Initializes the model; see :class:`TorchModelV2`.

        Args:
            obs_space: The team's observation space.
            action_space: The team's action space.
            num_outputs: Number of utilities, ``N * A``.
            model_config: RLlib's model settings; not used.
            name: Name of the model.
            window: Number of last steps to act on. None: the whole episode so far.
            padded: Whether steps with zero observations and action 0 fill the window at
                the start of an episode. The initial state then depends on the weights:
                call :meth:`get_initial_state` again after they have changed.
            **network: The keys that :class:`TeamNetwork` reads.
        """
        nn.Module.__init__(self)
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        self.network = TeamNetwork(team_sizes(obs_space, action_space), network)
        self.window = window
        self.padded = padded

    def get_initial_state(self) -> list[Tensor]:
        """State of one environment at the start of an episode; see TorchModelV2."""
        if self.window is None:
            return [part.squeeze(0) for part in self.network.initial_carry(1)]
        if self.padded:
            return self._carry_of_padding(self.window)
        return self.network.initial_carry(self.window)  # [W, ...] each

    def _carry_of_padding(self, window: int) -> list[Tensor]:
        """``W`` memories. The one that acts at step ``k`` has seen ``W - k`` zeros."""
        network, sizes = self.network, self.network.sizes
        device = network.device
        obs = torch.zeros(1, sizes.num_agents, sizes.obs_size, device=device)
        mask = torch.ones(1, sizes.num_agents, sizes.num_actions, device=device)
        actions = torch.zeros(1, sizes.num_agents, dtype=torch.int64, device=device)
        carry = network.initial_carry(1)
        network.remember(carry, actions)
        memories = [[part.clone() for part in carry]]
        for _ in range(window - 1):
            _, carry = network.step(obs, mask, carry)
            network.remember(carry, actions)
            memories.append([part.clone() for part in carry])
        return [torch.cat(parts) for parts in zip(*memories, strict=True)]

    def step(
        self, obs: Tensor, action_mask: Tensor, state: list[Tensor]
    ) -> tuple[Decision, list[Tensor]]:
        """Computes one acting step.

        Args:
            obs: Observations, ``[E, N, D]``.
            action_mask: Nonzero where an action is available, ``[E, N, A]``.
            state: State from :meth:`get_initial_state` for each environment,
                ``[E, ...]``, or from the previous step.

        Returns:
            The decision and the next state. The caller writes the actions that it took
            into the state with :meth:`remember`.
        """
        if self.window is None:
            return self.network.step(obs, action_mask, state)
        # [E, W, ...] to [E * W, ...]; the last of an environment's memories acts.
        everyone = [part.flatten(0, 1) for part in (_repeat(obs, self.window), *state)]
        masks = _repeat(action_mask, self.window).flatten(0, 1)
        decision, carry = self.network.step(everyone[0], masks, everyone[1:])
        size = (len(obs), self.window)
        levels = decision.level_index
        if levels is not None:
            levels = levels.unflatten(0, size)[:, -1]
        utilities = decision.utilities.unflatten(0, size)[:, -1]
        memories = [part.unflatten(0, size) for part in carry]
        fresh = [torch.zeros_like(part[:, :1]) for part in memories]
        following = [
            torch.cat([new, part[:, :-1]], dim=1)
            for new, part in zip(fresh, memories, strict=True)
        ]
        atoms = decision.atoms.unflatten(0, size)[:, -1]
        return Decision(utilities, levels, atoms), following

    def remember(self, state: list[Tensor], actions: Tensor) -> None:
        """Writes the actions taken into the state.

        Args:
            state: State from :meth:`step`; changed in place.
            actions: Actions taken, int64 ``[E, N]``.
        """
        if self.window is not None:
            actions = _repeat(actions, self.window)
        self.network.remember(state, actions)

    def forward(
        self, input_dict: dict[str, Any], state: list[Tensor], seq_lens: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Returns the utilities ``[E, N * A]`` of one step, and the next state."""
        obs = input_dict["obs"]
        decision, state = self.step(obs["obs"].float(), obs["action_mask"], list(state))
        return decision.utilities.flatten(1), state

    def value_function(self) -> Tensor:
        """Returns zero: there is no value function, but RLlib needs the method."""
        return torch.zeros(1)


def _repeat(tensor: Tensor, window: int) -> Tensor:
    """Repeats ``[E, ...]`` to ``[E, W, ...]``."""
    return tensor.unsqueeze(1).expand(-1, window, *tensor.shape[1:])


def register_model() -> None:
    """Registers the model in RLlib's catalog."""
    ModelCatalog.register_custom_model(MODEL_NAME, TeamModel)
