"""The control loop with bad, missing, old and late inputs and inferences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from loop_rig import CONFIG, IMAGE, PERIOD, Rig, held, result

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.loop import ControlLoop
from specprune_ros.types import (
    BadInput,
    Command,
    EndEffector,
    Hold,
)

# Bad, missing and old inputs


def test_empty_instruction_holds_and_asks_nothing():
    rig = Rig(Config())
    rig.sense()
    assert held(rig.tick(), "no instruction; publish one on ~/instruction")
    assert rig.request() is None
    rig.loop.set_instruction("wave")
    assert rig.request().observation.instruction == "wave"
    rig.loop.set_instruction(" ")
    assert held(rig.tick(), "no instruction")


def test_missing_camera():
    rig = Rig()
    rig.feel()
    rig.loop.set_image(0, rig.now, IMAGE)
    text = "no image of view 2 (/camera/wrist/color/image_raw) yet; check that the camera publishes"
    assert rig.tick() == Hold(text)
    assert rig.loop.blocked(rig.now) == text
    assert rig.request() is None


def test_missing_state():
    rig = Rig()
    rig.see()
    held(rig.tick(), "no robot state (/franka_robot_state_broadcaster/current_pose) yet")
    joints = Rig(**{"robot.state_source": "joints"})
    joints.see()
    held(joints.tick(), "no robot state (/joint_states) yet")


def test_stale_image():
    rig = Rig()
    rig.run_first_chunk()
    for _ in range(6):
        rig.wait()
        rig.feel()
        rig.loop.set_image(0, rig.now, IMAGE)
        assert isinstance(rig.tick(), Command)
    rig.wait()
    rig.feel()
    rig.loop.set_image(0, rig.now, IMAGE)
    assert rig.tick().reason == (
        "image of view 2 (/camera/wrist/color/image_raw) is 0.35 s old (limit 0.30 s); check that the camera publishes"
    )
    assert rig.request() is None


def test_stale_state():
    rig = Rig()
    rig.run_first_chunk()
    for _ in range(7):
        rig.wait()
        rig.see()
    held(rig.tick(), "robot state", "is 0.35 s old (limit 0.30 s); check that the robot driver publishes")
    rig.feel()
    assert rig.loop.blocked(rig.now) is None


def test_stamps_from_the_future():
    rig = Rig()
    rig.sense()
    rig.now -= 10 * PERIOD
    held(rig.tick(), "image of view 1", "is stamped 0.50 s in the future", "check use_sim_time")


@pytest.mark.parametrize("where", ("pose", "proprio", "shape", "none"))
def test_bad_state_holds_until_a_good_one_comes(where):
    rig = Rig()
    rig.run_first_chunk()
    rig.wait()
    rig.see()
    position = np.array([0, math.nan, 0]) if where == "pose" else np.zeros(3)
    proprio = {"proprio": np.full(8, math.nan), "shape": np.zeros(3), "none": None}.get(where, np.zeros(8))
    with pytest.raises(BadInput):
        rig.loop.set_state(EndEffector(rig.now, position, np.array([0, 0, 0, 1.0])), proprio)
    held(rig.tick(), "robot state (/franka_robot_state_broadcaster/current_pose) was refused: ")
    assert rig.request() is None and rig.loop.counters.bad_inputs == 1
    rig.feel()
    assert isinstance(rig.tick(), Command)


@pytest.mark.parametrize(
    "image, text",
    [
        (np.zeros((4, 4), np.uint8), r"expected \(H, W, 3\) uint8 RGB, got \(4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"got \(4, 4, 3\) float32; convert it to rgb8"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
    ],
)
def test_bad_image_holds_until_a_good_one_comes(image, text):
    rig = Rig()
    rig.run_first_chunk()
    rig.wait()
    rig.sense()
    with pytest.raises(BadInput, match=text):
        rig.loop.set_image(1, rig.now, image)
    held(rig.tick(), "image of view 2 (/camera/wrist/color/image_raw) was refused: expected (H, W, 3)")
    rig.loop.set_image(1, rig.now, IMAGE)
    assert isinstance(rig.tick(), Command)


def test_refusals_from_message_conversion():
    rig = Rig()
    rig.sense()
    rig.loop.refuse_image(0, BadInput("encoding 'bayer' is not supported; publish rgb8"))
    held(rig.tick(), "image of view 1 (/camera/third_person/color/image_raw) was refused: encoding 'bayer'")
    assert rig.loop.counters.bad_inputs == 1


def test_wrong_number_of_views():
    rig = Rig()
    with pytest.raises(BadInput, match="frame has 1 images, the policy has 2 views"):
        rig.see((IMAGE,))
    with pytest.raises(BadInput, match="there is no view 3; the policy has 2 views"):
        rig.loop.set_image(2, rig.now, IMAGE)
    with pytest.raises(ConfigError, match="topics.images: 2 topics for a policy with 3 views; give one per view"):
        ControlLoop(CONFIG, view_count=3, chunk_steps=8)


def test_policy_without_proprio():
    loop = ControlLoop(CONFIG, view_count=2, chunk_steps=8, proprio_dims=0)
    loop.set_frame(0, (IMAGE, IMAGE))
    loop.set_state(EndEffector(0, np.zeros(3), np.array([0, 0, 0, 1.0])), None)
    assert loop.request(0).observation.proprio is None


def test_views_that_arrive_apart_are_paired():
    """A frame is complete when every view has moved on; one late message does not shift the pairing for good."""
    rig = Rig()
    rig.feel()
    marked = {(v, t): np.full((2, 2, 3), 10 * v + t, np.uint8) for v in range(2) for t in range(6)}

    def show(view, tick):
        rig.loop.set_image(view, rig.now + tick * PERIOD, marked[view, tick])

    for view, tick in ((0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2), (0, 3)):
        show(view, tick)
    observation = rig.loop.request(rig.now + 3 * PERIOD).observation
    assert [int(image[0, 0, 0]) for image in observation.images] == [2, 12]
    assert observation.stamp_ns == rig.now + 2 * PERIOD


# Inference that fails or is late


def test_failure_keeps_the_old_chunk_until_it_runs_out():
    rig = Rig()
    rig.run_first_chunk()
    while not rig.request():
        out = rig.step()
    rig.loop.failed(RuntimeError("CUDA out of memory"))
    assert rig.loop.counters.failures == 1
    while isinstance(out, Command):
        last = out.step
        out = rig.step()
    assert last == 7
    held(out, "inference 2 failed: CUDA out of memory", "action chunk 1 ran out")
    request = rig.request()
    assert request.chunk_id == 3 and request.memory.last_attention == "last_attention 1"
    assert rig.accept(request)
    assert isinstance(rig.step(), Command)


@pytest.mark.parametrize("actions", (np.full((8, 7), math.nan), np.zeros((5, 7)), np.zeros((8, 6)), np.float64(3)))
def test_an_unusable_chunk_counts_as_failure_and_leaves_no_memory(actions):
    rig = Rig()
    rig.sense()
    good = result(rig.request())
    bad = replace(good, chunk=replace(good.chunk, actions=actions))
    assert not rig.loop.accept(bad, rig.now)
    held(rig.tick(), "inference 1 failed: action chunk")
    assert rig.loop.counters.failures == 1
    rig.step()
    assert rig.request().memory is None


def test_deadline_misses_are_ticks_without_steps_while_inference_runs():
    rig = Rig()
    rig.sense()
    request = rig.request()
    rig.step()
    assert rig.loop.counters.deadline_misses == 0, "the first inference has no deadline"
    rig.accept(request)
    out = rig.tick()
    while not (request := rig.request()):
        out = rig.step()
    outs = [rig.step() for _ in range(5)]
    assert [isinstance(out, Command) for out in outs] == [True, True, False, False, False]
    held(
        outs[-1], "action chunk 1 ran out: it has 8 steps and step 11 is due", "inference 2 has been running for 0.25 s"
    )
    assert rig.loop.counters.deadline_misses == 3
    rig.accept(request)
    out = rig.step()
    assert out.chunk_id == 2 and out.step == 6 and rig.loop.counters.dropped_steps == 6
    assert rig.loop.counters.deadline_misses == 3


def test_limits_are_counted_and_named():
    rig = Rig()
    rig.sense()
    assert rig.accept(rig.request(), value=1.25)
    out = rig.tick()
    assert out.displacement.gripper == 1.0
    assert rig.loop.counters.limited == 1 and "dx 1.250 -> 1" in rig.loop.drive.limit_reasons[0]
    assert rig.loop.drive.limits_hit == {
        "range": 1,
        "step": 1,
        "speed": 1,
        "acceleration": 0,
        "jerk": 0,
        "workspace": 0,
    }


def test_acceleration_counts_from_what_was_really_sent():
    """A hold in between, or a command that the safety gate kept back, means rest."""
    slow = {"limits.linear_acceleration": 2.0, "limits.linear_speed": 3.0, "limits.step_translation": 0.2}
    rig = Rig(**slow)
    rig.sense()
    assert rig.accept(rig.request(), value=0.5)
    lengths = [float(np.linalg.norm(rig.tick().displacement.translation_m))]
    lengths.append(float(np.linalg.norm(rig.step().displacement.translation_m)))
    rig.loop.drive.undo()
    lengths.append(float(np.linalg.norm(rig.step().displacement.translation_m)))
    np.testing.assert_allclose(lengths, [0.005, 0.01, 0.005])


def test_what_was_planned_before_arming_is_dropped():
    rig = Rig()
    rig.run_first_chunk()
    rig.loop.engage()
    held(rig.step(), "waiting for the first inference")
