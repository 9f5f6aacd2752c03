"""A robot driver or a camera in a process of its own, which a test can kill. Run as a script:

driver.py pose RATE_HZ | joints RATE_HZ | camera RATE_HZ TOPIC WIDTH HEIGHT reliable|best_effort
"""

import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import rclpy
from geometry_msgs.msg import PoseStamped
from pictures import seen
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from ros_helpers import ARM, FINGERS, POSTURE_RAD
from sensor_msgs.msg import JointState

from specprune_ros.config import Topics
from specprune_ros.ros import convert, qos


def pose():
    message = PoseStamped()
    message.header.frame_id = "fr3_link0"
    message.pose.position.x, message.pose.position.z = 0.4, 0.3
    message.pose.orientation.x, message.pose.orientation.w = 1.0, 0.0
    return Topics().ee_pose, qos.POSE_OUT, [message]


def joints():
    message = JointState(name=[*ARM, *FINGERS], position=[*POSTURE_RAD, 0.04, 0.04])
    return Topics().joint_states, qos.SENSOR_OUT, [message]


def camera(topic, width, height, reliability):
    pictures = [convert.image(seen(int(height), int(width), frame), convert.header(1, "")) for frame in range(3)]
    return topic, qos.with_reliability(qos.EVENTS, reliability == "reliable"), pictures


def main(what, rate_hz, *arguments):
    topic, profile, messages = {"pose": pose, "joints": joints, "camera": camera}[what](*arguments)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f"{what}_driver")
    publisher = node.create_publisher(type(messages[0]), topic, profile)
    packed = [bytearray(serialize_message(message)) for message in messages]
    count, due_s = 0, time.monotonic()
    while True:
        message, now_ns = packed[count % len(packed)], time.time_ns()
        struct.pack_into("<iI", message, 4, *divmod(now_ns, 1_000_000_000))
        publisher.publish(bytes(message))
        count, due_s = count + 1, due_s + 1.0 / float(rate_hz)
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
