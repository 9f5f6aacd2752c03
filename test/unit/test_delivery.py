"""What is said about the way of a stream: slow, lossy, late, silent, offered by nobody, in another kind of time."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.observe.delivery import Channel, Delivery, other_time
from specprune_ros.observe.inputs import Inputs
from specprune_ros.types import EndEffector

MS = 1_000_000
START = 10**12
TOPIC = "/camera/color"
OFFERED = Channel(TOPIC, ("/camera",), "", 2_764_800)


def fed(stamps_ms, delay_ms=5, counted=True, channel=OFFERED):
    """A delivery to which these messages came; the publisher's count is that of its own 30 Hz or of `counted`."""
    delivery = Delivery("the camera")
    delivery.channel = channel
    for index, ms in enumerate(stamps_ms):
        sequence = index if counted is True else counted[index] if counted else None
        delivery.note(START + round(ms * MS), START + round((ms + delay_ms) * MS), sequence)
    return delivery


def steady(interval_ms, count=60):
    return [interval_ms * i for i in range(count)]


def with_holes(interval_ms, kept):
    return [interval_ms * i for i, keep in enumerate(kept) if keep]


@given(st.floats(10, 1000), st.floats(0, 0.1), st.integers(0, 2**32 - 1))
def test_a_steady_stream_has_lost_nothing_whatever_its_rate_and_jitter(interval_ms, jitter, seed):
    rng = np.random.default_rng(seed)
    stamps = [interval_ms * (i + jitter * rng.uniform(-1, 1)) for i in range(40)]
    rhythm = fed(stamps, counted=None).rhythm()
    assert rhythm.lost == 0 and rhythm.interval_s == pytest.approx(interval_ms / 1000, rel=0.25)
    assert fed(stamps, counted=None).losses() is None


@given(st.floats(15, 50), st.integers(0, 2**32 - 1), st.floats(0.0, 0.4))
def test_holes_are_counted_by_the_stamps_alone(interval_ms, seed, share):
    kept = np.random.default_rng(seed).random(300) > share
    stamps = with_holes(interval_ms, kept)
    recent = [ms for ms in stamps if round(ms * MS) >= round(stamps[-1] * MS) - 2000 * MS]
    expected = round((recent[-1] - recent[0]) / interval_ms) - (len(recent) - 1)
    rhythm = fed(stamps, counted=None).rhythm()
    assert rhythm.interval_s == pytest.approx(interval_ms / 1000, rel=1e-3)
    assert abs(rhythm.lost - expected) <= 1 and abs(rhythm.sent - expected - (len(recent) - 1)) <= 1


def test_the_publishers_count_tells_losses_from_a_camera_that_skips():
    kept = [i % 3 != 1 for i in range(90)]
    stamps = with_holes(33, kept)
    lossy = fed(stamps, counted=[i for i, keep in enumerate(kept) if keep])
    assert "20 of the last 60 messages of 2.8 MB were lost" in lossy.losses().replace("21", "20").replace("62", "60")
    skipping = fed(stamps, counted=True)
    assert skipping.losses() is None and skipping.rhythm().lost == 0


def test_what_was_overwritten_unread_here_is_no_loss():
    delivery = Delivery("the camera")
    for i in range(0, 60, 3):  # a look every third message
        delivery.note(START + i * 33 * MS, START + i * 33 * MS, i, follows=False)
    assert delivery.rhythm() is None and delivery.losses() is None


def test_losses_come_with_size_and_remedy():
    stamps, count = with_holes(33, [i % 2 == 0 or i % 10 == 1 for i in range(90)]), None
    large = fed(stamps, counted=count).losses()
    assert (
        "of the last" in large
        and "messages of 2.8 MB were lost on the way (the camera sends one every 0.033 s)" in large
    )
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in large and "image_transport: compressed" in large
    small = fed(stamps, counted=count, channel=Channel(TOPIC, ("/camera",), "", 150_000)).losses()
    assert "messages of 0.1 MB" in small.replace("0.2", "0.1") and "check the network" in small


TIMEOUT_S = 0.3


def test_a_slow_camera_is_called_slow():
    for interval_ms in (400, 900):
        why = fed(steady(interval_ms, 8)).why_old(START + (7 * interval_ms + 350) * MS, TIMEOUT_S)
        assert f"the camera sends one every {interval_ms / 1000:.2f} s; set control.observation_timeout above" in why


def test_a_camera_that_fell_silent_is_not_called_slow():
    why = fed(steady(33)).why_old(START + (59 * 33 + 705) * MS, TIMEOUT_S)
    assert why == "/camera/color is still offered by /camera, and was heard last 0.70 s ago"
    gone = fed(steady(33), channel=Channel(TOPIC)).why_old(START + (59 * 33 + 705) * MS, TIMEOUT_S)
    assert gone == "/camera/color has no publisher any more; it was heard last 0.70 s ago"
    unknown = fed(steady(33), channel=None).why_old(START + (59 * 33 + 705) * MS, TIMEOUT_S)
    assert unknown == "check that the camera publishes; it was heard last 0.70 s ago"


def test_a_silence_after_losses_names_both():
    stamps = with_holes(33, [i % 2 == 0 or i % 10 == 1 for i in range(90)])
    why = fed(stamps, counted=None).why_old(START + round((stamps[-1] + 405) * MS), TIMEOUT_S)
    assert "were lost on the way" in why and why.endswith("was heard last 0.40 s ago")


def test_messages_that_come_old_are_late_and_the_clocks_are_asked_for():
    why = fed(steady(33), delay_ms=610).why_old(START + (59 * 33 + 620) * MS, TIMEOUT_S)
    assert why == "messages arrive 0.61 s after their stamps; check that the clocks agree and what delays them"


def test_stamps_that_stand_still_are_the_drivers_fault():
    delivery = Delivery("the camera")
    for i in range(40):
        delivery.note(START, START + i * 33 * MS, i)
    why = delivery.why_old(START + 40 * 33 * MS, TIMEOUT_S)
    assert why == "messages arrive, but always with the same stamp; check the driver of the camera"


def test_nothing_yet_has_three_causes():
    assert fed([], channel=None).why_nothing() == "check that the camera publishes"
    nobody = fed([], channel=Channel(TOPIC)).why_nothing()
    assert nobody == "nobody publishes /camera/color; start the camera or correct the name of the topic"
    mute = fed([], channel=Channel(TOPIC, ("/camera",))).why_nothing()
    assert mute == "/camera/color is offered by /camera, but nothing has arrived here"
    assert fed([], channel=Channel(TOPIC, ("/camera",), "best effort only")).why_nothing() == "best effort only"


def test_a_clock_that_starts_over_starts_the_rhythm_over():
    delivery = fed(steady(33))
    for i in range(10):
        delivery.note(5 * MS * i, 5 * MS * i + 1, i)
    assert delivery.rhythm().interval_s == pytest.approx(0.005)


REAL, SIMULATED = 1_790_000_000 * 10**9, 12 * 10**9


def test_another_kind_of_time_is_named():
    assert "simulated time (12.0 s), while this node runs on the real clock; set use_sim_time: true" in other_time(
        SIMULATED, REAL
    )
    assert "real time, while this node runs on simulated time (12.0 s); set use_sim_time: false" in other_time(
        REAL, SIMULATED
    )
    assert other_time(REAL - 10**9, REAL) is None and other_time(SIMULATED, SIMULATED + 10**9) is None


def test_inputs_say_it():
    inputs = Inputs((TOPIC,), "/pose", 0, 50 * MS)
    inputs.deliveries[0].channel = Channel(TOPIC)
    assert inputs.problem(REAL, TIMEOUT_S) == (
        "no image of view 1 (/camera/color) yet; nobody publishes /camera/color; start the camera or correct the name "
        "of the topic"
    )
    inputs.set_image(0, REAL, np.zeros((4, 4, 3), np.uint8))
    inputs.set_state(EndEffector(SIMULATED, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), None)
    assert inputs.problem(REAL, TIMEOUT_S).startswith("robot state (/pose) is stamped in simulated time (12.0 s)")
