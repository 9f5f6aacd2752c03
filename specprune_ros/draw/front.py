"""Success against cost: points of several kinds, and the front of those that no other point beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from specprune_ros.draw.canvas import Canvas, Colour, text_width

WHITE, INK, MUTED, GRID = (255, 255, 255), (30, 32, 38), (110, 114, 124), (226, 228, 232)
COLOURS: tuple[Colour, ...] = (
    (60, 60, 66),
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (140, 90, 40),
    (110, 80, 190),
)
"""Told apart by colour-blind people as well (Okabe and Ito 2008), the last two are not of that set."""
PANEL_WIDTH, HEIGHT = 620, 520
LEFT, RIGHT, TOP, BOTTOM = 74, 20, 70, 62


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
    across = _ticks(0.0, max(point.cost for point in points))
    lowest = min(0.9, *(point.success for point in points))  # where all are as good, no dust is magnified
    up = [value for value in _ticks(100 * lowest, 100.0) if value <= 100.0 + 1e-9]
    x0, x1, y0, y1 = left + LEFT, left + PANEL_WIDTH - RIGHT, HEIGHT - BOTTOM, TOP + 14

    def place(cost: float, percent: float) -> tuple[float, float]:
        return (
            x0 + (x1 - x0) * (cost - across[0]) / (across[-1] - across[0]),
            y0 + (y1 - y0) * (percent - up[0]) / (up[-1] - up[0]),
        )

    for value in across:
        x, _ = place(value, up[0])
        canvas.line((x, y0), (x, y1), GRID)
        canvas.text((x, y0 + 10), f"{value:g}", MUTED, 13, "mt")
    for value in up:
        _, y = place(across[0], value)
        canvas.line((x0, y), (x1, y), GRID)
        canvas.text((x0 - 8, y), f"{value:g} %", MUTED, 13, "rm")
    canvas.text(((x0 + x1) / 2, HEIGHT - 26), name, INK, 15, "mt")
    front = sorted((point for point in points if point.front), key=lambda point: point.cost)
    for one, other in zip(front, front[1:], strict=False):
        canvas.line(place(one.cost, 100 * one.success), place(other.cost, 100 * other.success), INK)
    for point in points:
        at = place(point.cost, 100 * point.success)
        _dot(canvas, at, colours[point.kind], point.front)
        right = at[0] + 10 + text_width(point.label, 12) > x1
        canvas.text((at[0] + (-10 if right else 10), at[1] - 9), point.label, MUTED, 12, "rm" if right else "lm")


def _dot(canvas: Canvas, at: tuple[float, float], colour: Colour, filled: bool) -> None:
    centre = round(at[0]), round(at[1])
    cv2.circle(canvas.pixels, centre, 6, colour if filled else WHITE, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(canvas.pixels, centre, 6, colour, 2, cv2.LINE_AA)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers around low .. high, in steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last - first < 2:
        first -= 1
    return [round(step * i, 10) for i in range(first, last + 1)]
