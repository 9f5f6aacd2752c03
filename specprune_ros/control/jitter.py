"""How steady the control periods are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHORTEST_S, RESOLUTION, BINS = 1e-6, 1.01, 2000
"""Deviations are counted in bins from 1 us on, each 1 % wider than the one before: the last begin at minutes."""

GAP_PERIODS = 3
"""A longer time between two ticks is a gap."""


@dataclass(frozen=True)
class Steadiness:
    """Deviations of the control periods since the first tick [ms]; gaps: periods longer than GAP_PERIODS periods."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    periods: int = 0
    gaps: int = 0


class Jitter:
    """Deviation of the time between two ticks from the control period, counted so that neither a tick nor a summary
    costs more the longer it runs. The quantiles are at most 1 % too high; the maximum is exact."""

    def __init__(self, period_s: float):
        self._period_s = period_s
        self._counts = np.zeros(BINS, np.int64)
        self._longest_s = 0.0
        self._gaps = 0
        self._last_ns: int | None = None

    def tick(self, now_ns: int) -> None:
        """A control period begins now, on the clock that the periods are meant to follow. Where that clock was set
        back, no period is measured."""
        last_ns, self._last_ns = self._last_ns, now_ns
        if last_ns is None or now_ns < last_ns:
            return
        interval_s = 1e-9 * (now_ns - last_ns)
        deviation_s = abs(interval_s - self._period_s)
        self._counts[_bin(deviation_s)] += 1
        self._longest_s = max(self._longest_s, deviation_s)
        self._gaps += interval_s > GAP_PERIODS * self._period_s

    def summary(self) -> Steadiness:
        """The deviations counted so far [ms]; all zero before the second tick."""
        upto = np.cumsum(self._counts)
        count = int(upto[-1])
        if not count:
            return Steadiness()

        def quantile_ms(q: float) -> float:
            """The smallest deviation that a share q of the periods does not exceed, rounded up to its bin."""
            return 1e3 * min(_upper_s(int(np.searchsorted(upto, q * count))), self._longest_s)

        return Steadiness(quantile_ms(0.5), quantile_ms(0.99), 1e3 * self._longest_s, count, self._gaps)


def _bin(deviation_s: float) -> int:
    if deviation_s <= SHORTEST_S:
        return 0
    return min(math.ceil(math.log(deviation_s / SHORTEST_S) / math.log(RESOLUTION)), BINS - 1)


def _upper_s(index: int) -> float:
    """Upper edge of a bin; the last has none."""
    return SHORTEST_S * RESOLUTION**index if index < BINS - 1 else math.inf
