"""Converts one agent's Gymnasium spaces to vectors and action numbers.

`ObsEncoder` flattens an observation to float32 [size]. `ActionDecoder` maps an action
number to the action of the env.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.action_masks import ACTION_MASK, spelled, split_mask
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.images import image_shape
from rllib_risk.env_wrappers.parallel_env import in_short, numeric

# A Box grid is a product over dimensions. The limit refuses mistakes such as 100 bins
# for a five-dimensional action, which would need 10^10 network outputs.
MAX_BOX_ACTIONS = 4096


class ObsEncoder:
    """Flattens the observations of one agent.

    Box observations are flattened. Discrete and MultiDiscrete ones become one-hot. An
    action mask in a Dict is separated from the rest.

    Attributes:
        size: Length of the flat observation.
        image: Shape (H, W, C) if observations are uint8 images; else None.
        has_mask: Whether the observation itself carries an action mask.
    """

    def __init__(
        self,
        agent: str,
        space: spaces.Space,
        num_actions: int,
        mask_key: str = ACTION_MASK,
    ) -> None:
        """Checks that the space can be flattened.

        Args:
            agent: Name of the agent, for error texts.
            space: Its observation space.
            num_actions: Number of its actions.
            mask_key: Entry of a Dict observation, or of a Dict within it, that is the
                action mask.

        Raises:
            EnvConfigError: If the space has no fixed flat size, or the mask does not
                have one number per action.
        """
        self._agent = agent
        self._only_key: str | None = None  # the only entry besides the mask
        space, self._mask_path = split_mask(agent, space, mask_key, num_actions)
        self.has_mask = bool(self._mask_path)
        if self.has_mask and isinstance(space, spaces.Dict) and len(space) == 1:
            self._only_key, space = next(iter(space.items()))
        try:
            flattenable = space.is_np_flattenable
        except NotImplementedError:  # a user's own class of space
            flattenable = False
        if not flattenable:
            raise EnvConfigError(
                f"agent '{agent}' has observation space {space}, which has no fixed "
                "flat size: use Box, Discrete, MultiDiscrete, MultiBinary, or a Dict "
                "or Tuple of these"
            )
        self._space = space
        self._is_box = isinstance(space, spaces.Box)
        self.image = image_shape(space)
        self._squeezed = tuple(n for n in space.shape or () if n != 1)
        self.size = int(spaces.flatdim(space))

    def __call__(self, obs: Any) -> tuple[np.ndarray, Any]:
        """Flattens one observation.

        Args:
            obs: The observation of this agent, from the env.

        Returns:
            The observation, [size] of type float32 (uint8 for an image), and its
            action mask or None.

        Raises:
            EnvContractError: If the observation does not have the declared size, or an
                image holds anything but whole numbers from 0 to 255.
        """
        if obs is None:
            raise EnvContractError(f"the observation of agent '{self._agent}' is None")
        mask = None
        if self.has_mask:
            obs, mask = self._split(obs)
        flat = self._flat_box(obs) if self._is_box else self._flattened(obs)
        return flat, mask

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Declared bounds of the flat observation, low and high, float32 [size]."""
        flat = spaces.flatten_space(self._space)
        assert isinstance(flat, spaces.Box)
        return flat.low.astype(np.float32), flat.high.astype(np.float32)

    def _split(self, obs: Any) -> tuple[Any, Any]:
        """Splits an observation into the rest and the mask."""
        mask = self._entry(obs, self._mask_path)
        if mask is None:
            raise EnvContractError(
                f"the {self._mask_path[-1]} of agent '{self._agent}' is None"
            )
        only_key = () if self._only_key is None else (self._only_key,)
        return self._entry(obs, only_key), mask

    def _entry(self, obs: Any, path: tuple[Any, ...]) -> Any:
        """The entry of an observation to which some names lead."""
        for name in path:
            if not isinstance(obs, Mapping) or name not in obs:
                raise EnvContractError(
                    f"agent '{self._agent}' returned an observation without the entry"
                    f" '{spelled(path)}' of its space"
                )
            obs = obs[name]
        return obs

    def _flat_box(self, obs: Any) -> np.ndarray:
        """Flattens a Box observation; the dtype may differ from the space's."""
        array = numeric(obs)
        if array is None:
            raise EnvContractError(
                f"the observation of agent '{self._agent}' must hold numbers, not "
                f"{in_short(obs)}"
            )
        # Axes of length 1 do not change the order of the numbers.
        if array.shape != self._space.shape and (
            np.squeeze(array).shape != self._squeezed
        ):
            raise EnvContractError(
                f"the observation of agent '{self._agent}' has shape {array.shape}, "
                f"but its space {self._space} has shape {self._space.shape}"
            )
        if self.image is not None:
            return self._pixels(array)
        return array.astype(np.float32, copy=False).reshape(-1)

    def _pixels(self, array: np.ndarray) -> np.ndarray:
        """Flattens an image to uint8; refuses numbers that are not bytes."""
        if array.dtype != np.uint8:
            wrong = ~((array >= 0) & (array <= 255) & (array == np.floor(array)))
            if wrong.any():
                raise EnvContractError(
                    f"the image of agent '{self._agent}' holds {array[wrong][0]:g}, but"
                    " its space is uint8: return whole numbers from 0 to 255, or"
                    " declare a float32 Box"
                )
        return array.astype(np.uint8, copy=False).reshape(-1)

    def _flattened(self, obs: Any) -> np.ndarray:
        try:
            flat = np.asarray(spaces.flatten(self._space, obs), dtype=np.float32)
            return flat.reshape(self.size)
        except Exception as error:  # Gymnasium raises errors of many types
            raise EnvContractError(
                f"the observation of agent '{self._agent}' does not fit its space "
                f"{self._space} ({type(error).__name__}: {error})"
            ) from error


class ActionDecoder:
    """Maps the action numbers 0 .. num_actions - 1 of one agent to the env's actions.

    Attributes:
        num_actions: Number of discrete actions.
        grid: For a Box space, the action of every number, [num_actions, *space.shape],
            in C order: the last dimension changes fastest. None for a Discrete space.
    """

    def __init__(
        self, agent: str, space: spaces.Space, box_bins: int | None = None
    ) -> None:
        """Numbers the actions of `space`.

        Args:
            agent: Name of the agent, for error texts.
            space: Its action space, Discrete or bounded Box.
            box_bins: Number of evenly spaced values per Box dimension, including both
                bounds.

        Raises:
            EnvConfigError: If the actions cannot be numbered.
        """
        self._start = 0
        self.grid: np.ndarray | None = None
        if isinstance(space, spaces.Discrete):
            self._start = int(space.start)
            self.num_actions = int(space.n)
        elif isinstance(space, spaces.Box):
            self.grid = _box_grid(agent, space, box_bins)
            self.num_actions = len(self.grid)
        else:
            raise EnvConfigError(
                f"agent '{agent}' has action space {space}: value factorisation needs "
                "discrete actions; change the env to Discrete(n), or to a bounded Box "
                "and set env_config.box_bins"
            )

    def __call__(self, action: int) -> Any:
        """The env's action for an action number."""
        if self.grid is None:
            return self._start + action
        return self.grid[action].copy()


def _box_grid(agent: str, space: spaces.Box, box_bins: int | None) -> np.ndarray:
    """All points of the product grid over a Box, [bins ** dimensions, *space.shape]."""
    if not space.is_bounded("both"):
        raise EnvConfigError(
            f"agent '{agent}' has the unbounded action space {space}, which cannot be "
            "divided into bins: give the Box finite low and high bounds"
        )
    if box_bins is None:
        raise EnvConfigError(
            f"agent '{agent}' has action space {space}: set env_config.box_bins to the "
            "number of evenly spaced values per dimension, for example box_bins: 5"
        )
    if isinstance(box_bins, bool) or not isinstance(box_bins, int) or box_bins < 2:
        raise EnvConfigError(
            f"env_config.box_bins must be an integer of at least 2, not {box_bins!r}"
        )
    dims = int(np.prod(space.shape))
    num_actions = box_bins**dims
    if num_actions > MAX_BOX_ACTIONS:
        raise EnvConfigError(
            f"agent '{agent}': box_bins {box_bins} over {dims} dimensions gives "
            f"{num_actions} actions, but at most {MAX_BOX_ACTIONS} are allowed: lower "
            "box_bins"
        )
    # in float64, so that linspace does not round the steps of an integer Box
    low = space.low.astype(np.float64).reshape(-1)
    high = space.high.astype(np.float64).reshape(-1)
    values = np.linspace(low, high, box_bins)  # [bins, dims]
    if np.issubdtype(space.dtype, np.integer):
        values = np.rint(values)
    index = np.stack(
        np.unravel_index(np.arange(num_actions), (box_bins,) * dims), axis=-1
    )  # [num_actions, dims]
    grid = values[index, np.arange(dims)]
    return grid.reshape(num_actions, *space.shape).astype(space.dtype)


def describe_agent(
    name: str, encoder: ObsEncoder, decoder: ActionDecoder
) -> dict[str, Any]:
    """Describes an agent's observations and actions, for use without its env.

    Args:
        name: Name of the agent.
        encoder: Encoder of its observations.
        decoder: Decoder of its actions.

    Returns:
        ``name``, ``obs_size``, ``num_actions``, and the declared bounds
        ``observation_low`` and ``observation_high``, except for images.
    """
    described = {
        "name": name,
        "obs_size": encoder.size,
        "num_actions": decoder.num_actions,
    }
    if encoder.image is not None:  # all pixels have the same bounds
        return described
    low, high = encoder.bounds()
    return described | {
        "observation_low": low.tolist(),
        "observation_high": high.tolist(),
    }


def declared_names(env: Any, agent: Any) -> dict[str, list[str]]:
    """The names that an env gives to an agent's numbers and actions.

    Args:
        env: An env; its optional attributes ``observation_names`` and ``action_names``
            are lists, or dicts of lists by agent.
        agent: The agent.

    Returns:
        ``observation_names`` and ``action_names``, without missing ones.
    """
    found = {}
    for key in ("observation_names", "action_names"):
        names = getattr(env.unwrapped, key, None)
        if isinstance(names, Mapping):
            names = names.get(agent)
        if names is not None:
            found[key] = [str(name) for name in names]
    return found
