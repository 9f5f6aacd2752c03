"""Lines over a number: several panels side by side, each with a level or a place that is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from specprune_ros.draw.axes import COLOURS, HEIGHT, INK, LEFT, MUTED, PANEL_WIDTH, TOP, WHITE, Axes, ticks
from specprune_ros.draw.canvas import Canvas, Colour, text_width


@dataclass(frozen=True)
class Panel:
    """across, up: names of the axes; lines: name -> (x, y) points in the order of x; marks: what is at some x."""

    across: str
    up: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    marks: Mapping[str, float]


def picture(panels: Sequence[Panel], title: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB. ValueError for a panel or a line without points."""
    if not panels or not all(panel.lines and all(panel.lines.values()) for panel in panels):
        raise ValueError("picture: a panel has no lines, or a line no points; measure something first")
    canvas = Canvas(PANEL_WIDTH * len(panels), HEIGHT, WHITE)
    canvas.text((LEFT, 20), title, INK, 18)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    for number, panel in enumerate(panels):
        _panel(canvas, PANEL_WIDTH * number, panel, colours)
    return canvas.pixels


def _panel(canvas: Canvas, left: int, panel: Panel, colours: Mapping[str, Colour]) -> None:
    points = [point for line in panel.lines.values() for point in line]
    across = ticks(0.0, max(x for x, _ in points))
    up = ticks(0.0, max(y for _, y in points))
    axes = Axes(left, across, up, panel.across)
    axes.draw(canvas)
    canvas.text((left + LEFT, 46), panel.up, INK, 14)
    x = left + LEFT
    for name in panel.lines:
        canvas.line((x, TOP - 3), (x + 18, TOP - 3), colours[name])
        canvas.text((x + 24, TOP - 3), name, MUTED, 13)
        x += 44 + text_width(name, 13)
    for name, at in panel.marks.items():
        top, bottom = axes.place(at, up[-1]), axes.place(at, up[0])
        canvas.line(top, bottom, INK)
        canvas.text((bottom[0] + 6, bottom[1] - 12), name, INK, 13)
    for name, line in panel.lines.items():
        ends = [axes.place(*point) for point in line]
        for one, other in zip(ends, ends[1:], strict=False):
            canvas.line(one, other, colours[name])
        for x, y in ends:
            cv2.circle(canvas.pixels, (round(x), round(y)), 3, colours[name], cv2.FILLED, cv2.LINE_AA)
