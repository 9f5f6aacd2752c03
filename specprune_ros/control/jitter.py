"""How steady the control periods are."""

from __future__ import annotations

import numpy as np

KEPT = 1 << 15
"""Periods looked back on: ten minutes at 50 Hz."""


class Jitter:
    """Deviation of the time between two ticks from the control period."""

    def __init__(self, period_s: float):
        self._period_s = period_s
        self._deviations_s = np.zeros(KEPT)
        self._count = 0
        self._last_s: float | None = None

    def tick(self, now_s: float) -> None:
        """A control period begins now, on a clock that only runs forward."""
        if self._last_s is not None:
            self._deviations_s[self._count % KEPT] = abs(now_s - self._last_s - self._period_s)
            self._count += 1
        self._last_s = now_s

    def summary_ms(self) -> dict[str, float]:
        """p50, p99, max [ms] and the number of periods; empty before the second tick."""
        if not self._count:
            return {}
        kept = self._deviations_s[: min(self._count, KEPT)] * 1e3
        p50, p99 = np.percentile(kept, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": float(kept.max()), "periods": float(self._count)}
