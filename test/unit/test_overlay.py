"""The debug picture: what was dropped is dim, what was kept is visible, and the figures on it are the mask's."""

import numpy as np
import pytest

from specprune_ros.draw import overlay as drawing
from specprune_ros.draw.overlay import camera_overlay, overlay
from specprune_ros.types import Mode

GRID = (16, 16)
IMAGES = (np.full((224, 224, 3), 200, np.uint8), np.full((224, 224, 3), (40, 200, 60), np.uint8))


def draw(kept, images=IMAGES, mode=Mode.COARSE, **text):
    return overlay(images, kept, GRID, mode=mode, aggressiveness=0.5, **text)


def view(picture, index):
    """The index-th view cut out of the picture."""
    left = drawing.GAP + index * (drawing.SIDE + drawing.GAP)
    return picture[drawing.HEADER : drawing.HEADER + drawing.SIDE, left : left + drawing.SIDE]


def patch(picture, index, row, col):
    """The inside of one patch, without its border."""
    size = drawing.SIDE // GRID[0]
    return view(picture, index)[row * size + 4 : (row + 1) * size - 4, col * size + 4 : (col + 1) * size - 4]


def test_keeping_everything_shows_the_images_as_they_are():
    picture = draw(np.full(512, 16 | 32, np.uint8), mode=Mode.DENSE)
    for index, image in enumerate(IMAGES):
        assert (view(picture, index) == image[0, 0]).all()


def test_dropped_patches_are_dark_and_patches_dropped_later_half_dark():
    kept = np.full(512, 16 | 32, np.uint8)
    kept[5 * 16 + 3] = 0
    kept[256 + 2] = 16
    picture = draw(kept)
    bright, dark = patch(picture, 0, 5, 4).mean(), patch(picture, 0, 5, 3).mean()
    half = patch(picture, 1, 0, 2).mean() / patch(picture, 1, 0, 3).mean()
    assert bright == 200 and dark < 0.4 * bright
    assert 0.4 < half < 0.9


def test_the_border_shows_the_first_source():
    kept = np.zeros(512, np.uint8)
    kept[0] = 2 | 4 | 16 | 32
    colour = np.array(next(colour for bit, colour, _ in drawing.SOURCES if bit == 2), float)
    corner = view(draw(kept), 0)[1, 1:20].astype(float)
    assert np.abs(corner - colour).max() < 30


@pytest.mark.parametrize("views", [1, 2, 3])
def test_any_number_of_views(views):
    images = (np.zeros((120, 160, 3), np.uint8),) * views
    picture = draw(np.zeros(views * 256, np.uint8), images, caption="pick up the red cube " * 20)
    assert picture.dtype == np.uint8
    assert picture.shape[0] == drawing.HEADER + drawing.SIDE + drawing.FOOTER
    assert picture.shape[1] >= views * drawing.SIDE


def test_the_header_names_mode_and_count():
    pictures = [draw(np.full(512, 48, np.uint8), mode=mode) for mode in (Mode.DENSE, Mode.COARSE, Mode.FINE)]
    headers = [picture[: drawing.HEADER].tobytes() for picture in pictures]
    assert len(set(headers)) == 3
    fewer = np.full(512, 48, np.uint8)
    fewer[0] = 0
    assert draw(fewer, mode=Mode.FINE)[: drawing.HEADER].tobytes() != headers[2]


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="kept has 300 entries; 2 views of 16 x 16 patches need 512"):
        draw(np.zeros(300, np.uint8))


def test_the_picture_of_one_camera_shows_what_the_joint_one_shows_of_it():
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(2)]
    kept = rng.integers(0, 64, 512).astype(np.uint8)
    joint = draw(kept, images)
    for index, (image, mask) in enumerate(zip(images, kept.reshape(2, 256), strict=True)):
        single = camera_overlay(image, mask, GRID, mode=Mode.FINE, aggressiveness=0.5)
        assert single.dtype == np.uint8 and single.shape == (joint.shape[0], drawing.SIDE, 3)
        middle = single[drawing.HEADER : drawing.HEADER + drawing.SIDE]
        np.testing.assert_array_equal(middle, view(joint, index))
    assert not (single[:, -4:] != drawing.BACKGROUND)[: drawing.HEADER].any()  # nothing is cut off at the right
    assert not (single[:, -2:] != drawing.BACKGROUND)[-drawing.FOOTER :].any()
