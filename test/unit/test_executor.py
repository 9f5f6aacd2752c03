"""Chunk executor: steps match time, seams are smooth, nothing non-finite gets out."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Control
from specprune_ros.control.executor import ChunkExecutor
from specprune_ros.types import ActionChunk, BadInput, ChunkStep, Hold, Mode

PERIOD = 50_000_000
CONTROL = Control()
SHARP = replace(CONTROL, blend_steps=0)


def chunk(stamp_ns, actions, chunk_id=1):
    return ActionChunk(chunk_id, stamp_ns, np.asarray(actions, float), Mode.FINE, "task")


def numbered(stamp_ns, steps=8, chunk_id=1):
    """Step i says i / 100, so that a command tells which step it came from."""
    return chunk(stamp_ns, np.tile(np.arange(steps)[:, None] / 100, (1, 7)), chunk_id)


def constant(stamp_ns, value, steps=8, chunk_id=1):
    return chunk(stamp_ns, np.full((steps, 7), value), chunk_id)


def test_nothing_yet():
    executor = ChunkExecutor(PERIOD)
    assert executor.command(0, CONTROL) == Hold("no action chunk yet; waiting for the first inference")
    assert executor.remaining_steps(0, CONTROL) == 0
    assert not executor.has_chunk


@given(st.integers(0, 12), st.integers(-PERIOD // 2 + 1, PERIOD // 2 - 1), st.integers(1, 10))
def test_dropped_steps_match_time(latency, phase_ns, steps):
    """Commands are the steps that belong to their time, whatever the inference took."""
    executor = ChunkExecutor(PERIOD)
    now = 10**9
    stamp = now - latency * PERIOD + phase_ns
    dropped = executor.accept(numbered(stamp, steps), now)
    due = sum(1 for i in range(100) if stamp + i * PERIOD < now - PERIOD / 2)
    assert dropped == min(due, steps)
    for tick in range(12):
        out = executor.command(now + tick * PERIOD, SHARP)
        if due + tick < steps:
            assert out.step == due + tick
            assert out.action[0] == (due + tick) / 100
            assert out.chunk_age == pytest.approx((now + tick * PERIOD - stamp) / 1e9)
        else:
            assert isinstance(out, Hold) and ("ran out" in out.reason or "s old" in out.reason)


@given(st.integers(0, PERIOD - 1), st.lists(st.integers(-PERIOD // 2 + 1, PERIOD // 2 - 1), min_size=7, max_size=7))
def test_timer_jitter_neither_skips_nor_repeats(phase_ns, jitter):
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(-phase_ns, 9), 0)
    first = executor.command(0, SHARP).step
    late = [executor.command(i * PERIOD + late_ns, SHARP).step for i, late_ns in enumerate(jitter, start=1)]
    assert late == [first + i for i in range(1, 8)]


def test_ticks_that_were_missed_skip_their_steps():
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(0), 0)
    assert [executor.command(i * PERIOD, SHARP).step for i in (0, 1, 4, 4, 7)] == [0, 1, 4, 4, 7]


def test_a_stamp_ahead_of_the_clock_starts_at_step_0():
    executor = ChunkExecutor(PERIOD)
    assert executor.accept(numbered(3 * PERIOD), 0) == 0
    assert [executor.command(i * PERIOD, SHARP).step for i in range(3)] == [0, 1, 2]


def test_old_chunks_are_not_executed():
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(0, steps=100, chunk_id=12), 0)
    assert isinstance(executor.command(20 * PERIOD, CONTROL), ChunkStep)
    held = executor.command(24 * PERIOD, CONTROL)
    assert "action chunk 12 is 1.20 s old (limit 1.00 s)" in held.reason and "chunk_timeout" in held.reason
    assert executor.remaining_steps(24 * PERIOD, CONTROL) == 0


def blended_by_hand(old, new, steps_left, latency, blend):
    """Loop over ticks: the share of the new chunk grows in equal parts while the old one still has steps."""
    count = max(0, min(blend, steps_left, 8 - latency))
    expected = []
    for j in range(8 - latency):
        share = (j + 1) / (count + 1) if j < count else 1.0
        arm = old * (1 - share) + new * share
        expected.append([arm] * 6 + [new])
    return np.array(expected)


@given(st.integers(0, 8), st.integers(0, 5), st.integers(0, 6), st.floats(-1, 1), st.floats(-1, 1))
def test_seam_against_a_loop(switch, latency, blend, old, new):
    control = replace(CONTROL, blend_steps=blend)
    executor = ChunkExecutor(PERIOD)
    executor.accept(constant(0, old), 0)
    for tick in range(switch):
        executor.command(tick * PERIOD, control)
    now = switch * PERIOD
    executor.accept(constant(now - latency * PERIOD, new, chunk_id=2), now)
    got = [executor.command(now + j * PERIOD, control).action for j in range(8 - latency)]
    # The old chunk is on the grid only after its first command.
    steps_left = 8 - switch if switch else 0
    np.testing.assert_allclose(got, blended_by_hand(old, new, steps_left, latency, blend), atol=1e-12)


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 3), st.floats(-1, 1)), min_size=1, max_size=6))
def test_blending_is_continuous(blend, switches):
    """Between chunks with enough steps left, no step of the command exceeds the step between chunks / (blend + 1)."""
    control = replace(CONTROL, blend_steps=blend)
    executor = ChunkExecutor(PERIOD)
    executor.accept(constant(0, 0.0, steps=19), 0)
    commands, values, tick = [], [0.0], 0
    for number, (wait, value) in enumerate(switches, start=2):
        for _ in range(blend + wait):
            commands.append(executor.command(tick * PERIOD, control).action[0])
            tick += 1
        executor.accept(constant(tick * PERIOD, value, steps=19, chunk_id=number), tick * PERIOD)
        values.append(value)
    for _ in range(8):
        commands.append(executor.command(tick * PERIOD, control).action[0])
        tick += 1
    largest = max(abs(a - b) for a in values for b in values)
    assert np.abs(np.diff(commands)).max() <= largest / (blend + 1) + 1e-9
    assert commands[-1] == values[-1]


def test_the_gripper_is_never_averaged():
    executor = ChunkExecutor(PERIOD)
    executor.accept(constant(0, 0.0), 0)
    executor.command(0, CONTROL)
    executor.accept(constant(PERIOD, 1.0, chunk_id=2), PERIOD)
    out = executor.command(PERIOD, CONTROL).action
    assert out[6] == 1.0 and out[0] == pytest.approx(1 / 3)


def test_no_blending_with_a_chunk_that_timed_out():
    executor = ChunkExecutor(PERIOD)
    executor.accept(constant(0, 1.0, steps=100), 0)
    executor.command(0, CONTROL)
    executor.accept(constant(30 * PERIOD, 0.0, chunk_id=2), 30 * PERIOD)
    assert executor.command(30 * PERIOD, CONTROL).action[0] == 0.0


def test_chunks_are_never_written_to():
    executor = ChunkExecutor(PERIOD)
    first, second = constant(0, 0.0), constant(PERIOD, 1.0, chunk_id=2)
    for each in (first, second):
        each.actions.flags.writeable = False
    executor.accept(first, 0)
    executor.command(0, CONTROL)
    executor.accept(second, PERIOD)
    assert isinstance(executor.command(PERIOD, CONTROL), ChunkStep)


def test_remaining_steps_count_what_is_still_to_be_commanded():
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(-2 * PERIOD), 0)
    assert executor.remaining_steps(0, CONTROL) == 6
    executor.command(0, CONTROL)
    assert executor.remaining_steps(0, CONTROL) == 5
    assert executor.remaining_steps(PERIOD, CONTROL) == 5
    assert executor.remaining_steps(20 * PERIOD, CONTROL) == 0


def test_execute_steps_ends_the_plan_early_but_not_the_commands():
    control = replace(CONTROL, execute_steps=3)
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(-2 * PERIOD), 0)
    assert executor.remaining_steps(0, control) == 3
    for tick, left in enumerate((2, 1, 0, 0, 0, 0)):
        assert executor.command(tick * PERIOD, control).step == tick + 2
        assert executor.remaining_steps(tick * PERIOD, control) == left


def test_steps_beyond_the_chunk_timeout_do_not_count():
    control = replace(CONTROL, chunk_timeout=0.2)
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(0), 0)
    executor.command(0, control)
    assert executor.remaining_steps(0, control) == 4
    outs = [executor.command(i * PERIOD, control) for i in range(1, 6)]
    assert [isinstance(out, ChunkStep) for out in outs] == [True] * 4 + [False]


def test_drop_keeps_what_has_just_arrived_and_clear_does_not():
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(0), 0)
    executor.command(0, CONTROL)
    executor.drop()
    assert "replanning" in executor.command(PERIOD, CONTROL).reason
    executor.accept(numbered(PERIOD, chunk_id=2), PERIOD)
    executor.drop()
    assert executor.command(PERIOD, CONTROL).chunk_id == 2
    executor.clear()
    assert "waiting for the first inference" in executor.command(2 * PERIOD, CONTROL).reason


@pytest.mark.parametrize(
    "actions, text",
    [
        (np.full((8, 7), math.nan), "chunk 1 has 56 values that are not finite"),
        (np.zeros((8, 6)), r"shape \(8, 6\), expected \(T, 7\)"),
        (np.zeros((0, 7)), "expected"),
        (np.zeros(7), "expected"),
    ],
)
def test_bad_chunks_are_refused_and_the_old_one_goes_on(actions, text):
    executor = ChunkExecutor(PERIOD)
    executor.accept(numbered(0), 0)
    with pytest.raises(BadInput, match=text):
        executor.accept(chunk(0, actions), 0)
    assert executor.command(PERIOD, SHARP).step == 1


ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 6), st.lists(ANY_FLOAT, min_size=7, max_size=7)), max_size=8),
    st.integers(0, 5),
)
def test_nothing_bad_gets_out(events, blend):
    """Any chunks, any timing: what leaves the executor is finite."""
    control = replace(CONTROL, blend_steps=blend)
    executor = ChunkExecutor(PERIOD)
    now = 0
    for number, (wait, latency, row) in enumerate(events):
        try:
            executor.accept(chunk(now - latency * PERIOD, [row] * 8, number), now)
        except BadInput:
            assert not np.isfinite(row).all()
        for _ in range(wait + 1):
            out = executor.command(now, control)
            now += PERIOD
            if isinstance(out, ChunkStep):
                assert np.isfinite(out.action).all()
