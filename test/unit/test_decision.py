"""Non-inferiority: the score test against brute force, the sequential test's error and power by simulation."""

import math

import numpy as np
import pytest

from specprune_ros.eval import decision
from specprune_ros.eval.decision import Sequential, Verdict, fixed, sequential
from specprune_ros.eval.exact import clopper_pearson, exact_p, lower_limit, tango_score


def brute_score(b, c, n, d):
    """The likeliest multinomial with difference d, by search, and the standardised distance from it."""
    q = np.linspace(max(0.0, -d), (1 - d) / 2, 400_001)  # P(only the reference succeeds); P(only the variant) = q + d
    p12, p21, rest = q + d, q, 1 - 2 * q - d
    with np.errstate(divide="ignore", invalid="ignore"):
        log = sum(np.where(k > 0, k * np.log(p), 0.0) for k, p in ((b, p12), (c, p21), (n - b - c, rest)))
    best = q[np.nanargmax(np.where(np.isfinite(log), log, -np.inf))]
    return (b - c - n * d) / math.sqrt(n * (2 * best + d * (1 - d)))


@pytest.mark.parametrize("counts", [(3, 5, 200), (0, 1, 100), (12, 2, 50), (7, 7, 40), (0, 9, 60)])
@pytest.mark.parametrize("difference", [-0.02, -0.1, 0.05])
def test_the_score_is_that_of_the_likeliest_table(counts, difference):
    assert tango_score(*counts, difference) == pytest.approx(brute_score(*counts, difference), abs=2e-3)


def test_verdicts():
    assert fixed(2, 2, 400).verdict is Verdict.PROVEN
    assert fixed(0, 30, 200).verdict is Verdict.WORSE
    assert fixed(3, 4, 40).verdict is Verdict.NOT_PROVEN
    assert fixed(0, 0, 100).verdict is Verdict.NOT_PROVEN, "a hundred equal pairs cannot exclude two points"
    assert fixed(0, 0, 300).verdict is Verdict.PROVEN
    assert fixed(0, 8, 200, margin=0.1).verdict is Verdict.PROVEN
    got = fixed(1, 3, 320)
    assert (got.pairs, got.margin, got.alpha) == (320, 0.02, 0.05)
    assert got.evidence_for + got.evidence_against >= 1.0, "both hold the observed table"


@pytest.mark.parametrize(("discordant", "pairs", "margin"), [(0.02, 160, 0.02), (0.05, 100, 0.05), (0.25, 40, 0.1)])
def test_the_fixed_test_is_wrong_no_more_often_than_it_says(discordant, pairs, margin):
    """On the edge of the margin "proven" is an error. All tables are counted, with their probabilities."""
    c, b = (discordant + margin) / 2, (discordant - margin) / 2
    proven = 0.0
    for x in range(pairs + 1):
        for y in range(pairs + 1 - x):
            probability = math.comb(pairs, x + y) * math.comb(x + y, x) * (1 - b - c) ** (pairs - x - y)
            probability *= b**x * c**y
            if probability > 1e-6 and fixed(x, y, pairs, margin).verdict is Verdict.PROVEN:
                proven += probability
    assert 0.01 < proven <= 0.05


def test_without_disagreements_the_exact_p_is_the_chance_of_none():
    """Nothing but the share of disagreements is unknown, and it is at least the margin."""
    assert exact_p(0, 0, 149, -0.02) == pytest.approx(0.98**149, abs=2e-4)
    assert fixed(0, 0, 149).verdict is Verdict.PROVEN
    assert fixed(0, 0, 147).verdict is Verdict.NOT_PROVEN


@pytest.mark.parametrize("counts", [(1, 2, 30), (0, 4, 25), (3, 3, 20)])
def test_the_exact_p_is_that_of_all_tables_counted_one_by_one(counts):
    b, c, n = counts
    difference, observed = -0.1, tango_score(*counts, -0.1)
    low, high = clopper_pearson(b + c, n, 1e-4)
    worst = 0.0
    for share in np.linspace(max(low, 0.1), high, 300):
        p, q = (share + difference) / 2, (share - difference) / 2
        worst = max(
            worst,
            sum(
                math.comb(n, x + y) * math.comb(x + y, x) * p**x * q**y * (1 - p - q) ** (n - x - y)
                for x in range(n + 1)
                for y in range(n + 1 - x)
                if tango_score(x, y, n, difference) >= observed - 1e-9
            ),
        )
    assert exact_p(b, c, n, difference) == pytest.approx(worst + 1e-4, abs=2e-3)


@pytest.mark.parametrize(("disagreements", "pairs"), [(8, 100), (40, 60)])
def test_the_score_grows_with_the_wins_of_the_variant(disagreements, pairs):
    scores = [tango_score(b, disagreements - b, pairs, -0.02) for b in range(disagreements + 1)]
    assert scores == sorted(scores)


def test_the_lower_limit_is_where_the_verdict_turns():
    limit = lower_limit(1, 3, 320, 0.05)
    assert -0.03 < limit < -0.01
    assert fixed(1, 3, 320, margin=-limit + 0.001).verdict is Verdict.PROVEN
    assert fixed(1, 3, 320, margin=-limit - 0.001).verdict is Verdict.NOT_PROVEN


@pytest.mark.parametrize("counts", [(0, 0, 1), (0, 0, 6), (1, 0, 20), (30, 0, 200), (5, 20, 60)])
def test_the_lower_limit_is_right_for_few_pairs_and_for_one_sided_ones(counts):
    limit = lower_limit(*counts, 0.05)
    assert exact_p(*counts, limit) <= 0.05 < exact_p(*counts, limit + 2e-3)


def test_where_every_pair_is_lost_nothing_is_excluded():
    assert lower_limit(0, 3, 3, 0.05) == pytest.approx(-1.0, abs=1e-3)


def test_the_exact_interval_of_a_share_is_the_textbook_one():
    assert clopper_pearson(0, 20, 0.05) == pytest.approx((0.0, 0.1684), abs=1e-4)
    assert clopper_pearson(3, 20, 0.05) == pytest.approx((0.0321, 0.3789), abs=1e-4)


def outcomes(rng, b, c, count):
    draws = rng.random(count)
    return [(bool(x < b or x >= b + c), bool(x >= b)) for x in draws]


@pytest.mark.slow
@pytest.mark.parametrize("discordant", [0.02, 0.05, 0.2])
def test_the_sequential_test_is_hardly_ever_wrong_however_often_it_looks(discordant):
    """At the edge of the margin, where both verdicts are errors, over 2,000 looks: each at most alpha."""
    c, b = (discordant + 0.02) / 2, (discordant - 0.02) / 2
    rng = np.random.default_rng(1)
    verdicts = [sequential(outcomes(rng, b, c, 2000)).verdict for _ in range(300)]
    for wrong in (Verdict.PROVEN, Verdict.WORSE):
        assert np.mean([verdict is wrong for verdict in verdicts]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_the_sequential_test_decides_in_time_where_there_is_something_to_decide():
    rng = np.random.default_rng(2)
    equal = [sequential(outcomes(rng, 0.01, 0.01, 3000)) for _ in range(60)]
    assert np.mean([one.verdict is Verdict.PROVEN for one in equal]) >= 0.9
    assert np.median([one.pairs for one in equal]) < 700
    bad = [sequential(outcomes(rng, 0.01, 0.2, 3000)) for _ in range(60)]
    assert all(one.verdict is Verdict.WORSE for one in bad)
    assert np.median([one.pairs for one in bad]) < 80


def test_equal_runs_are_proven_after_a_few_hundred_pairs():
    assert 150 <= sequential([(True, True)] * 1000).pairs <= 250


def test_a_decision_stands():
    test = Sequential()
    for _ in range(300):
        test.add(True, True)
    assert test.decision().verdict is Verdict.PROVEN
    for _ in range(30):
        assert test.add(False, True).verdict is Verdict.PROVEN
    assert test.decision().pairs == 330


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: fixed(3, 4, 5), "their sum <= pairs"),
        (lambda: fixed(0, 0, 10, margin=0.0), "margin is 0.0; give a share"),
        (lambda: Sequential(alpha=0.7), "alpha is 0.7; give an error probability"),
    ],
)
def test_wrong_numbers_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_methods_are_cited():
    assert "Tango" in decision.FIXED_METHOD and "Waudby-Smith" in decision.SEQUENTIAL_METHOD
