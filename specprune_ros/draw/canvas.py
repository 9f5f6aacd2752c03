"""Text and shapes on RGB arrays, by OpenCV."""

from __future__ import annotations

import unicodedata

import cv2
import numpy as np

Colour = tuple[int, int, int]

_FONT, _CAPITAL = cv2.FONT_HERSHEY_SIMPLEX, 21.0
"""The font, and the height of its capital letters at scale 1 [pixels]."""
_CAPITAL_SHARE = 0.68
"""Height of capital letters per size of a font."""


class Canvas:
    """A picture that is drawn on: `pixels` is (H, W, 3) uint8 RGB. Places are (x, y) [pixels] from the upper left."""

    def __init__(self, width: int, height: int, background: Colour):
        self.pixels = np.full((height, width, 3), background, np.uint8)

    def paste(self, picture: np.ndarray, left: int, top: int) -> None:
        """(h, w, 3) uint8 RGB, all of it inside."""
        height, width = picture.shape[:2]
        self.pixels[top : top + height, left : left + width] = picture

    def text(self, place: tuple[float, float], words: str, colour: Colour, size: int, anchor: str = "lm") -> None:
        """anchor: what of the words is at `place`: l, m, r (left, middle, right), and t, m (top, middle)."""
        scale = _scale(size)
        x, y = place
        x -= {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(words, size)
        y += {"t": 1.0, "m": 0.5}[anchor[1]] * _CAPITAL * scale
        at = round(x), round(y)
        cv2.putText(self.pixels, plain(words), at, _FONT, scale, colour, _thickness(size), cv2.LINE_AA)

    def rectangle(
        self, corners: tuple[float, float, float, float], fill: Colour | None = None, outline: Colour | None = None
    ) -> None:
        """corners: left, top, right, bottom, all of them inside; the outline is 2 pixels wide and inside as well."""
        left, top, right, bottom = (round(value) for value in corners)
        if fill is not None:
            cv2.rectangle(self.pixels, (left, top), (right, bottom), fill, cv2.FILLED)
        if outline is not None:
            for inset in range(2):
                start, end = (left + inset, top + inset), (right - inset, bottom - inset)
                cv2.rectangle(self.pixels, start, end, outline, 1)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
        (x0, y0), (x1, y1) = start, end
        cv2.line(self.pixels, (round(x0), round(y0)), (round(x1), round(y1)), colour, 1)


def text_width(words: str, size: int) -> int:
    """[pixels]"""
    return cv2.getTextSize(plain(words), _FONT, _scale(size), _thickness(size))[0][0]


def shortened(words: str, size: int, width: float) -> str:
    """The words, or as many of their letters as fit into `width` pixels with dots after them, or nothing."""
    if text_width(words, size) <= width:
        return words
    kept = next((n for n in range(len(words), 1, -1) if text_width(f"{words[:n].rstrip()}...", size) <= width), 0)
    return f"{words[:kept].rstrip()}..." if kept else ""


def plain(words: str) -> str:
    """What OpenCV's font can show: letters without accents, and a question mark for what has no plain letter."""
    apart = unicodedata.normalize("NFKD", words)
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


def _scale(size: int) -> float:
    return _CAPITAL_SHARE * size / _CAPITAL


def _thickness(size: int) -> int:
    return 2 if size >= 18 else 1
