"""How often a process that keeps dying is started again, and how long a failing model is left alone."""

from __future__ import annotations

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 10.0
"""Before the first new start; doubled for each further one in a row, up to the longest."""

HEALTHY_S = 60.0
"""A process that has been ready for this long [s] is healthy: earlier deaths no longer count as being in a row with its
own."""

MOST_FAILURES = 10
"""Number of failed inferences in a row after which the process counts as broken. A lost GPU, for example, stays lost
until the process is replaced."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 1.0
"""Pause after a failed inference: doubled for each further one in a row, up to the longest."""


class Restarts:
    """Counts the new starts in a row. `now_s` is a clock that only runs forward."""

    def __init__(self, most: int):
        self.most = most
        self.count = 0
        """in a row"""
        self.total = 0
        self._ready_s: float | None = None

    def ready(self, now_s: float) -> None:
        """The process can be asked from now on."""
        self._ready_s = now_s

    def died(self, now_s: float) -> float | None:
        """How long to wait before the next start [s]; None when there is to be none."""
        if self._ready_s is not None and now_s - self._ready_s >= HEALTHY_S:
            self.count = 0
        self._ready_s = None
        if self.count >= self.most:
            return None
        self.count += 1
        self.total += 1
        return min(FIRST_WAIT_S * 2.0 ** (self.count - 1), LONGEST_WAIT_S)


class Failures:
    """Failed inferences in a row, and when to try again."""

    def __init__(self) -> None:
        self.count = 0
        self._next_s = -float("inf")

    def good(self) -> None:
        """An inference succeeded: the row of failures is over."""
        self.count = 0

    def bad(self, now_s: float) -> bool:
        """One more failed; True when it was one too many."""
        self.count += 1
        self._next_s = now_s + min(FIRST_RETRY_S * 2.0 ** (self.count - 1), LONGEST_RETRY_S)
        return self.count >= MOST_FAILURES

    def over(self, now_s: float) -> bool:
        """The pause after the last one is over."""
        return not self.count or now_s >= self._next_s
