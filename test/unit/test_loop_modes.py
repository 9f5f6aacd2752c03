"""The control loop: modes and replanning, and the loop as a whole."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from loop_rig import PERIOD, Rig, held
from properties import given

from specprune_ros.types import (
    BadInput,
    Command,
    EndEffector,
    Hold,
    Mode,
)

# Mode and replanning


def moving_rig(**changes):
    rig = Rig(**changes)
    rig.sense()
    request = rig.request()
    rig.step((1, 0, 0))
    rig.step((1, 0, 0))
    assert rig.loop.mode is Mode.COARSE
    return rig, request


def test_slowing_down_drops_the_chunk_and_replans_in_fine_mode():
    rig, request = moving_rig()
    rig.accept(request)
    assert isinstance(rig.tick(), Command)
    held(rig.step((0.02, 0, 0)), "replanning: the arm slowed down into fine mode")
    assert rig.loop.counters.replans == 1 and rig.loop.counters.deadline_misses == 0
    request = rig.request()
    assert request.mode is Mode.FINE and request.memory is not None
    rig.accept(request)
    assert isinstance(rig.step(), Command)
    assert rig.request() is None, "one replan per switch"


def test_an_inference_under_way_at_the_switch_is_used_and_followed_by_a_fine_one():
    rig, request = moving_rig()
    rig.accept(request)
    rig.tick()
    while not (coarse := rig.request()):
        rig.step((1, 0, 0))
    assert coarse.mode is Mode.COARSE
    held(rig.step(), "replanning")
    rig.accept(coarse)
    assert rig.tick().chunk_id == coarse.chunk_id
    assert rig.request().mode is Mode.FINE
    rig.step()
    assert rig.loop.counters.replans == 1


@pytest.mark.parametrize(
    "changes", ({"pruning.controller.replan_on_fine": False}, {"pruning.controller.enabled": False})
)
def test_no_replan_when_it_is_switched_off(changes):
    rig, request = moving_rig()
    rig.accept(request)
    rig.tick()
    rig.loop.update_config(rig.loop.config.updated(changes))
    assert isinstance(rig.step(), Command)
    assert rig.loop.mode is Mode.FINE and rig.loop.counters.replans == 0


def test_losing_the_motion_for_a_moment_does_not_drop_the_chunk():
    rig, request = moving_rig()
    rig.accept(request)
    rig.tick()
    rig.loop.update_config(rig.loop.config.updated({"control.observation_timeout": 0.15}))
    for _ in range(3):
        rig.wait()
        rig.see()
        assert isinstance(rig.tick(), Command)
    rig.wait()
    rig.sense()  # the pose comes after a gap
    assert rig.loop.motion is None and isinstance(rig.tick(), Command)
    assert rig.loop.mode is Mode.FINE and rig.loop.counters.replans == 0


def test_live_configuration():
    rig = Rig()
    rig.run_first_chunk()
    rig.loop.update_config(rig.loop.config.updated({"control.observation_timeout": 0.01}))
    rig.wait()
    held(rig.tick(), "limit 0.01 s")
    rig.loop.update_config(rig.loop.config.updated({"instruction": "wave"}))
    assert rig.loop.instruction == "pick up the red cube", "see control.instruction"


# The loop as a whole


def drive(rig, periods, latency):
    """A policy that takes `latency` periods; returns what every tick said and the largest number of open requests."""
    outs, running = [], []
    for _ in range(periods):
        rig.wait()
        rig.sense((0.2, 0, -0.1))
        if running and running[0][0] <= rig.now:
            assert rig.accept(running.pop(0)[1])
        outs.append(rig.tick())
        request = rig.request()
        if request:
            running.append((rig.now + latency * PERIOD, request))
        assert len(running) <= 1
    return outs


@pytest.mark.parametrize("latency", (1, 2, 3, 6))
def test_steady_running(latency):
    rig = Rig(**{"control.lead_steps": min(latency, 4)})
    outs = drive(rig, 60, latency)
    started = next(i for i, out in enumerate(outs) if isinstance(out, Command))
    assert started == latency
    missed = sum(isinstance(out, Hold) for out in outs[started:])
    assert rig.loop.counters.deadline_misses == missed
    if latency <= 4:
        assert missed == 0
    for before, after in zip(outs[started:], outs[started + 1 :], strict=False):
        if isinstance(before, Command) and isinstance(after, Command) and before.chunk_id == after.chunk_id:
            assert after.step == before.step + 1


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.floats(-1, 1)),
        st.tuples(st.just("wait"), st.integers(-30, 30)),
        st.tuples(st.just("accept"), st.floats(-2, 2)),
        st.tuples(st.just("accept"), st.just(math.nan)),
        st.tuples(st.sampled_from(("see", "feel", "fail", "instruct", "reset", "bad_state")), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(EVENTS)
def test_invariants_under_any_history(events):
    """At most one open request; commands only with a fresh chunk of this task; always finite and in range."""
    rig = Rig()
    open_requests, epoch_chunks = [], set()
    for kind, value in [("step", 0.0), *events]:
        resets = rig.loop.counters.resets
        if kind == "step":
            rig.step((value, 0, 0))
        elif kind == "wait":
            rig.wait(value)
        elif kind == "see":
            rig.see()
        elif kind == "feel":
            rig.feel()
        elif kind == "bad_state":
            with pytest.raises(BadInput):
                rig.loop.set_state(EndEffector(rig.now, np.full(3, math.nan), np.zeros(4)), np.zeros(8))
        elif kind == "instruct":
            rig.loop.set_instruction(("", "wave", "nod")[value])
        elif kind == "reset":
            rig.loop.reset()
        elif kind == "fail" and open_requests:
            open_requests.clear()
            rig.loop.failed(RuntimeError("x"))
        elif kind == "accept" and open_requests:
            request = open_requests.pop()
            if rig.accept(request, value):
                epoch_chunks.add(request.chunk_id)
        out = rig.tick()
        if rig.loop.counters.resets != resets:
            assert isinstance(out, Hold)
            epoch_chunks.clear()
        if isinstance(out, Command):
            assert out.chunk_id in epoch_chunks
            motion, limits = out.displacement, rig.loop.config.limits
            assert np.linalg.norm(motion.translation_m) <= limits.linear_speed * 0.05 + 1e-9
            assert np.linalg.norm(motion.rotation_rad) <= limits.angular_speed * 0.05 + 1e-9
            assert 0 <= motion.gripper <= 1
            assert out.chunk_age <= rig.loop.config.control.chunk_timeout
            assert rig.loop.blocked(rig.now) is None
        else:
            assert out.reason
        request = rig.request()
        if request:
            assert not open_requests
            assert request.observation.instruction == rig.loop.instruction != ""
            assert abs(rig.now - request.observation.stamp_ns) <= 0.3e9
            assert request.memory is None or request.memory.instruction == rig.loop.instruction
            open_requests.append(request)
    counters = rig.loop.counters
    assert counters.commands + counters.holds == counters.ticks
