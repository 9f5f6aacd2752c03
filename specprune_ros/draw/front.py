"""Success against cost: points of several kinds, and the front of those that no other point beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from specprune_ros.draw.axes import COLOURS, HEIGHT, INK, LEFT, MUTED, PANEL_WIDTH, WHITE, Axes, ticks
from specprune_ros.draw.canvas import Canvas, Colour, text_width


@dataclass(frozen=True)
class Point:
    """kind: what gives it its colour; label: what stands beside it; success: a share; front: on the front or not."""

    kind: str
    label: str
    cost: float
    success: float
    front: bool


def picture(panels: Sequence[tuple[str, Sequence[Point]]], title: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB: one panel for each (name of the cost, points) side by side. ValueError without points."""
    if not panels or not all(points for _, points in panels):
        raise ValueError("picture: a panel has no points; play some episodes first")
    kinds = list(dict.fromkeys(point.kind for _, points in panels for point in points))
    colours = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}
    canvas = Canvas(PANEL_WIDTH * len(panels), HEIGHT, WHITE)
    canvas.text((LEFT, 20), title, INK, 18)
    _legend(canvas, colours)
    for number, (name, points) in enumerate(panels):
        _panel(canvas, PANEL_WIDTH * number, name, points, colours)
    return canvas.pixels


def _legend(canvas: Canvas, colours: dict[str, Colour]) -> None:
    x = LEFT
    for kind, colour in colours.items():
        _dot(canvas, (x + 6, 48), colour, True)
        canvas.text((x + 18, 48), kind, INK, 14)
        x += 36 + text_width(kind, 14)
    canvas.text((x, 48), "filled, with a line: nothing is better at less cost", MUTED, 14)


def _panel(canvas: Canvas, left: int, name: str, points: Sequence[Point], colours: dict[str, Colour]) -> None:
    across = ticks(0.0, max(point.cost for point in points))
    lowest = min(0.9, *(point.success for point in points))  # where all are as good, no dust is magnified
    up = tuple(value for value in ticks(100 * lowest, 100.0) if value <= 100.0 + 1e-9)
    axes = Axes(left, across, up, name, " %")
    axes.draw(canvas)
    front = sorted((point for point in points if point.front), key=lambda point: point.cost)
    for one, other in zip(front, front[1:], strict=False):
        ends = (axes.place(point.cost, 100 * point.success) for point in (one, other))
        canvas.line(*ends, INK)
    for point in points:
        at = axes.place(point.cost, 100 * point.success)
        _dot(canvas, at, colours[point.kind], point.front)
        right = at[0] + 10 + text_width(point.label, 12) > axes.right
        canvas.text((at[0] + (-10 if right else 10), at[1] - 9), point.label, MUTED, 12, "rm" if right else "lm")


def _dot(canvas: Canvas, at: tuple[float, float], colour: Colour, filled: bool) -> None:
    centre = round(at[0]), round(at[1])
    cv2.circle(canvas.pixels, centre, 6, colour if filled else WHITE, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(canvas.pixels, centre, 6, colour, 2, cv2.LINE_AA)
