"""Pose and fingers from every source: the same motion from all, whoever publishes which part, and what is said when it
is missing."""

import importlib
import itertools
import math
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

import fake_tf2
import rclpy
from domains import own_domain
from input_bench import ARM, BASE, FINGERS, MS, START, TOPICS, Bench
from sensor_msgs.msg import JointState

from specprune_ros.config import Config, ConfigError
from specprune_ros.ros import convert
from specprune_ros.ros.state_sources import check_available


def tf2_modules():
    try:
        return ["fake", importlib.import_module("tf2_ros")]
    except ImportError:
        return ["fake", pytest.param(None, marks=pytest.mark.skip(reason="tf2_ros is not installed"))]


@pytest.fixture(params=tf2_modules(), ids=["fake tf2_ros", "tf2_ros"])
def tf2(request, monkeypatch):
    module = fake_tf2 if request.param == "fake" else request.param
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    buffers = []

    class Buffer(module.Buffer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            buffers.append(self)

    monkeypatch.setattr(module, "Buffer", Buffer)
    return lambda transform: buffers[-1].set_transform(transform, "test")


def follow(bench, say, period_ms=33, until_ms=1500):
    """Cameras at 20 Hz, the state every `period_ms`; the speeds after each control period of the last second."""
    speeds = []
    for ms in range(until_ms + 1):
        now_ns = START + ms * MS
        if ms % period_ms == 0:
            say(now_ns)
        if ms % 50 == 0:
            bench.arm.say_images(now_ns)
            bench.feed(now_ns)
            if ms >= until_ms - 1000:
                speeds.append(bench.speed())
    return np.array(speeds)


def true_speeds(arm, until_ms=1500, behind_ms=0):
    """The same by small differences: (periods, 3), each over the period that just passed."""
    result = []
    for ms in range(until_ms - 1000, until_ms + 1, 50):
        times = [START + (ms - behind_ms - 50 + 5 * i) * MS for i in range(11)]
        poses = [arm.pose(time) for time in times]
        moved = sum(math.dist(a.position_m, b.position_m) for a, b in itertools.pairwise(poses))
        turned = sum(
            2 * math.acos(min(1.0, abs(float(a.quaternion_xyzw @ b.quaternion_xyzw))))
            for a, b in itertools.pairwise(poses)
        )
        result.append((moved / 0.05, turned / 0.05, (poses[-1].position_m[2] - poses[0].position_m[2]) / 0.05))
    return np.array(result)


def ee_pose(_):
    bench = Bench(with_proprio=False)
    return bench, bench.arm.say_pose


def joints(_):
    bench = Bench(robot__state_source="joints")
    bench.arm.say_description()
    return bench, bench.arm.say_joints


def joints_in_parts(_):
    bench = Bench(robot__state_source="joints", topics__finger_states="/hand/joint_states")
    bench.arm.say_description()

    def say(now_ns):
        bench.arm.say_joints(now_ns, ARM[:3])
        bench.arm.say_joints(now_ns, ARM[3:])
        bench.arm.say_joints(now_ns, FINGERS, "/hand/joint_states")

    return bench, say


def transforms(tf2):
    bench = Bench(robot__state_source="tf", with_proprio=False)
    return bench, lambda now_ns: tf2(bench.arm.transform(now_ns))


@pytest.mark.parametrize("source", [ee_pose, joints, joints_in_parts, transforms])
def test_every_source_measures_the_same_motion(source, tf2):
    bench, say = source(tf2)
    measured = follow(bench, say)
    # Each source is a little behind, by at most one of its own periods and, with TF, one of the cameras'.
    errors = [
        np.abs(measured - true_speeds(bench.arm, behind_ms=behind_ms)).max(axis=0) for behind_ms in range(0, 100, 10)
    ]
    assert np.min(errors, axis=0).max() < 0.03  # [m/s], [rad/s]; the speeds are up to 0.5 m/s and 1.3 rad/s
    averages = measured.mean(axis=0)
    assert averages == pytest.approx(true_speeds(bench.arm, behind_ms=25).mean(axis=0), rel=0.05, abs=0.01)
    assert measured[:, 0].max() > 0.4 and measured[:, 1].max() > 0.8  # [m/s], [rad/s]: it does move


def test_jitter_and_repeated_stamps_do_not_disturb_the_measured_speed():
    """A 100 Hz driver whose stamps are up to 2 ms off, and that says everything twice."""
    random = np.random.default_rng(0)
    bench, _ = ee_pose(None)

    def say(now_ns):
        pose = bench.arm.pose(now_ns)
        late = convert.pose(pose, BASE)
        late.header = convert.header(now_ns + int(random.integers(-2 * MS, 2 * MS)), BASE)
        for _ in range(2):
            bench.wire.publish(TOPICS.ee_pose, late)

    measured, exact = follow(bench, say, period_ms=10), true_speeds(bench.arm)
    assert (np.abs(measured - exact).max(axis=0) < [0.05, 0.1, 0.05]).all()
    assert measured.mean(axis=0) == pytest.approx(exact.mean(axis=0), rel=0.01, abs=0.005)


def test_tf_is_looked_up_at_the_stamp_of_an_image_also_when_it_comes_late(tf2):
    bench, say = transforms(tf2)
    stamps, delay_ms, every_ms = [], 70, 30
    for ms in range(1000):
        now_ns = START + ms * MS
        if ms % every_ms == 0 and ms >= delay_ms:
            say(now_ns - delay_ms * MS)
        if ms % 50 == 0:
            bench.arm.say_images(now_ns)
            bench.feed(now_ns)
            if bench.loop.measured:
                stamps.append(bench.loop.measured.stamp_ns)
                expected = bench.arm.pose(stamps[-1]).position_m
                np.testing.assert_allclose(bench.loop.measured.position_m, expected, atol=2e-3)  # tf2 interpolates
                assert (now_ns - stamps[-1]) <= (delay_ms + every_ms + 50) * MS
    assert len(stamps) > 12 and all((stamp - START) % (50 * MS) == 0 for stamp in stamps)
    assert bench.loop.blocked(START + 1000 * MS) is None


def test_missing_frames_and_late_transforms_are_named(tf2):
    bench, say = transforms(tf2)
    bench.arm.say_images(START)
    assert "robot_state_publisher" in bench.problem(START) and BASE in bench.problem(START)
    say(START)
    assert bench.problem(START) == ""
    for ms in range(50, 600, 50):
        bench.arm.say_images(START + ms * MS)
        problem = bench.problem(START + ms * MS)
        # While the last pose is young enough, all is well; then the reason says what is missing.
        assert (problem == "") == (ms <= 300)
    assert "no transform at the stamps of the images" in problem and "extrapolation" in problem
    say(START + 600 * MS)
    assert bench.problem(START + 600 * MS) == ""


def test_tf_starts_over_when_the_clock_jumps_back(tf2):
    bench, say = transforms(tf2)
    follow(bench, say, until_ms=1200)
    back_ns = START - 60_000 * MS
    bench.arm.say_images(back_ns)
    bench.feed(back_ns)
    for ms in (0, 50, 100):
        say(back_ns + ms * MS)
        bench.arm.say_images(back_ns + ms * MS)
        bench.feed(back_ns + ms * MS)
    assert bench.loop.measured.stamp_ns == back_ns + 100 * MS
    assert bench.problem(back_ns + 100 * MS) == ""


def test_tf_listens_no_longer_when_closed(tf2):
    bench, _ = transforms(tf2)
    bench.inputs.close()
    assert bench.wire.callbacks == {} and bench.wire.queues == {}


def test_without_tf2_ros_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    check_available(Config())
    with pytest.raises(ConfigError, match="robot.state_source: tf needs .*apt install ros-kilted-tf2-ros-py.*ee_pose"):
        check_available(Config().updated({"robot.state_source": "tf"}))


def test_tf2_ros_is_looked_for_before_the_policy_is_loaded(monkeypatch):
    """All weights were read first, for minutes."""
    pytest.importorskip("specprune_ros.msg")
    from specprune_ros.ros import policy_node, run

    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    monkeypatch.setattr(policy_node.ModelHost, "begin", lambda *_: pytest.fail("a policy is loaded"))
    rclpy.init(args=["--ros-args", "-p", "robot.state_source:=tf"], domain_id=own_domain())
    monkeypatch.setattr(run, "_arguments", [])
    try:
        with pytest.raises(ConfigError, match="robot.state_source: tf needs the package tf2_ros"):
            policy_node.PolicyNode()
    finally:
        rclpy.shutdown()


def test_a_publisher_of_a_part_that_died_is_named():
    bench, say = joints_in_parts(None)
    say(START)
    bench.arm.say_images(START)
    assert bench.problem(START) == ""
    for ms in range(50, 600, 50):
        bench.arm.say_images(START + ms * MS)
        bench.arm.say_joints(START + ms * MS, ARM[:3])
        bench.arm.say_joints(START + ms * MS, FINGERS, "/hand/joint_states")
        problem = bench.problem(START + ms * MS)
    assert "/joint_states and /hand/joint_states: fr3_joint4 is 0.55 s older than the other joints" in problem


def test_joints_of_other_robots_do_not_matter():
    bench, say = joints(None)
    say(START)
    wheels = JointState(header=convert.header(START, ""), name=["wheel1", "wheel2"], position=[math.nan])
    bench.wire.publish(TOPICS.joint_states, wheels)
    bench.wire.publish(TOPICS.joint_states, JointState(header=wheels.header, name=ARM, velocity=[0.0] * 7))
    bench.arm.say_images(START)
    assert bench.problem(START) == ""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"position": [0.0]}, "9 joint names but 1 positions"),
        ({"position": [math.nan] * 9}, "position of fr3_joint1 is nan, not finite"),
        ({"name": [f"panda{i}" for i in range(9)]}, "no position of joint fr3_joint1, .*heard so far: panda0"),
        ({"header": convert.header(0, "")}, "no time stamp"),
    ],
)
def test_joint_states_that_cannot_be_used_are_named_until_good_ones_come(change, text):
    bench, say = joints(None)
    bench.arm.say_images(START)
    bad = {"header": convert.header(START, ""), "name": [*ARM, *FINGERS], "position": [0.0] * 9} | change
    bench.wire.publish(TOPICS.joint_states, JointState(**bad))
    problem = bench.problem(START)
    assert problem.startswith("robot state (/joint_states) was refused: /joint_states: ")
    assert np.all([part in problem for part in text.split(".*")])
    say(START + 10 * MS)
    assert bench.problem(START + 10 * MS) == ""


def test_fingers_are_needed_only_by_a_policy_with_proprio():
    blind, seeing = Bench(with_proprio=False), Bench()
    assert TOPICS.joint_states not in blind.wire.queues
    for bench in (blind, seeing):
        bench.arm.say_images(START)
        bench.arm.say_pose(START)
    assert blind.problem(START) == ""
    assert "no position of joint fr3_finger_joint1, fr3_finger_joint2; heard so far: none" in seeing.problem(START)
    assert {stream.topic for stream in blind.inputs.streams()} == {*TOPICS.images, TOPICS.ee_pose}
