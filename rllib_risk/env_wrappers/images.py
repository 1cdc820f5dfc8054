"""Image observations: a uint8 `Box` of height, width and channels.

Teams whose agents all observe images of one shape keep them as bytes, flattened to
rows. `ImageRows` is the space of these rows; it remembers the shape of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from gymnasium import spaces

from rllib_risk.data.sizes import ImageShape


class ImageRows(spaces.Box):
    """The flat images of a team's agents, uint8 [N, H * W * C].

    Attributes:
        image: Shape of an image, (H, W, C).
    """

    def __init__(self, num_agents: int, image: ImageShape) -> None:
        """Initializes the space.

        Args:
            num_agents: Number of agents, N.
            image: Shape of an image, (H, W, C).
        """
        super().__init__(0, 255, (num_agents, math.prod(image)), np.uint8)
        self.image = image


def image_shape(space: spaces.Space) -> ImageShape | None:
    """Shape (H, W, C) of a space of images; None if the space holds something else.

    Args:
        space: An observation space. Images are a uint8 Box of shape (H, W, C), or of
            shape (H, W) with one channel.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return None
    if len(space.shape) not in (2, 3) or 0 in space.shape:
        return None
    height, width, channels = (*space.shape, 1)[:3]
    return height, width, channels


def common_image(shapes: Iterable[ImageShape | None]) -> ImageShape | None:
    """The image shape of a team; None unless all agents have the same one.

    Args:
        shapes: Image shape of each agent.
    """
    different = set(shapes)
    return different.pop() if len(different) == 1 else None
