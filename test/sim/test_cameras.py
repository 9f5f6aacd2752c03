"""What the cameras show, against colours and a pinhole camera computed here."""

import colorsys
import math

import numpy as np
import pytest

from specprune_ros import rotation
from specprune_ros.sim import env as tabletop
from specprune_ros.sim import scene


def hue_and_saturation(image):
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    top, low = image.max(axis=-1).astype(float), image.min(axis=-1).astype(float)
    span = np.maximum(top - low, 1e-9)
    sector = np.select([top == red, top == green], [(green - blue) / span % 6, 2 + (blue - red) / span])
    hue = np.where((top == blue) & (top != red) & (top != green), 4 + (red - green) / span, sector) / 6
    return hue, (top - low) / np.maximum(top, 1e-9)


def coloured_pixels(image):
    """(H, W, 6) bool: pixels that have each cube's hue; everything else in the scene is nearly grey."""
    hue, saturation = hue_and_saturation(image)
    hues = np.array([colorsys.rgb_to_hsv(*rgba[:3])[0] for rgba in scene.RGBA.values()])
    away = np.abs((hue[..., None] - hues + 0.5) % 1 - 0.5)
    nearest = away.argmin(axis=-1)[..., None] == np.arange(len(hues))
    return nearest & (saturation > 0.4)[..., None]


def cover_by_hue(image, patch):
    """What ``render_cover`` says, counted patch by patch from the picture alone."""
    coloured = coloured_pixels(image)
    side = len(image) // patch
    cover = np.zeros((side * side, coloured.shape[-1]), int)
    for row in range(side):
        for column in range(side):
            square = coloured[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            cover[row * side + column] = np.rint(255 * square.mean(axis=(0, 1)))
    return cover


@pytest.mark.parametrize("seed", [0, 3])
def test_cover_is_where_the_colours_are(camera_env, seed):
    """Also with the hand in front of the cubes and a cube between the pads."""
    camera_env.reset(seed)
    state = camera_env.state()
    cube = state.things[state.goal.thing].position_m
    for down in (False, True):
        if down:
            state = [camera_env.step_pose(cube, rotation.TOP_DOWN_XYZW, True) for _ in range(12)][-1]
            assert np.linalg.norm(state.ee_position_m - cube) < 0.01
        for camera in camera_env.CAMERAS:
            image, cover = camera_env.render(camera), camera_env.render_cover(camera)
            assert image.shape == (224, 224, 3) and image.dtype == np.uint8 and image.std() > 10
            assert cover.shape == (256, len(state.things)) and cover.dtype == np.uint8
            assert cover.sum(axis=1, dtype=int).max() <= 255
            columns = [tabletop.COLOURS.index(thing.colour) for thing in state.things.values()]
            expected = cover_by_hue(image, 14)
            np.testing.assert_array_equal(cover, expected[:, columns])
            assert not np.delete(expected, columns, axis=1).any()
        assert camera_env.render_cover("wrist")[:, list(state.things).index(state.goal.thing)].any()
    assert cover.max() == 255  # the wrist camera is close to the cube
    assert camera_env.render_cover("wrist", patch=28).shape == (64, len(state.things))


def test_the_third_person_camera_shows_the_cubes_where_they_are(camera_env):
    """A pinhole with the numbers of the scene's description puts each cube's centre in the middle of its pixels."""
    camera_env.reset(1)
    x, y = np.array([0, 1, 0]), np.array([-0.766, 0, 0.643]) / math.hypot(0.766, 0.643)
    focal_px = 112 / math.tan(math.radians(20.8) / 2)
    coloured = coloured_pixels(camera_env.render("third_person"))
    for cube in camera_env.state().things.values():
        right, up, back = np.stack([x, y, np.cross(x, y)]) @ (cube.position_m - (1.291, 0, 1.109))
        expected = np.array([112 - focal_px * up / -back, 112 + focal_px * right / -back])
        rows, columns = np.nonzero(coloured[..., tabletop.COLOURS.index(cube.colour)])
        np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], expected, atol=1.5)


def test_bad_requests_for_pictures_say_what_to_do(env, camera_env):
    with pytest.raises(RuntimeError, match="does not render; make it with render=True"):
        env.render("wrist")
    for render in (camera_env.render, camera_env.render_cover):
        with pytest.raises(ValueError, match="camera 'left' is not known; use one of third_person, wrist"):
            render("left")
    with pytest.raises(ValueError, match="patch 15 does not divide the image size 224; use one of its divisors"):
        camera_env.render_cover("wrist", patch=15)
