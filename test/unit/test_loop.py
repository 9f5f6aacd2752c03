"""The control loop: one inference at a time, reset rules, staleness, replanning, and the loop as a whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros import rotation
from specprune_ros.config import Config, ConfigError
from specprune_ros.control.loop import ControlLoop
from specprune_ros.types import (
    ActionChunk,
    BadInput,
    Command,
    EndEffector,
    Hold,
    InferenceResult,
    Mode,
    PolicyMemory,
)

PERIOD = 50_000_000
IMAGE = np.zeros((4, 4, 3), np.uint8)
CONFIG = Config(instruction="pick up the red cube")


class Rig:
    """A loop with a clock, cameras, an arm and a policy of a chosen latency, all under the test's control."""

    def __init__(self, config=CONFIG, **changes):
        self.loop = ControlLoop(config.updated({"control.lead_steps": 2, **changes}), view_count=2, chunk_steps=8)
        self.now = 10**12
        self.position = np.array([0.5, 0.0, 0.3])
        self.turn = np.array([0.0, 0.0, 0.0, 1.0])

    def see(self, images=(IMAGE, IMAGE)):
        self.loop.set_frame(self.now, images)

    def feel(self, move=(0, 0, 0)):
        """The arm moved by `move` action units."""
        self.position = self.position + 0.05 * np.asarray(move, float)
        self.loop.set_state(EndEffector(self.now, self.position, self.turn), np.zeros(8, np.float32))

    def sense(self, move=(0, 0, 0)):
        self.see()
        self.feel(move)

    def tick(self):
        return self.loop.tick(self.now)

    def request(self):
        return self.loop.request(self.now)

    def accept(self, request, value=0.1):
        return self.loop.accept(result(request, value), self.now)

    def wait(self, periods=1):
        self.now += periods * PERIOD

    def step(self, move=(0, 0, 0)):
        """One period without inference."""
        self.wait()
        self.sense(move)
        return self.tick()

    def run_first_chunk(self):
        self.sense()
        assert self.accept(self.request())
        return self.tick()


def result(request, value=0.1):
    observation = request.observation
    actions = np.full((8, 7), value)
    chunk = ActionChunk(request.chunk_id, observation.stamp_ns, actions, request.mode, observation.instruction)
    memory = PolicyMemory(f"salient {request.chunk_id}", observation.instruction, observation.stamp_ns)
    return InferenceResult(request, chunk, report=None, memory=memory)


def held(out, *parts):
    assert isinstance(out, Hold), out
    for part in parts:
        assert part in out.reason
    return True


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
    assert request.memory.salient == "salient 1"
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
    assert request.chunk_id == 3 and request.memory.salient == "salient 1"
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


# Arming and the watch over an armed arm


def armed_rig(**changes):
    rig = Rig(**changes)
    for _ in range(3):
        rig.wait()
        rig.sense()
    assert rig.loop.obstacles(rig.now) == []
    rig.loop.engage()
    rig.wait()
    rig.sense()
    assert rig.accept(rig.request())
    return rig


def follow(rig, out):
    """The arm does in one period what it was told."""
    command = out if isinstance(out, Command) else out.braking
    if command:
        rig.position = rig.position + command.displacement.translation_m
        rig.turn = rotation.multiply(rotation.from_rotvec(command.displacement.rotation_rad), rig.turn)
    rig.wait()
    rig.sense()


def test_a_hold_brakes_within_the_limits_and_the_target_adds_up():
    rig = armed_rig(**{"output.interface": "target_pose"})
    start = rig.loop.measured.position_m
    outs = []
    for period in range(20):
        if period == 6:
            rig.loop.set_instruction("")
        outs.append(rig.tick())
        assert rig.loop.disagreement() is None
        follow(rig, outs[-1])
    commands = [out if isinstance(out, Command) else out.braking for out in outs]
    moved = sum(c.displacement.translation_m for c in commands if c)
    last = next(c for c in reversed(commands) if c)
    np.testing.assert_allclose(last.target.position_m, start + moved)
    assert isinstance(outs[6], Hold) and outs[-1].braking is None


def test_an_armed_arm_that_does_not_follow_is_found():
    rig = armed_rig()
    for period in range(12):  # noqa: B007
        rig.tick()
        rig.wait()
        rig.sense()
        if text := rig.loop.disagreement():
            break
    assert "does not follow" in text and (period + 1) * 0.05 <= 0.3


def test_an_armed_arm_whose_pose_jumped_is_found_and_a_glitch_is_not():
    for periods, wrong in ((2, False), (8, True)):
        rig = armed_rig()
        place = rig.position
        found = []
        for period in range(12):
            rig.wait()
            rig.see()
            at = place + ([0.3, 0, 0] if period < periods else 0)
            state = EndEffector(rig.now, np.asarray(at, float), np.array([0, 0, 0, 1.0]))
            try:
                rig.loop.set_state(state, np.zeros(8, np.float32))
            except BadInput:
                assert isinstance(rig.tick(), Hold)
            found.append(rig.loop.disagreement())
        assert any(found) == wrong
        if wrong:
            text = next(filter(None, found))
            assert "the pose has not been possible for 0.2" in text and "moved by 0.300 m" in text


def test_an_arm_outside_the_box_or_under_way_is_not_armed():
    rig = Rig()
    rig.position = np.array([0.9, 0.0, 0.3])
    rig.sense()
    [text] = rig.loop.obstacles(rig.now)
    assert "outside the workspace: x 0.900 m is above limits.workspace_max (0.8 m)" in text
    rig = Rig()
    for _ in range(3):
        rig.wait()
        rig.sense((0.1, 0, 0))
    [text] = rig.loop.obstacles(rig.now)
    assert "the end effector moves at 0.100 m/s" in text and "stop whatever moves it" in text


def test_after_a_stall_of_the_loop_the_arm_starts_from_rest():
    """The machine was busy for some periods: the arm has stopped meanwhile, whatever it was told last."""
    slow = {"limits.linear_acceleration": 0.5, "limits.linear_jerk": 10.0}
    rig = armed_rig(**slow, **{"pruning.controller.enabled": False})
    for _ in range(4):
        out = rig.tick()
        follow(rig, out)
    fast = np.linalg.norm(out.displacement.translation_m)
    for _ in range(2):
        rig.wait()
        rig.sense()
    first = np.linalg.norm(rig.tick().displacement.translation_m)
    assert fast > 0.0025 and first <= 0.5 * 0.05**2 + 1e-9, (fast, first)


def test_disarmed_nobody_is_watched():
    rig = armed_rig()
    rig.loop.drive.release()
    for _ in range(20):
        rig.tick()
        rig.wait()
        rig.sense()
        assert rig.loop.disagreement() is None


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
