"""The picture of success against cost: where points lie, and which are filled."""

import numpy as np
import pytest

from specprune_ros.draw.axes import COLOURS, HEIGHT, PANEL_WIDTH, ticks
from specprune_ros.draw.front import Point, picture


def centre(pixels, colour):
    """(x, y) of the pixels of a colour, below the legend."""
    y, x = np.nonzero((pixels[60:] == colour).all(-1))
    return x.mean(), y.mean() + 60


def test_more_success_is_higher_and_more_cost_is_further_right():
    points = [Point("a", "", 10.0, 0.5, False), Point("b", "", 20.0, 0.9, False)]
    pixels = picture([("ms", points)], "title")
    assert pixels.shape == (HEIGHT, PANEL_WIDTH, 3)
    (x0, y0), (x1, y1) = (centre(pixels, colour) for colour in COLOURS[:2])
    assert x0 < x1 - 50 and y0 > y1 + 50


def test_points_on_the_front_are_filled():
    amounts = []
    for front in (False, True):
        pixels = picture([("ms", [Point("a", "", 10.0, 0.5, front)])], "title")
        amounts.append((pixels[80:] == COLOURS[0]).all(-1).sum())
    assert amounts[1] > 1.3 * amounts[0]


def test_kinds_keep_their_colour_in_every_panel():
    panels = [("ms", [Point("a", "", 1.0, 0.5, True), Point("b", "", 2.0, 0.5, True)])]
    panels.append(("GFLOP", [Point("b", "", 1.0, 0.5, True), Point("a", "", 2.0, 0.5, True)]))
    pixels = picture(panels, "title")
    left, right = pixels[:, :PANEL_WIDTH], pixels[:, PANEL_WIDTH:]
    assert centre(left, COLOURS[0])[0] < centre(left, COLOURS[1])[0]
    assert centre(right, COLOURS[0])[0] > centre(right, COLOURS[1])[0]


@pytest.mark.parametrize(("low", "high"), [(0, 11.1), (90, 100), (0, 602), (31.5, 100), (0, 0.02), (100, 100)])
def test_ticks_are_few_and_hold_everything_between_them(low, high):
    numbers = ticks(low, high)
    assert 2 <= len(numbers) <= 9 and numbers[0] <= low and numbers[-1] >= high - 1e-9


def test_no_points_are_an_error():
    with pytest.raises(ValueError, match="play some episodes"):
        picture([("ms", [])], "title")
