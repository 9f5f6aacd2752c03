"""Statistics of success counts, single and paired. The intervals are also valid for few episodes and for shares near
0 % and 100 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""97.5 % quantile of the standard normal: two-sided 95 %."""

PAIRED_METHOD = "Newcombe 1998 method 10 (Wilson score limits joined by the continuity-corrected phi)"


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval: the p with |successes / trials - p| <= z sqrt(p (1 - p) / trials)."""
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"wilson: {successes} successes in {trials} trials; need 0 <= successes <= trials, trials > 0")
    share, shrink = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test: without a difference, a discordant pair favours either side with
    probability 1/2."""
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**discordant)


@dataclass(frozen=True)
class PairedResult:
    """Success of `first` minus success of `second` on the same seeds."""

    difference: float
    ci95: tuple[float, float]
    mcnemar_p: float
    both: int
    only_first: int
    only_second: int
    neither: int


def paired(first: Sequence[bool], second: Sequence[bool]) -> PairedResult:
    """Compare two runs over the same seeds, episode by episode."""
    if len(first) != len(second) or not first:
        raise ValueError(f"paired: {len(first)} against {len(second)} episodes; both need the same, non-empty seeds")
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    both, only_first = pairs.count((True, True)), pairs.count((True, False))
    only_second, neither = pairs.count((False, True)), pairs.count((False, False))
    return PairedResult(
        difference=(only_first - only_second) / len(pairs),
        ci95=paired_interval(both, only_first, only_second, neither),
        mcnemar_p=mcnemar_p(only_first, only_second),
        both=both,
        only_first=only_first,
        only_second=only_second,
        neither=neither,
    )


def paired_interval(both: int, only_first: int, only_second: int, neither: int, z: float = Z95) -> tuple[float, float]:
    """Newcombe's method 10 for p1 - p2. Without discordant pairs Wald's interval has no width; this one does."""
    trials = both + only_first + only_second + neither
    p1, p2 = (both + only_first) / trials, (both + only_second) / trials
    low1, high1 = wilson(both + only_first, trials, z)
    low2, high2 = wilson(both + only_second, trials, z)
    phi = _phi(both, only_first, only_second, neither)
    below = _joined(p1 - low1, high2 - p2, phi)
    above = _joined(high1 - p1, p2 - low2, phi)
    return max(-1.0, p1 - p2 - below), min(1.0, p1 - p2 + above)


def _joined(a: float, b: float, phi: float) -> float:
    # a^2 + b^2 - 2 phi a b is never negative for |phi| <= 1 but may round to -1e-19
    return math.sqrt(max(0.0, a * a + b * b - 2 * phi * a * b))


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Correlation of the pairs; a positive one is moved towards 0 by the continuity correction n / 2."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only_first * only_second
    if product > 0:
        product = max(0.0, product - (both + only_first + only_second + neither) / 2)
    return product / math.sqrt(margins)


def percentiles_ms(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99; zeros when nothing was measured."""
    return percentiles(values_ms, (50, 95, 99))


def percentiles(values: Sequence[float], ranks: Sequence[int]) -> dict[str, float]:
    """By linear interpolation, e.g. {"p50": 3.0}; zeros when nothing was measured."""
    found = np.percentile(values, ranks) if len(values) else np.zeros(len(ranks))
    return {f"p{rank}": round(float(value), 3) for rank, value in zip(ranks, found, strict=True)}


def median(values: Sequence[float]) -> float:
    """Middle value; 0 when nothing was measured."""
    return float(np.median(values)) if len(values) else 0.0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 when nothing was measured."""
    return float(np.mean(values)) if len(values) else 0.0
