"""The frame of a chart: round numbers along two axes, a grid, and where a value is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from specprune_ros.draw.canvas import Canvas, Colour

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
class Axes:
    """One panel. left: its first column [px]; across, up: the numbers at the axes, rising; name: of the axis across;
    unit: behind the numbers of the other."""

    left: int
    across: tuple[float, ...]
    up: tuple[float, ...]
    name: str
    unit: str = ""

    @property
    def right(self) -> int:
        """The last column [px] of the grid."""
        return self.left + PANEL_WIDTH - RIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a value is, in pixels."""
        x0, y0 = self.left + LEFT, HEIGHT - BOTTOM
        return (
            x0 + (self.right - x0) * (x - self.across[0]) / (self.across[-1] - self.across[0]),
            y0 + (TOP + 14 - y0) * (y - self.up[0]) / (self.up[-1] - self.up[0]),
        )

    def draw(self, canvas: Canvas) -> None:
        """The grid, the numbers and the name."""
        for value in self.across:
            (x, bottom), (_, top) = self.place(value, self.up[0]), self.place(value, self.up[-1])
            canvas.line((x, bottom), (x, top), GRID)
            canvas.text((x, bottom + 10), f"{value:g}", MUTED, 13, "mt")
        for value in self.up:
            (first, y), (last, _) = self.place(self.across[0], value), self.place(self.across[-1], value)
            canvas.line((first, y), (last, y), GRID)
            canvas.text((first - 8, y), f"{value:g}{self.unit}", MUTED, 13, "rm")
        middle = (self.left + LEFT + self.right) / 2
        canvas.text((middle, HEIGHT - 26), self.name, INK, 15, "mt")


def ticks(low: float, high: float) -> tuple[float, ...]:
    """Four to eight round numbers around low .. high, in steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last - first < 2:
        first -= 1
    return tuple(round(step * i, 10) for i in range(first, last + 1))
