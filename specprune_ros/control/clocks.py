"""Clocks that must only run forward while the arm is watched."""

from __future__ import annotations

from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.types import NANOSECONDS


class ClockWatch:
    """Remembers what several clocks have shown last, over all resets."""

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self._shown_ns: dict[str, int] = {}

    def note(self, name: str, stamp_ns: int) -> str | None:
        """By how much the clock of this name went back, in words; None while it runs forward. Jitter, and messages that
        come out of order, are no step back (`observe.gaps`)."""
        before_ns = self._shown_ns.get(name, stamp_ns)
        rewound = clock_jumped_back(before_ns, stamp_ns, self._period_ns)
        if rewound or stamp_ns > before_ns:
            self._shown_ns[name] = stamp_ns
        self._shown_ns.setdefault(name, stamp_ns)
        return f"{name} went back by {(before_ns - stamp_ns) / NANOSECONDS:.2f} s" if rewound else None
