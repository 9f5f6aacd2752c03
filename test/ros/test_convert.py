"""Messages to arrays and back, and the units of actions. Encodings themselves: test/unit/test_pixels.py."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

pytest.importorskip("rclpy")

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from specprune_ros.config import Config
from specprune_ros.observe.joints import proprio
from specprune_ros.ros import convert
from specprune_ros.types import (
    ActionChunk,
    BadInput,
    Command,
    Displacement,
    EndEffector,
    InferenceRequest,
    InferenceResult,
    Mode,
    Motion,
    Observation,
    PolicyMemory,
    PruningReport,
)

TOPIC = "/camera/wrist/color/image_raw"
STAMP = convert.header(12_000_000_345, "fr3_link0")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(encoding, pad=0):
    """PIXELS in an encoding, pixel by pixel, with `pad` bytes of rubbish after each row."""
    pick = {
        "rgb8": lambda r, g, b: (r, g, b),
        "bgr8": lambda r, g, b: (b, g, r),
        "rgba8": lambda r, g, b: (r, g, b, 77),
        "bgra8": lambda r, g, b: (b, g, r, 77),
        "mono8": lambda r, g, b: (r,),
    }[encoding]
    rows = [bytes(value for pixel in row for value in pick(*pixel)) + b"\xaa" * pad for row in PIXELS.tolist()]
    height, width = PIXELS.shape[:2]
    return Image(header=STAMP, height=height, width=width, encoding=encoding, step=len(rows[0]), data=b"".join(rows))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_raw_messages_become_rgb(encoding):
    expected = np.repeat(PIXELS[:, :, :1], 3, axis=2) if encoding == "mono8" else PIXELS
    got = convert.rgb(encoded(encoding, pad=3), TOPIC)
    assert got.dtype == np.uint8 and got.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(got, expected)


def test_the_order_of_bytes_is_the_messages():
    deep = np.array([[[258, 3, 70]]])
    for big in (0, 1):
        data = deep.astype(">u2" if big else "<u2").tobytes()
        message = Image(header=STAMP, height=1, width=1, encoding="rgb16", step=6, is_bigendian=big, data=data)
        np.testing.assert_array_equal(convert.rgb(message, TOPIC), [[[1, 0, 0]]])
    message = encoded("bgr8")
    message.is_bigendian = 1  # means nothing for bytes
    np.testing.assert_array_equal(convert.rgb(message, TOPIC), PIXELS)


def packed(kind, format_name):
    data = cv2.imencode(kind, PIXELS[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    return CompressedImage(header=STAMP, format=format_name, data=data)


def test_compressed_messages_become_rgb_whatever_their_format_says():
    np.testing.assert_array_equal(convert.rgb(packed(".png", "jpeg"), TOPIC), PIXELS)
    assert convert.rgb(packed(".jpg", "rgb8; jpeg compressed bgr8"), TOPIC).shape == PIXELS.shape


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Image(encoding="16UC1", height=1, width=1, step=2, data=bytes(2)), "'16UC1' is not supported.*depth"),
        (Image(encoding="rgb8", height=5, width=7, step=21, data=bytes(104)), "104 bytes; 5 rows of 21 bytes need 105"),
        (CompressedImage(format="jpeg", data=b""), "0 bytes are no complete JPEG or PNG"),
        (
            CompressedImage(format="h264", data=b"\0\0\0\1\x67abc"),
            "an H.264 video stream .format 'h264'.; only JPEG and",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_topic(message, text):
    with pytest.raises(BadInput, match=f"{TOPIC}: .*{text}"):
        convert.rgb(message, TOPIC)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 999_999_999), st.sampled_from([Image, CompressedImage]))
def test_a_stamp_is_read_without_the_rest(seconds, nanoseconds, kind):
    message = kind()
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    raw = serialize_message(message)
    assert convert.peeked_stamp_ns(raw) == seconds * 10**9 + nanoseconds
    swapped = raw[:1] + b"\0" + raw[2:4] + raw[4:8][::-1] + raw[8:12][::-1]
    assert convert.peeked_stamp_ns(swapped) == seconds * 10**9 + nanoseconds


def test_images_survive_the_round_trip():
    message = convert.image(PIXELS[:, ::-1], STAMP)  # a view with negative strides
    assert message.header.stamp.sec == 12 and message.header.stamp.nanosec == 345
    np.testing.assert_array_equal(convert.rgb(message, TOPIC), PIXELS[:, ::-1])


def test_a_missing_stamp_is_refused():
    assert convert.stamp_ns(STAMP, TOPIC) == 12_000_000_345
    with pytest.raises(BadInput, match=f"{TOPIC}: .*no time stamp"):
        convert.stamp_ns(convert.header(0, "x"), TOPIC)


def measured(position=(0.5, -0.1, 0.3), quaternion=(0.6, 0.0, 0.8, 0.0)):
    return EndEffector(5_000_000_007, np.array(position), np.array(quaternion))


def test_poses_survive_the_round_trip():
    back = convert.end_effector(convert.pose(measured(), "fr3_link0"), "fr3_link0", "/pose")
    assert back.stamp_ns == 5_000_000_007
    np.testing.assert_array_equal(back.position_m, measured().position_m)
    np.testing.assert_array_equal(back.quaternion_xyzw, measured().quaternion_xyzw)


def test_a_pose_in_another_frame_is_refused():
    with pytest.raises(BadInput, match="/pose: .*'world', expected 'fr3_link0'.*robot.base_frame"):
        convert.end_effector(convert.pose(measured(), "world"), "fr3_link0", "/pose")


def test_a_transform_is_the_pose_of_its_child():
    message = TransformStamped(header=STAMP, child_frame_id="hand")
    message.transform.translation.y, message.transform.rotation.x, message.transform.rotation.w = -0.25, 1.0, 0.0
    got = convert.transformed(message, "TF base -> hand")
    assert got.stamp_ns == 12_000_000_345
    np.testing.assert_array_equal(got.position_m, [0.0, -0.25, 0.0])
    np.testing.assert_array_equal(got.quaternion_xyzw, [1.0, 0.0, 0.0, 0.0])


def test_proprio_is_what_the_policy_was_trained_on():
    """The state the simulator records in demonstrations, out of what it publishes."""
    mujoco_env = pytest.importorskip("specprune_ros.sim.env")
    env = mujoco_env.TabletopEnv(render=False)
    for seed in range(3):
        env.reset(seed)
        for _ in range(4):
            state = env.step(np.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.6, 0.0]))
        pose = EndEffector(1, state.ee_position_m, state.ee_quaternion_xyzw)
        ours = proprio(convert.end_effector(convert.pose(pose, "b"), "b", "/pose"), state.finger_positions_m)
        np.testing.assert_array_equal(ours, env.proprio())


MOTION = Displacement(np.array([0.05, -0.025, 0.0125]), np.array([0.05, -0.5, 0.0]), 0.75)


def test_commands_go_out_and_come_back():
    message = convert.command(Command(MOTION, chunk_id=9, step=3, chunk_age=0.1), 0.05, STAMP)
    assert (message.translation.x, message.translation.y) == (0.05, -0.025)
    assert (message.rotation.x, message.rotation.y) == (0.05, -0.5)
    assert (message.gripper, message.period, message.chunk_id, message.step) == (0.75, 0.05, 9, 3)
    back = convert.displacement(message, 0.05, "fr3_link0", "/a")
    np.testing.assert_array_equal(back.translation_m, MOTION.translation_m)
    np.testing.assert_array_equal(back.rotation_rad, MOTION.rotation_rad)
    assert back.gripper == MOTION.gripper


def test_twists_carry_velocities():
    message = convert.twist(np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]), STAMP)
    assert (message.twist.linear.y, message.twist.angular.z, message.header.frame_id) == (0.2, 3.0, "fr3_link0")


@pytest.mark.parametrize("part", ["x", "gripper"])
def test_actions_that_are_not_finite_are_refused(part):
    message = convert.stop(0.5, 0.05, STAMP)
    setattr(message if part == "gripper" else message.rotation, part, math.nan)
    with pytest.raises(BadInput, match="/a: the action is not finite"):
        convert.displacement(message, 0.05, "fr3_link0", "/a")


def test_actions_for_another_period_or_frame_are_refused():
    message = convert.stop(0.5, 0.1, STAMP)
    with pytest.raises(BadInput, match="/a: the action is for 0.1 s, expected 0.05 s"):
        convert.displacement(message, 0.05, "fr3_link0", "/a")
    with pytest.raises(BadInput, match="/a: the action is in frame 'fr3_link0', expected 'base'"):
        convert.displacement(message, 0.1, "base", "/a")


def test_a_stop_moves_nothing_and_keeps_the_gripper():
    motion = convert.displacement(convert.stop(0.25, 0.05, STAMP), 0.05, "fr3_link0", "/a")
    assert not motion.translation_m.any() and not motion.rotation_rad.any() and motion.gripper == 0.25


def test_a_chunk_names_the_time_of_every_step():
    predicted = ActionChunk(4, 1_970_000_000, np.zeros((3, 7)), Mode.COARSE, "pick up the red cube")
    message = convert.chunk(predicted, [MOTION] * 3, 0.05, "fr3_link0")
    assert (message.chunk_id, message.mode, message.instruction) == (4, "coarse", "pick up the red cube")
    stamps = [convert.stamp_ns(step.header, "/chunk") for step in message.actions]
    assert stamps == [1_970_000_000, 2_020_000_000, 2_070_000_000]
    assert [step.step for step in message.actions] == [0, 1, 2]
    assert message.actions[2].gripper == 0.75


CONFIG = Config().updated({"topics.images": ["/third", "/wrist"], "pruning.aggressiveness": 0.4})


def result(motion, **changes):
    """Inference 3, asked for when one deadline had been missed."""
    images = (np.zeros((16, 16, 3), np.uint8),) * 2
    observation = Observation(2_000_000_000, images, None, "move", motion)
    request = InferenceRequest(3, observation, None, 0, Mode.FINE, None, CONFIG.pruning, misses_before=1)
    chunk = ActionChunk(3, observation.stamp_ns, np.zeros((8, 7)), Mode.FINE, "move")
    return InferenceResult(request, chunk, report(**changes), PolicyMemory(None, "move", observation.stamp_ns))


def report(**changes):
    values = {
        "mode": Mode.FINE,
        "aggressiveness": 0.5,
        "tokens_total": 512,
        "tokens_kept": 151,
        "total_per_view": (256, 256),
        "kept_static_per_view": (100, 90),
        "kept_dynamic_per_view": (80, 71),
        "from_global_per_view": (30, 31),
        "from_dynamic_per_view": (20, 10),
        "from_local_per_view": (40, 42),
        "from_fill_per_view": (10, 7),
        "frame_offset": 11,
        "used_last_attention": True,
        "layer_lengths": (),
        "stage_ms": {"preprocess": 1.0, "vision": 2.0, "selection": 0.5, "decoder": 4.0, "head": 0.25, "total": 8.0},
        "kept": np.zeros(512, np.uint8),
    }
    return PruningReport(**{**values, **changes})


def test_a_status_carries_the_whole_report():
    message = convert.status(result(Motion(0.5, 0.25, -0.125)), CONFIG, deadline_misses=2, now_ns=2_250_000_000)
    assert (message.mode, message.aggressiveness, message.tokens_total, message.tokens_kept) == ("fine", 0.5, 512, 151)
    assert list(message.views) == ["third", "wrist"] and message.preset == "custom"
    assert (message.chunk_id, message.chunk_age, message.header.frame_id) == (3, 0.25, "fr3_link0")
    assert (message.deadline_misses, message.deadline_missed) == (2, True)
    assert not convert.status(result(None), CONFIG, deadline_misses=1, now_ns=2_250_000_000).deadline_missed
    assert list(message.kept_static_per_view) == [100, 90] and list(message.kept_dynamic_per_view) == [80, 71]
    assert list(message.from_global_per_view) == [30, 31] and list(message.from_fill_per_view) == [10, 7]
    assert (message.decoder_ms, message.total_ms, message.frame_offset) == (4.0, 8.0, 11)
    assert message.used_last_attention
    assert (message.ee_linear, message.ee_angular, message.ee_dz) == (0.5, 0.25, -0.125)
    physical = (message.ee_linear_speed, message.ee_angular_speed, message.ee_vertical_speed)
    assert physical == pytest.approx((0.5 * 0.05 * 20, 0.25 * 0.5 * 20, -0.125 * 0.05 * 20))  # [m/s], [rad/s], [m/s]


def test_unknown_motion_is_nan_and_untimed_stages_are_zero():
    message = convert.status(result(None, stage_ms={}), CONFIG, 0, 2_250_000_000)
    assert math.isnan(message.ee_linear) and math.isnan(message.ee_dz) and math.isnan(message.ee_angular_speed)
    assert message.decoder_ms == 0.0 and message.total_ms == 0.0
