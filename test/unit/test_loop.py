"""The control loop: one inference at a time, reset rules, staleness, replanning, and the loop as a whole."""

from dataclasses import replace

import pytest
from loop_rig import PERIOD, Rig, held

from specprune_ros.types import (
    Command,
    Mode,
)

# One inference at a time


def test_first_request_has_no_history():
    rig = Rig()
    rig.sense()
    request = rig.request()
    assert request.chunk_id == 1 and request.memory is None and request.mode is Mode.FINE
    assert request.reference_images is None and request.frame_offset == 0
    assert request.observation.motion is None
    assert request.observation.instruction == "pick up the red cube"
    assert request.observation.stamp_ns == rig.now


def test_only_one_request_is_outstanding():
    rig = Rig()
    rig.sense()
    request = rig.request()
    for _ in range(5):
        held(rig.step(), "waiting for the first inference", "inference 1 has been running")
        assert rig.request() is None
    assert rig.accept(request)
    rig.wait()
    rig.sense()
    assert rig.request().chunk_id == 2


def test_memory_and_history_flow_to_the_next_request():
    rig = Rig()
    rig.run_first_chunk()
    for _ in range(5):
        assert rig.request() is None
        rig.step(move=(0.1, 0, 0))
    request = rig.request()
    assert request.memory.last_attention == "last_attention 1"
    assert request.frame_offset == 5 and request.reference_images is not None
    assert request.observation.motion.linear == pytest.approx(0.1)


def test_inference_starts_lead_steps_before_the_end():
    for lead in (0, 1, 2, 5):
        rig = Rig(**{"control.lead_steps": lead})
        out = rig.run_first_chunk()
        while not rig.request():
            out = rig.step()
        assert out.step == 7 - lead


def test_execute_steps_replans_early():
    rig = Rig(**{"control.execute_steps": 4, "control.lead_steps": 0})
    out = rig.run_first_chunk()
    while not rig.request():
        out = rig.step()
    assert out.step == 3


def test_faster_motion_asks_for_a_nearer_reference():
    for speed, offset in ((0.0, 11), (0.9, 10), (1.0, 10), (1.5, 9)):
        rig = Rig(**{"pruning.controller.enabled": False})
        for _ in range(20):
            rig.wait()
            rig.sense((speed, 0, 0))
        # A hair of slack for floor() right at a whole number.
        assert rig.request().frame_offset in (offset, offset - (speed == 1.0))


def test_the_same_frame_is_not_inferred_twice():
    rig = Rig()
    rig.sense()
    rig.request()
    rig.loop.failed(RuntimeError("out of memory"))
    assert rig.request() is None
    rig.step()
    assert rig.request() is not None


def test_a_result_nobody_asked_for_is_ignored():
    rig = Rig()
    rig.sense()
    request = rig.request()
    assert not rig.accept(replace(request, chunk_id=99))
    assert rig.request() is None, "the real one is still outstanding"
    assert rig.accept(request)
    assert not rig.accept(request)
    assert rig.loop.counters.ignored == 2


# What makes a result obsolete


def instruct(rig):
    rig.loop.set_instruction("put it down")


def gap(rig):
    rig.wait(7)
    rig.sense()


def clock_forward(rig):
    rig.wait(10**6)
    rig.sense()


def clock_back(rig):
    rig.wait(-1000)
    rig.tick()
    rig.sense()


def image_clock_back(rig):
    rig.wait(-1000)
    rig.see()
    rig.feel()


def state_clock_back(rig):
    rig.wait(-1000)
    rig.feel()
    rig.see()


def episode(rig):
    rig.loop.reset()
    rig.wait()
    rig.sense()


RESETS = (instruct, gap, clock_forward, clock_back, image_clock_back, state_clock_back, episode)


@pytest.mark.parametrize("event", RESETS)
def test_resets_drop_chunk_and_memory(event):
    rig = Rig()
    rig.run_first_chunk()
    for _ in range(3):
        assert isinstance(rig.step(), Command)
    event(rig)
    held(rig.tick(), "waiting for the first inference")
    assert rig.loop.counters.resets == 1
    rig.wait()
    rig.sense()
    request = rig.request()
    assert request.memory is None
    # A new instruction does not change what the cameras saw.
    assert (request.reference_images is None or request.frame_offset == 1) != (event is instruct)


@pytest.mark.parametrize("event", RESETS)
def test_a_result_from_before_a_reset_is_ignored(event):
    rig = Rig()
    rig.sense()
    old = rig.request()
    event(rig)
    rig.wait()
    rig.sense()
    assert rig.request() is None, "the policy is still busy with the old request"
    assert not rig.accept(old)
    held(rig.tick(), "waiting for the first inference")
    assert rig.loop.counters.ignored == 1 and rig.loop.counters.accepted == 0
    new = rig.request()
    assert new.memory is None
    assert rig.accept(new)


@pytest.mark.parametrize("event", RESETS)
def test_a_failure_from_before_a_reset_frees_the_policy(event):
    rig = Rig()
    rig.sense()
    rig.request()
    event(rig)
    rig.wait()
    rig.sense()
    rig.loop.failed(RuntimeError("old trouble"))
    assert "old trouble" not in rig.tick().reason
    assert rig.request() is not None


def test_the_same_instruction_again_resets_nothing():
    rig = Rig()
    rig.run_first_chunk()
    rig.loop.set_instruction("  pick up the red cube\n")
    assert isinstance(rig.step(), Command) and rig.loop.counters.resets == 0


def test_a_gap_keeps_nothing_of_the_motion():
    rig = Rig()
    for _ in range(4):
        rig.step((1, 0, 0))
    assert rig.loop.mode is Mode.COARSE
    gap(rig)
    assert rig.loop.mode is Mode.FINE
    assert rig.request().observation.motion is None


def test_slight_disorder_is_no_reset():
    rig = Rig()
    rig.run_first_chunk()
    rig.step()
    rig.now -= PERIOD // 3
    rig.sense()
    assert isinstance(rig.tick(), Command) and rig.loop.counters.resets == 0
