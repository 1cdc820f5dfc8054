"""Pictures of episodes."""

import numpy as np
import pytest
from PIL import Image

from rllib_risk.evaluation.rendering import save_frames


def frames(count):
    """Frames of 6 x 5 pixels; all pixels of frame i have the grey 10 * i."""
    return [np.full((6, 5, 3), 10 * i, dtype=np.uint8) for i in range(count)]


def test_gif_holds_every_frame_and_rests_on_the_last(tmp_path):
    out = save_frames(frames(3), tmp_path / "new" / "episode.gif", fps=4)
    with Image.open(out) as image:
        assert (image.n_frames, image.size) == (3, (5, 6))
        durations = []
        for index in range(3):
            image.seek(index)
            durations.append(image.info["duration"])
            assert image.convert("RGB").getpixel((0, 0)) == (10 * index,) * 3
    assert durations == [250, 250, 1000]


def test_png_strip_reads_left_to_right_then_down(tmp_path):
    out = save_frames(frames(10), tmp_path / "episode.png")
    pixels = np.asarray(Image.open(out))
    # Two rows of at most eight frames, four white pixels between them.
    assert pixels.shape == (6 + 4 + 6, 8 * (5 + 4) - 4, 3)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, 7 * 9, 0] == 70
    assert pixels[10, 9, 0] == 90
    assert (pixels[0, 5] == 255).all() and (pixels[10, 2 * 9] == 255).all()


def test_one_frame_makes_a_picture_of_its_own_size(tmp_path):
    out = save_frames(frames(1), tmp_path / "one.png")
    assert np.asarray(Image.open(out)).shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("pictures", "name", "fps", "message"),
    [
        ([], "a.gif", 4, "no frame to save"),
        (frames(1), "a.mp4", 4, r"must end in .gif or .png"),
        (frames(1), "a.gif", 0, "fps must be positive"),
        ([np.zeros((6, 5, 3))], "a.gif", 4, r"frame 0 must be uint8 .* float64"),
        ([np.zeros((6, 5), np.uint8)], "a.gif", 4, r"frame 0 must be uint8"),
        (
            [*frames(1), np.zeros((7, 5, 3), np.uint8)],
            "a.gif",
            4,
            r"frame 1 has shape \[7, 5, 3\]",
        ),
    ],
)
def test_save_frames_refuses(tmp_path, pictures, name, fps, message):
    with pytest.raises(ValueError, match=message):
        save_frames(pictures, tmp_path / name, fps)
