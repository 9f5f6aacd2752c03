"""Exact tests of a paired difference: no approximation that only holds for many pairs or many disagreements.

The counts of pairs won by one of the two alone are multinomial. Given the difference D that is tested, one unknown is
left, the share of disagreements. The p-value is the largest over all shares that the data leave possible, plus the
probability that the truth is none of these (Berger and Boos 1994). How far a table is from D is told by Tango's score
(Tango 1998; the exact test ordered by it: Lloyd and Moldovan 2008)."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

BEYOND = 1e-4
"""The probability that the share of disagreements lies outside the interval that is searched."""
SHARES = 48
"""How many shares of it are tried."""
NEGLIGIBLE = 1e-12


def tango_score(only_variant: int, only_reference: int, pairs: int, difference: float) -> float:
    """(b - c - n D) / sqrt(n (2 q + D (1 - D))): how far the counts are from a true difference D, in standard
    deviations.

    q is the likeliest probability that only the reference succeeds, given that the difference is D (Tango 1998,
    equation 8)."""
    n, b, c, d = pairs, only_variant, only_reference, difference
    a2 = 2 * n
    a1 = -b - c + (2 * n - b + c) * d
    a0 = -c * d * (1 - d)
    q = (math.sqrt(max(0.0, a1 * a1 - 4 * a2 * a0)) - a1) / (2 * a2)
    variance = n * (2 * q + d * (1 - d))
    excess = b - c - n * d
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


@lru_cache(maxsize=4096)
def exact_p(only_variant: int, only_reference: int, pairs: int, difference: float) -> float:
    """The probability, at worst, of counts that speak at least as much for a larger difference than `difference`,
    where this is the true one."""
    observed = tango_score(only_variant, only_reference, pairs, difference)
    low, high = clopper_pearson(only_variant + only_reference, pairs, BEYOND)
    low, high = max(low, abs(difference)), max(high, abs(difference))
    least: dict[int, int] = {}
    worst = max(_tail(share, pairs, difference, observed, least) for share in np.linspace(low, min(high, 1.0), SHARES))
    return min(1.0, worst + BEYOND)


def lower_limit(only_variant: int, only_reference: int, pairs: int, alpha: float) -> float:
    """The difference that is exceeded at one-sided 1 - alpha: the smallest that the test does not reject, to 1e-4."""
    b, c, n = only_variant, only_reference, pairs
    step, quantile = 0.004, NormalDist().inv_cdf(1.0 - alpha)
    near = 2.0 * _root(lambda half: -tango_score(b, c, n, 2.0 * half - 1.0), -quantile) - 1.0  # right for many pairs
    low, high = near - step, near + step
    while low > -1.0 and exact_p(b, c, n, low) > alpha:
        low, high, step = low - 2 * step, low, 2 * step
    while high < 1.0 and exact_p(b, c, n, high) <= alpha:
        low, high, step = high, high + 2 * step, 2 * step
    low, high = max(low, -1.0), min(high, 1.0)
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if exact_p(b, c, n, middle) <= alpha else (low, middle)
    return low


def clopper_pearson(successes: int, trials: int, error: float) -> tuple[float, float]:
    """The exact two-sided interval of a share."""
    low = 0.0 if successes == 0 else _root(lambda p: 1.0 - _below(successes - 1, trials, p), error / 2)
    high = 1.0 if successes == trials else _root(lambda p: 1.0 - _below(successes, trials, p), 1.0 - error / 2)
    return low, high


def _tail(share: float, pairs: int, difference: float, observed: float, least: dict[int, int]) -> float:
    """P(score >= observed) where the two disagree in `share` of the pairs. least: b from which on a number of
    disagreements counts, as far as known."""
    win = min(1.0, max(0.0, (1.0 + difference / share) / 2)) if share else 0.5  # of the variant, given a disagreement
    weights = _binomial(pairs, share)
    total = 0.0
    for disagreements in np.flatnonzero(weights > NEGLIGIBLE).tolist():
        if disagreements not in least:
            least[disagreements] = _least(disagreements, pairs, difference, observed)
        total += weights[disagreements] * _binomial(disagreements, win)[least[disagreements] :].sum()
    return float(total)


def _least(disagreements: int, pairs: int, difference: float, observed: float) -> int:
    """The smallest b of so many disagreements with a score of at least `observed`; the score grows with b."""
    low, high = 0, disagreements + 1
    while low < high:
        middle = (low + high) // 2
        if tango_score(middle, disagreements - middle, pairs, difference) >= observed - 1e-9:
            high = middle
        else:
            low = middle + 1
    return low


def _binomial(trials: int, share: float) -> np.ndarray:
    """(trials + 1,) probabilities of 0 .. trials successes."""
    if share <= 0.0 or share >= 1.0:
        probabilities = np.zeros(trials + 1)
        probabilities[trials if share >= 1.0 else 0] = 1.0
        return probabilities
    k = np.arange(trials + 1)
    return np.exp(_log_choose(trials) + k * math.log(share) + (trials - k) * math.log1p(-share))


@lru_cache(maxsize=4096)
def _log_choose(trials: int) -> np.ndarray:
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    return factorials[-1] - factorials - factorials[::-1]


def _below(successes: int, trials: int, share: float) -> float:
    """P(at most so many)."""
    return float(_binomial(trials, share)[: successes + 1].sum())


def _root(rising, value: float) -> float:
    """Where a rising function takes a value between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
