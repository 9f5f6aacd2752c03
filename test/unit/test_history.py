"""Frame history: the reference frame against a slow oracle, and what empties it."""

import numpy as np
from hypothesis import strategies as st
from properties import given

from specprune_ros.observe.history import FrameHistory

PERIOD = 50_000_000
TIMEOUT_S = 0.3


def image(stamp_ns):
    return (np.full((1, 1, 3), stamp_ns % 251, np.uint8),)


def filled(stamps, capacity=12):
    history = FrameHistory(capacity, PERIOD)
    frames = {}
    for stamp in stamps:
        frames[stamp] = image(stamp)
        assert history.push(stamp, frames[stamp], TIMEOUT_S) is None
    return history, frames


def oracle(frames, capacity, stamp_ns, offset):
    """Nearest frame by trying all of them."""
    newest = max(frames)
    kept = [s for s in frames if newest - s <= (capacity + 0.5) * PERIOD]
    allowed = [s for s in kept if stamp_ns - s >= PERIOD / 2]
    if not allowed:
        return None
    return min(sorted(allowed), key=lambda s: abs(s - (stamp_ns - offset * PERIOD)))


@given(
    st.lists(st.integers(1_000_000, round(TIMEOUT_S * 1e9)), min_size=1, max_size=40),
    st.integers(1, 20),
    st.integers(1, 12),
)
def test_reference_is_the_nearest_earlier_frame(steps, offset, capacity):
    stamps = np.cumsum([0, *steps]).tolist()
    history, frames = filled(stamps, capacity)
    wanted = oracle(frames, capacity, stamps[-1], offset)
    found = history.reference(stamps[-1], offset)
    if wanted is None:
        assert found is None
        return
    images, actual = found
    assert images is frames[wanted]
    assert actual == int((stamps[-1] - wanted) / PERIOD + 0.5)
    assert actual >= 1


def test_at_the_control_rate_the_offset_is_exact():
    history, frames = filled([i * PERIOD for i in range(12)])
    for offset in range(1, 12):
        assert history.reference(11 * PERIOD, offset) == (frames[(11 - offset) * PERIOD], offset)


def test_offset_is_clamped_to_what_is_there():
    history, frames = filled([0, PERIOD, 2 * PERIOD])
    assert history.reference(2 * PERIOD, 11) == (frames[0], 2)


def test_the_first_frame_is_not_compared_with_itself():
    history, _ = filled([0])
    assert history.reference(0, 11) is None


def test_jitter_does_not_lose_the_oldest_wanted_frame():
    stamps = [i * PERIOD + (2_000_000 if i % 2 else 0) for i in range(31)]
    history, frames = filled(stamps, capacity=11)
    assert history.reference(stamps[30], 11) == (frames[stamps[19]], 11)


def test_memory_is_bounded_at_any_camera_rate():
    history, _ = filled(range(0, 100 * PERIOD, PERIOD // 3), capacity=5)
    assert len(history) <= 3 * 6


def test_gap_and_jump_back_reset():
    for stamp, why in (
        (5 * PERIOD + 300_000_001, "a gap of 0.30 s (control.observation_timeout 0.30 s)"),
        (4 * PERIOD, "the stamps went back by 0.05 s"),
        (0, "the stamps went back by 0.25 s"),
    ):
        history, _ = filled([i * PERIOD for i in range(6)])
        assert history.push(stamp, image(stamp), TIMEOUT_S) == why
        assert len(history) == 1
        assert history.newest[0] == stamp
        assert history.reference(stamp, 1) is None


def test_longest_pause_that_is_not_a_gap():
    history, _ = filled([0])
    assert history.push(300_000_000, image(1), TIMEOUT_S) is None
    assert len(history) == 2


def test_repeated_and_reordered_frames_are_ignored():
    history, frames = filled([0, PERIOD])
    for stamp in (PERIOD, PERIOD - 1, 1):
        assert history.push(stamp, image(stamp), TIMEOUT_S) is None
    assert len(history) == 2
    assert history.newest == (PERIOD, frames[PERIOD])


def test_shrinking_forgets_and_growing_keeps():
    history, _ = filled([i * PERIOD for i in range(12)])
    history.resize(3)
    assert len(history) == 4
    history.resize(10)
    assert len(history) == 4
