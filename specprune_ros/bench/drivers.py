"""A camera or a robot driver in a process of its own, as fast as real ones: `python -m specprune_ros.bench.drivers`

    pose RATE_HZ | joints RATE_HZ | camera RATE_HZ TOPIC WIDTH HEIGHT reliable|best_effort

The arm that they show stands still. Messages are packed once, so that publishing is nearly all that a driver does."""

from __future__ import annotations

import struct
import sys
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from specprune_ros.bench.faults.robot import ARM, POSTURE_RAD, START_M, START_XYZW
from specprune_ros.config import Robot, Topics
from specprune_ros.ros import convert, qos
from specprune_ros.types import EndEffector

PICTURES = 3
NOISE = 2.0


def pose() -> tuple:
    at = EndEffector(1, np.array(START_M), np.array(START_XYZW))
    message: PoseStamped = convert.pose(at, Robot().base_frame)
    message.header.frame_id = Robot().base_frame
    return Topics().ee_pose, qos.POSE_OUT, [message]


def joints() -> tuple:
    message = JointState(name=[*ARM, *Robot().finger_joints], position=[*POSTURE_RAD, 0.04, 0.04])
    return Topics().joint_states, qos.SENSOR_OUT, [message]


def camera(topic: str, width: str, height: str, reliability: str) -> tuple:
    """A ramp of grey with a camera's noise, a few pictures in turn."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 190, int(width), dtype=np.float32)[None, :, None] + np.zeros((int(height), 1, 3), np.float32)
    pictures = [(ramp + rng.normal(0.0, NOISE, ramp.shape)).astype(np.uint8) for _ in range(PICTURES)]
    messages = [convert.image(picture, convert.header(1, "")) for picture in pictures]
    return topic, qos.with_reliability(qos.EVENTS, reliability == "reliable"), messages


def main(what: str, rate_hz: str, *arguments: str) -> None:
    """Does not return: it is ended by a signal."""
    topic, profile, messages = {"pose": pose, "joints": joints, "camera": camera}[what](*arguments)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f"{what}_driver")
    publisher = node.create_publisher(type(messages[0]), topic, profile)
    packed = [bytearray(serialize_message(message)) for message in messages]
    count, due_s = 0, time.monotonic()
    while True:
        message, now_ns = packed[count % len(packed)], time.time_ns()
        # The stamp is the first thing in each of these messages, after 4 bytes that say how it is packed.
        struct.pack_into("<iI", message, 4, *divmod(now_ns, 1_000_000_000))
        if size := len(getattr(messages[0], "data", ())):  # the last field: no picture is like one before
            struct.pack_into("<I", message, len(message) - size, count)
        publisher.publish(bytes(message))
        count, due_s = count + 1, due_s + 1.0 / float(rate_hz)
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
