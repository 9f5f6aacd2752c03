"""Recent frames, so that the current one can be compared with an earlier one (method.md 1, the reference frame)."""

from __future__ import annotations

from collections import deque

import numpy as np

GAP_PERIODS, GAP_S = 3, 0.15
"""A longer pause between two stamps is a gap: what was seen before it says nothing about now."""

Images = tuple[np.ndarray, ...]


def longest_gap_ns(period_ns: int) -> int:
    """Three control periods, and never so short that one lost frame of a slow camera counts [ns]."""
    return max(GAP_PERIODS * period_ns, round(GAP_S * 1e9))


def clock_jumped_back(previous_ns: int | None, stamp_ns: int, period_ns: int) -> bool:
    """Whether a stream's stamp went back by a period or more; less is jitter or reordering."""
    return previous_ns is not None and stamp_ns <= previous_ns - period_ns


class FrameHistory:
    """Frames of the last `capacity_periods` control periods, oldest first, at whatever rate the cameras run."""

    def __init__(self, capacity_periods: int, period_ns: int):
        self._period_ns = period_ns
        self._frames: deque[tuple[int, Images]] = deque()
        self.resize(capacity_periods)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def newest(self) -> tuple[int, Images] | None:
        """Stamp and images of the newest frame."""
        return self._frames[-1] if self._frames else None

    @property
    def capacity_periods(self) -> int:
        return self._capacity_periods

    def resize(self, capacity_periods: int) -> None:
        """Change how far back the history reaches."""
        self._capacity_periods = capacity_periods
        self._forget_old()

    def push(self, stamp_ns: int, images: Images) -> bool:
        """Add the newest frame; True when a gap or a clock jump back emptied the history first.

        A repeated or slightly older stamp is not a new frame and is ignored.
        """
        newest_ns = self._frames[-1][0] if self._frames else None
        broken = self._broken(newest_ns, stamp_ns)
        if broken:
            self.reset()
        elif newest_ns is not None and stamp_ns <= newest_ns:
            return False
        self._frames.append((stamp_ns, images))
        self._forget_old()
        return broken

    def reference(self, stamp_ns: int, offset_periods: int) -> tuple[Images, int] | None:
        """The frame nearest to `offset_periods` before `stamp_ns`, and how many periods before it really is.

        When the history does not reach that far back, this is its oldest frame. Never the current frame: only frames
        at least half a period before `stamp_ns` count, and None says that there is none.
        """
        target_ns = stamp_ns - offset_periods * self._period_ns
        newest_allowed_ns = stamp_ns - (self._period_ns + 1) // 2
        best = None
        for frame in self._frames:
            if frame[0] > newest_allowed_ns:
                break
            if best is None or abs(frame[0] - target_ns) < abs(best[0] - target_ns):
                best = frame
        if best is None:
            return None
        return best[1], (stamp_ns - best[0] + self._period_ns // 2) // self._period_ns

    def reset(self) -> None:
        self._frames.clear()

    def _broken(self, newest_ns: int | None, stamp_ns: int) -> bool:
        if newest_ns is None:
            return False
        gap = stamp_ns - newest_ns > longest_gap_ns(self._period_ns)
        return gap or clock_jumped_back(newest_ns, stamp_ns, self._period_ns)

    def _forget_old(self) -> None:
        if not self._frames:
            return
        # Half a period of slack keeps the oldest wanted frame in spite of jitter.
        oldest_ns = self._frames[-1][0] - self._capacity_periods * self._period_ns - self._period_ns // 2
        while self._frames[0][0] < oldest_ns:
            self._frames.popleft()
