"""Writes the frames of an episode to an animation or an image file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Frames per row of a strip, and white pixels between them.
_STRIP_COLUMNS = 8
_STRIP_GAP = 4


def save_frames(frames: Sequence[NDArray[np.uint8]], out: Path, fps: float = 4) -> Path:
    """Saves frames as an animation (``.gif``) or as a strip of images (``.png``).

    A strip has rows of eight frames, from left to right and from top to bottom.

    Args:
        frames: RGB frames, each uint8 ``[height, width, 3]``, all of the same size.
        out: File to write. Its suffix determines the format.
        fps: Frames per second of the animation. The last frame stays for one second, so
            that the end of the episode is visible before the animation repeats.

    Returns:
        The file written.

    Raises:
        ValueError: If there is no frame, a frame has a wrong dtype or shape, ``fps`` is
            not positive, or the suffix is not ``.gif`` or ``.png``.
    """
    if out.suffix not in (".gif", ".png"):
        raise ValueError(f"{out} must end in .gif or .png")
    if len(frames) == 0:
        raise ValueError("there is no frame to save: does the environment render?")
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(
                f"frame {index} must be uint8 [height, width, 3], "
                f"got {frame.dtype} {list(frame.shape)}"
            )
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"frame {index} has shape {list(frame.shape)}, "
                f"the first one {list(frames[0].shape)}"
            )

    from PIL import Image

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        Image.fromarray(_strip(frames)).save(out)
        return out
    milliseconds = [max(1, round(1000 / fps))] * len(frames)
    milliseconds[-1] = max(1000, milliseconds[-1])
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(
        out, save_all=True, append_images=images[1:], duration=milliseconds, loop=0
    )
    return out


def _strip(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Arranges all frames on one white canvas, row by row."""
    height, width, _ = frames[0].shape
    columns = min(len(frames), _STRIP_COLUMNS)
    rows = -(-len(frames) // columns)
    canvas = np.full(
        (
            rows * (height + _STRIP_GAP) - _STRIP_GAP,
            columns * (width + _STRIP_GAP) - _STRIP_GAP,
            3,
        ),
        255,
        dtype=np.uint8,
    )
    for index, frame in enumerate(frames):
        top = index // columns * (height + _STRIP_GAP)
        left = index % columns * (width + _STRIP_GAP)
        canvas[top : top + height, left : left + width] = frame
    return canvas
