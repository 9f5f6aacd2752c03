"""Statistics against brute force and published values."""

import itertools
import math
import random

import numpy as np
import pytest

from specprune_ros.eval import stats


def bisected(f, low, high):
    """Root of an increasing-then-positive f on [low, high] by bisection."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("successes, trials", [(0, 5), (5, 5), (1, 10), (97, 100), (188, 200), (200, 200)])
def test_wilson_limits_are_where_the_score_test_turns(successes, trials):
    share = successes / trials

    def excess(p):  # negative while p is inside the interval
        return abs(p - share) - stats.Z95 * math.sqrt(p * (1 - p) / trials)

    low, high = stats.wilson(successes, trials)
    assert low == pytest.approx(bisected(lambda p: -excess(p), 1e-12, share) if successes else 0.0, abs=1e-9)
    assert high == pytest.approx(bisected(excess, share, 1 - 1e-12) if successes < trials else 1.0, abs=1e-9)


def test_wilson_of_a_textbook_example():
    assert stats.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, method 3


@pytest.mark.parametrize("successes, trials", [(3, 2), (-1, 4), (0, 0)])
def test_wilson_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="need 0 <= successes <= trials"):
        stats.wilson(successes, trials)


@pytest.mark.parametrize("only_first, only_second", [(0, 0), (1, 0), (0, 6), (2, 9), (5, 5), (7, 4)])
def test_mcnemar_counts_all_ways_the_coins_could_have_fallen(only_first, only_second):
    n, seen = only_first + only_second, abs(only_first - only_second)
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
    at_least_as_far = sum(abs(heads - (n - heads)) >= seen for heads in falls)
    assert stats.mcnemar_p(only_first, only_second) == pytest.approx(at_least_as_far / 2**n)


def test_paired_interval_of_the_published_example():
    low, high = stats.paired_interval(36, 12, 2, 0)  # Newcombe 1998, paired data, method 10
    assert (low, high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_paired_interval_is_antisymmetric_and_contains_the_difference():
    rng = random.Random(1)
    for _ in range(200):
        both, first, second, neither = (rng.randrange(12) for _ in range(4))
        if both + first + second + neither == 0:
            continue
        low, high = stats.paired_interval(both, first, second, neither)
        difference = (first - second) / (both + first + second + neither)
        assert -1 <= low <= difference <= high <= 1
        assert stats.paired_interval(both, second, first, neither) == pytest.approx((-high, -low))


@pytest.mark.parametrize("shares", [(0.9, 0.04, 0.02, 0.04), (0.5, 0.2, 0.1, 0.2), (0.96, 0.02, 0.02, 0.0)])
def test_paired_interval_covers_the_truth_about_as_often_as_it_says(shares):
    rng = np.random.default_rng(0)
    truth = shares[1] - shares[2]
    tables = rng.multinomial(60, shares, size=2000)
    covered = [low <= truth <= high for low, high in (stats.paired_interval(*map(int, table)) for table in tables)]
    assert np.mean(covered) >= 0.93


def test_paired_interval_does_not_collapse_without_disagreement():
    low, high = stats.paired_interval(200, 0, 0, 0)
    assert low < -0.01 and high > 0.01


def test_paired_counts_episode_by_episode():
    result = stats.paired([True, True, False, False, True], [True, False, True, False, False])
    assert (result.both, result.only_first, result.only_second, result.neither) == (1, 2, 1, 1)
    assert result.difference == pytest.approx(0.2)
    assert result.mcnemar_p == 1.0
    assert result.ci95 == stats.paired_interval(1, 2, 1, 1)


def test_paired_needs_the_same_seeds():
    with pytest.raises(ValueError, match="3 against 2 episodes"):
        stats.paired([True] * 3, [True] * 2)


def test_percentiles():
    assert stats.percentiles_ms(list(range(101))) == {"p50": 50, "p95": 95, "p99": 99}
    assert stats.percentiles_ms([]) == {"p50": 0, "p95": 0, "p99": 0}
