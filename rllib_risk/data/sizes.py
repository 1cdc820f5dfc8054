"""Sizes of a team and its observations, from which every network is built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Height, width and channels of an image.
ImageShape = tuple[int, int, int]


class NeedsStateError(ValueError):
    """Raised if a part needs the global state and the environment has none."""

    def __init__(self, key: str, part: str) -> None:
        """Initializes the error.

        Args:
            key: The configuration key that names the part.
            part: Name of the part.
        """
        super().__init__(f"{key} {part!r} needs a state; the environment has none.")
        self.key = key


@dataclass(frozen=True)
class TeamSizes:
    """Sizes of a team and its observations, which the environment determines.

    Attributes:
        num_agents: ``N``, number of agents.
        num_actions: ``A``, number of actions after padding.
        obs_size: ``D``, size of observations after padding.
        state_size: ``S``, size of the global state; 0 if there is none.
        image: Shape of an observation before it was flattened, if all agents observe
            uint8 images of one shape; else None.
    """

    num_agents: int
    num_actions: int
    obs_size: int
    state_size: int
    image: ImageShape | None = None


@dataclass(frozen=True)
class TeamSpec:
    """The sizes of a team, the same for every episode.

    Attributes:
        agents: Names of the N agents; their order is the agent axis of all arrays.
        num_actions: A, the largest number of actions of any agent.
        obs_size: D, the longest flat observation of any agent.
        state_size: S, the length of the global state; 0 if the env has none.
        episode_limit: Longest possible episode in steps, or None if not declared.
        image: As in :class:`TeamSizes`.
    """

    agents: tuple[str, ...]
    num_actions: int
    obs_size: int
    state_size: int
    episode_limit: int | None
    image: ImageShape | None = None

    @property
    def num_agents(self) -> int:
        """N, the number of agents."""
        return len(self.agents)

    @property
    def obs_dtype(self) -> np.dtype:
        """Type of observations: uint8 for images, else float32."""
        return obs_dtype(self.image)


def obs_dtype(image: ImageShape | None) -> np.dtype:
    """Type of observations: uint8 for images, else float32.

    Args:
        image: See :attr:`TeamSizes.image`.
    """
    return np.dtype(np.float32 if image is None else np.uint8)
