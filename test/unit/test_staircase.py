"""Budgets snapped to a machine's staircase: never fewer tokens, never more time than what counts as free."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Config
from specprune_ros.prune.budgets import budget, layer_lengths, schedule
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.staircase import (
    FREE_SHARE,
    GAIN_SHARE,
    LEVELS,
    Staircase,
    decoder_seconds,
    pointless_from,
    snapped_budget,
)
from specprune_ros.types import Mode

MODES = (Mode.COARSE, Mode.FINE)
LAYOUT = Layout(views=2, patches=256, proprio=1, prompt=34, task=(5, 20), placeholders=56)
OTHERS = LAYOUT.length - LAYOUT.visual
PAPER = Config().pruning

H200_US = (
    "118.1 120.7 123.6 125.7 125.1 128.9 136.7 137.6 161.3 150.8 162.6 187.5 157.3 181.5 184.6 185.2 195.9 204.4 213.2 "
    "210.0 218.7 239.1 269.8 238.9 265.8 262.8 264.7 275.2 276.9 292.6 311.4 308.7 325.7 330.7 337.2 333.9 340.9"
)
"""One layer's products of the 7B model in bf16 on an H200 at 64, 80, ... 640 rows, as measured [us]."""


def in_tiles(seconds_by_rows):
    """Every count of rows takes as long as the next one listed."""
    stairs, low = {}, 0
    for rows, seconds in sorted(seconds_by_rows.items()):
        stairs |= {low + 1: seconds, rows: seconds}
        low = rows
    return Staircase(tuple(sorted(stairs)), tuple(stairs[rows] for rows in sorted(stairs)))


H200 = in_tiles({64 + 16 * i: 1e-6 * float(us) for i, us in enumerate(H200_US.split())})
LINE = Staircase((1, 640), (1e-6, 640e-6))


def brute_force(staircase, rows, most, step):
    """Counts one by one, with times by hand: between two measured counts on the line through them."""

    def seconds(count):
        known = list(zip(staircase.rows, staircase.seconds, strict=True))
        if count <= known[0][0]:
            return known[0][1]
        for (low, fast), (high, slow) in zip(known, known[1:], strict=False):
            if count <= high:
                return fast + (slow - fast) * (count - low) / (high - low)
        return known[-1][1] * count / known[-1][0]

    counts = range(rows, max(rows, most) + 1, step)
    least = min(seconds(count) for count in counts)
    # Times that equal the bound up to rounding count either way.
    return {max(c for c in counts if seconds(c) <= least * (1 + FREE_SHARE + slack)) for slack in (-1e-9, 0.0, 1e-9)}


@st.composite
def staircases(draw):
    rows = sorted(draw(st.sets(st.integers(1, 640), min_size=1, max_size=24)))
    seconds = draw(st.lists(st.floats(1e-5, 1e-2), min_size=len(rows), max_size=len(rows)))
    return Staircase(tuple(rows), tuple(seconds))


@given(staircases(), st.integers(1, 700), st.integers(0, 300), st.sampled_from([1, 2, 3]))
def test_snapping_is_what_trying_every_count_finds(staircase, rows, room, step):
    assert staircase.snapped(rows, rows + room, step) in brute_force(staircase, rows, rows + room, step)


@given(staircases(), st.integers(1, 600), st.integers(0, 50), st.integers(0, 200), st.integers(0, 50))
def test_more_rows_or_more_room_never_snap_to_fewer(staircase, rows, more, room, more_room):
    most = rows + more + room
    snapped = staircase.snapped(rows, most)
    assert rows <= snapped <= most
    assert staircase.snapped(rows + more, most) >= snapped and staircase.snapped(rows, most + more_room) >= snapped
    assert staircase.seconds_at([snapped])[0] <= (1 + FREE_SHARE) * staircase.seconds_at([rows])[0] * (1 + 1e-9)


def test_on_the_h200_240_rows_become_256_which_are_cheaper_unless_fewer_are_there():
    assert H200.snapped(240, 605) == 256 and H200.snapped(225, 605) == 256
    assert H200.snapped(230, 240) == 240
    assert H200.seconds_at([240, 256]) == pytest.approx([187.5e-6, 157.3e-6])


def test_a_straight_line_gives_hardly_anything_away():
    assert LINE.snapped(300, 600) == 306
    assert Staircase((10, 20, 30), (1.0, 5.0, 3.0)).straightened().rows == (10, 30)
    noisy = Staircase(tuple(range(32, 640, 16)), tuple((r + (r // 16) % 3) * 1e-6 for r in range(32, 640, 16)))
    assert noisy.straightened().seconds_at([100, 500]) == pytest.approx([101e-6, 501e-6], rel=0.01)
    falling = Staircase((10, 20, 30), (3.0, 2.0, 1.0)).straightened()
    assert falling.seconds == (2.0, 2.0) and Staircase((5,), (1.0,)).straightened().rows == (5,)


def test_times_outside_what_was_measured():
    stairs = Staircase((32, 64), (2e-3, 3e-3))
    np.testing.assert_allclose(stairs.seconds_at([1, 32, 48, 64, 128]), [2e-3, 2e-3, 2.5e-3, 3e-3, 6e-3])


@pytest.mark.parametrize(
    "rows, seconds",
    [((), ()), ((1, 2), (1.0,)), ((2, 1), (1.0, 1.0)), ((0, 1), (1.0, 1.0)), ((1,), (0.0,)), ((1,), (float("nan"),))],
)
def test_what_is_no_staircase_is_refused(rows, seconds):
    with pytest.raises(ValueError, match="a staircase needs"):
        Staircase(rows, seconds)


prunings = st.builds(
    lambda level, alpha, ratio, least, static, dynamic: replace(
        PAPER,
        aggressiveness=level,
        static=replace(PAPER.static, alpha=alpha, enabled=static),
        dynamic=replace(PAPER.dynamic, keep_ratio=ratio, min_tokens=least, enabled=dynamic),
    ),
    st.floats(0, 1),
    st.floats(0, 4),
    st.floats(0.1, 1.0),
    st.integers(1, 600),
    st.booleans(),
    st.booleans(),
)


@given(prunings, staircases(), st.sampled_from(MODES), st.sampled_from([1, 2, 3]), st.sampled_from([6, 12, 32]))
def test_a_snapped_budget_keeps_the_invariants_and_at_least_the_papers_tokens(pruning, staircase, mode, views, depth):
    layout = replace(LAYOUT, views=views, patches=64)
    paper = budget(pruning, mode, views, 64, depth)
    snapped = snapped_budget(paper, pruning, layout, staircase)
    assert paper.static_keep <= snapped.static_keep <= 64
    left = (views * snapped.static_keep, *snapped.dynamic_keep)
    assert all(more >= less for more, less in zip(left, left[1:], strict=False))
    assert len(snapped.dynamic_keep) == len(schedule(depth).dynamic)
    assert all(s >= p for s, p in zip(snapped.dynamic_keep, paper.dynamic_keep, strict=True))
    assert (snapped.k_global, snapped.k_dynamic, snapped.k_local) == (paper.k_global, paper.k_dynamic, paper.k_local)
    if not pruning.dynamic.enabled:
        assert set(snapped.dynamic_keep) == {left[0]}
    before, after = (
        staircase.seconds_at(layer_lengths(layout, depth, pruning.static, pruning.dynamic, counts))
        for counts in (paper, snapped)
    )
    assert (after <= before * (1 + FREE_SHARE) * (1 + 1e-9)).all(), "no layer takes longer than what counts as free"


@given(prunings, st.floats(0, 1), staircases())
def test_snapped_tokens_never_grow_with_aggressiveness_and_fine_keeps_more(pruning, level, staircase):
    soft, hard = sorted((pruning.aggressiveness, level))

    def left(aggressiveness, mode):
        asked = replace(pruning, aggressiveness=aggressiveness)
        counts = snapped_budget(budget(asked, mode, 2, 256, 12), asked, LAYOUT, staircase)
        return np.array((2 * counts.static_keep, *counts.dynamic_keep))

    for mode in MODES:
        assert (left(hard, mode) <= left(soft, mode)).all()
    assert (left(hard, Mode.FINE) >= left(hard, Mode.COARSE)).all()


def test_where_rows_cost_nothing_all_tokens_are_kept():
    flat = Staircase((1, 640), (1e-3, 1e-3))
    counts = snapped_budget(budget(PAPER, Mode.COARSE, 2, 256, 32), PAPER, LAYOUT, flat)
    assert counts.static_keep == 256 and set(counts.dynamic_keep) == {512}
    assert pointless_from(PAPER, LAYOUT, 32, flat) == 0.0


def test_from_where_on_harder_pruning_is_pointless():
    floor = OTHERS + 300
    stairs = Staircase((1, floor, 640), (1e-3, 1e-3, 2e-3))
    level = pointless_from(PAPER, LAYOUT, 32, stairs)
    assert level in LEVELS and 0.0 < level < 1.0

    def at(each):
        asked = replace(PAPER, aggressiveness=each)
        return [decoder_seconds(asked, mode, LAYOUT, 32, stairs) for mode in MODES]

    def saves(each):
        best = np.min([at(harder) for harder in LEVELS if harder >= each], axis=0)
        return bool((1.0 - best / at(each) >= GAIN_SHARE).any())

    assert [saves(each) for each in LEVELS] == [each < level for each in LEVELS]
    assert pointless_from(PAPER, LAYOUT, 32, LINE) >= 0.9
    off = replace(PAPER, static=replace(PAPER.static, enabled=False), dynamic=replace(PAPER.dynamic, enabled=False))
    assert pointless_from(off, LAYOUT, 32, LINE) == 0.0


def test_predicted_time_is_the_sum_over_the_layers():
    counts = budget(PAPER, Mode.COARSE, 2, 256, 32)
    snapped = snapped_budget(counts, PAPER, LAYOUT, H200)
    assert (2 * snapped.static_keep, *snapped.dynamic_keep) == (194, 163, 163, 163, 115), "256 - 93 is 163"
    present = [512] * 2 + [194] * 3 + [163] * 15 + [115] * 12
    by_hand = sum(H200.seconds_at([OTHERS + n])[0] for n in present)
    assert decoder_seconds(PAPER, Mode.COARSE, LAYOUT, 32, H200) == pytest.approx(by_hand)
    dense = replace(PAPER, aggressiveness=0.0)
    assert decoder_seconds(dense, Mode.FINE, LAYOUT, 32, LINE) == pytest.approx(32 * LAYOUT.length * 1e-6)
