"""The encoder for images: convolutions before the standard encoder.

Letters: ``R`` rows (episodes times agents), ``T`` steps, ``I`` input size, ``H`` number
of features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import Namespace, Rows, Step
from rllib_risk.networks.encoders import StandardEncoder

_LARGEST_PIXEL = 255.0


class ImageEncoder(StandardEncoder):
    """Convolutions over the image, then the standard encoder.

    Each convolution has a 3x3 kernel, stride 2, padding 1 and a ReLU. It halves height
    and width (rounded up), so images may have any size. Pixels are divided by 255. The
    rest of the input (last action, agent id) joins the flat result, and
    :class:`StandardEncoder` reads both. The convolutions follow A3C and DQN (Mnih et
    al., 2015 and 2016), with smaller kernels.

    Attributes:
        convolutions: The convolutions, in order.
    """

    @dataclass(frozen=True)
    class Options(StandardEncoder.Options):
        cnn_channels: list = option(
            [16, 32, 32],
            "Output channels of the convolutions, a list. Each convolution halves"
            " height and width, so large images need more of them.",
            fixed=True,
        )

    options: Options

    def __init__(
        self, sizes: TeamSizes, input_size: int, options: Options | None = None
    ) -> None:
        """Initializes the encoder; see :class:`~rllib_risk.networks.encoder.Encoder`.

        Raises:
            ValueError: If observations are not images, or ``cnn_channels`` is wrong.
        """
        if sizes.image is None:
            raise ValueError(
                "encoder: 'cnn' needs images, which are uint8 observations of shape"
                " (height, width, channels), the same for all agents. Set encoder:"
                " standard."
            )
        channels = (options or self.Options()).cnn_channels
        if not channels or not all(_is_count(number) for number in channels):
            raise ValueError(
                "cnn_channels: must list at least one whole number from 1 to"
                f" {MAX_WIDTH}, not {channels!r}."
            )
        height, width, depth = sizes.image
        for _ in channels:
            height, width = (height + 1) // 2, (width + 1) // 2
        pixels, flat = math.prod(sizes.image), height * width * channels[-1]
        super().__init__(sizes, flat + input_size - pixels, options)
        self._image, self._pixels, self._flat = sizes.image, pixels, flat
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in zip([depth, *channels], channels, strict=False)
        )

    def _embedding(self, xp: Namespace) -> Step:
        read = super()._embedding(xp)
        convolutions = [xp.conv(layer) for layer in self.convolutions]  # type: ignore[arg-type]

        def embed(inputs: Rows) -> Rows:
            lead = inputs.shape[:-1]  # [R], or [R, T] in learning
            rows = inputs.reshape(-1, inputs.shape[-1])
            image = rows[:, : self._pixels].reshape(-1, *self._image) / _LARGEST_PIXEL
            image = image.swapaxes(2, 3).swapaxes(1, 2)  # [R T, C, H, W]
            for convolution in convolutions:
                image = xp.relu_(convolution(image))
            flat = xp.concat(image.reshape(-1, self._flat), rows[:, self._pixels :])
            return read(flat).reshape(*lead, self.feature_size)

        return embed


def _is_count(number: object) -> bool:
    whole = isinstance(number, int) and not isinstance(number, bool)
    return whole and 1 <= number <= MAX_WIDTH  # type: ignore[operator]
