"""Does a picture show anything that a policy could act on? Covered, dazzled, noisy and stuck cameras are told from what
they deliver, by cheap statistics of a few rows."""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from specprune_ros.config import Pictures
from specprune_ros.observe.motion import angle_between
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

ROWS = 32
"""Number of rows of a picture that are examined."""
COMPARED_ROWS, KNOWN = 128, 4
"""At least so many rows are compared with those of so many different pictures before: a stuck driver may show a few of
them in turn."""
CELLS = 32
"""Each row is divided into this many cells. Contrast is measured between the means of the cells, so that sensor noise
does not count as contrast."""
LAGS = (4, 5, 7)
"""Distances [pixels] at which pixels of a row are correlated in every scene but not in noise. Debayering, blurring and
JPEG make only nearer pixels of noise alike. There are several distances because a pattern of stripes may have no
correlation at one of them."""


@dataclass
class _Seen:
    """A picture: when it was taken, and where the arm was when it was first measured after that."""

    taken_ns: int
    pose: EndEffector | None = None
    since_ns: int = 0


class PictureWatch:
    """Judges the pictures of one camera, one after the other."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Seen] = OrderedDict()
        """The last different pictures, by a checksum of each."""

    def check(self, image: np.ndarray, stamp_ns: int, measured: EndEffector | None, settings: Pictures) -> None:
        """BadInput for a picture that the arm must not move by. image: (H, W, 3) uint8 RGB; measured: the pose now.

        A camera is stuck when a picture comes again, the same to the last bit, although the arm has moved since it was
        taken: a scene that stands still is normal, and so is a simulated camera without noise.
        """
        if not settings.check:
            self._known.clear()
            return
        check_content(image, settings)
        rows = np.ascontiguousarray(image[:: max(1, image.shape[0] // COMPARED_ROWS)])
        seen = self._known.setdefault(zlib.crc32(rows.data), _Seen(stamp_ns))
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        if measured is None or measured.stamp_ns < seen.taken_ns:  # motion before the picture does not count
            return
        if seen.pose is None:
            seen.pose, seen.since_ns = measured, stamp_ns
        else:
            _check_stuck(seen.pose, seen.since_ns, stamp_ns, measured, settings)


def _check_stuck(before: EndEffector, since_ns: int, stamp_ns: int, measured: EndEffector, settings: Pictures) -> None:
    moved = math.dist(before.position_m, measured.position_m)
    turned = angle_between(before.quaternion_xyzw, measured.quaternion_xyzw)
    if moved > settings.stuck_translation or turned > settings.stuck_rotation:
        stuck_s = (stamp_ns - since_ns) / NANOSECONDS
        raise BadInput(
            f"the picture has been the same to the last bit for {stuck_s:.2f} s, while the arm moved by {moved:.3f} m "
            f"and {turned:.2f} rad (limits pictures.stuck_translation {settings.stuck_translation:g} m, "
            f"pictures.stuck_rotation {settings.stuck_rotation:g} rad); the camera or its driver is "
            "stuck: start it again"
        )


def check_content(image: np.ndarray, settings: Pictures) -> None:
    """BadInput for a picture that is black, white, of one even colour, or nothing but noise. (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(np.ascontiguousarray(image[:: max(1, image.shape[0] // ROWS)]), cv2.COLOR_RGB2GRAY)
    mean, contrast = _mean_and_contrast(grey)
    numbers = f"mean {mean:.1f} of 255, contrast {contrast:.1f}"
    if contrast < settings.contrast and mean < settings.dark:
        raise BadInput(
            f"the picture is black ({numbers}; limits pictures.dark {settings.dark:g}, pictures.contrast "
            f"{settings.contrast:g}); uncover the lens or turn on the light"
        )
    if contrast < settings.contrast and mean > settings.bright:
        raise BadInput(
            f"the picture is white ({numbers}; limits pictures.bright {settings.bright:g}, pictures.contrast "
            f"{settings.contrast:g}); shorten the exposure or shade the lens"
        )
    if contrast < settings.even:
        raise BadInput(
            f"the picture has one even colour ({numbers}; limit pictures.even {settings.even:g}); uncover the lens"
        )
    likeness = _likeness(grey)
    if likeness < settings.noise:
        raise BadInput(
            f"the picture is noise (pixels {LAGS[0]} to {LAGS[-1]} apart correlate by {likeness:.2f}, limit "
            f"pictures.noise {settings.noise:g}); check the camera, its cable and its encoding"
        )


def _mean_and_contrast(grey: np.ndarray) -> tuple[float, float]:
    """Mean brightness, and the standard deviation between the cells of (H, W) uint8, in 0..255."""
    cells = cv2.resize(grey, (min(CELLS, grey.shape[1]), grey.shape[0]), interpolation=cv2.INTER_AREA)
    mean, deviation = cv2.meanStdDev(cells)
    return float(mean[0, 0]), float(deviation[0, 0])


def _likeness(grey: np.ndarray) -> float:
    """The larger of the correlations, without sign, between pixels of a row that are LAGS apart; 1 where the picture is
    too narrow to tell. (H, W) uint8."""
    if grey.shape[1] < 2 * max(LAGS):
        return 1.0
    values = grey.astype(np.float32)
    values -= values.mean()
    variance = float(np.vdot(values, values)) / values.size
    if variance == 0.0:
        return 1.0

    def correlation(lag: int) -> float:
        left, right = values[:, :-lag], values[:, lag:]
        return abs(float(np.einsum("ij,ij->", left, right)) / left.size) / variance

    return max(correlation(lag) for lag in LAGS)
