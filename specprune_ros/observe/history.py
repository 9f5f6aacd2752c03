"""Recent frames, so that the current one can be compared with an earlier one (docs/explanation/method.md, the
reference frame)."""

from __future__ import annotations

from collections import deque

import numpy as np

from specprune_ros.observe.gaps import interruption

Images = tuple[np.ndarray, ...]


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
        """How far back the history reaches [control periods]."""
        return self._capacity_periods

    def resize(self, capacity_periods: int) -> None:
        """Change how far back the history reaches."""
        self._capacity_periods = capacity_periods
        self._forget_old()

    def push(self, stamp_ns: int, images: Images, timeout_s: float) -> str | None:
        """Add the newest frame; why the history was emptied first, when it was (`observe.gaps`).

        A repeated or slightly older stamp is not a new frame and is ignored. timeout_s: control.observation_timeout.
        """
        newest_ns = self._frames[-1][0] if self._frames else None
        broken = interruption(newest_ns, stamp_ns, self._period_ns, timeout_s)
        if broken:
            self.reset()
        elif newest_ns is not None and stamp_ns <= newest_ns:
            return None
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
        """Forget all frames."""
        self._frames.clear()

    def _forget_old(self) -> None:
        if not self._frames:
            return
        # Half a period of slack keeps the oldest wanted frame in spite of jitter.
        oldest_ns = self._frames[-1][0] - self._capacity_periods * self._period_ns - self._period_ns // 2
        while self._frames[0][0] < oldest_ns:
            self._frames.popleft()
