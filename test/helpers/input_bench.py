"""The input side of the policy node on a wire: a Franka on a smooth way, its cameras, and the control loop behind."""

import itertools
import math

from geometry_msgs.msg import TransformStamped
from pictures import seen
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from wire import Wire

from specprune_ros.config import Config, Topics
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.kinematics import ForwardKinematics
from specprune_ros.observe.motion import speed
from specprune_ros.ros import convert
from specprune_ros.ros.inputs import InputStreams
from specprune_ros.sim.panda import robot_urdf

MS = 1_000_000
START = 100_000 * MS
BASE, HAND = "fr3_link0", "fr3_hand_tcp"
ARM = [f"fr3_joint{i}" for i in range(1, 8)]
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]
TOPICS = Topics()
KINEMATICS = ForwardKinematics(robot_urdf(), HAND, BASE)


class Arm:
    """Everything that could be published about the arm at a time [ns]."""

    def __init__(self, wire):
        self.wire = wire
        self._pictures = itertools.count()

    def angles(self, time_ns):
        s = (time_ns - START) * 1e-9
        return [
            0.4 * math.sin(2 * s),
            0.2 * math.sin(3 * s),
            0.0,
            -2.2 + 0.3 * math.sin(2 * s),
            0.0,
            2.2,
            0.8 + 0.5 * s,
        ]

    def pose(self, time_ns):
        return KINEMATICS.pose(ARM, self.angles(time_ns), time_ns)

    def say_pose(self, time_ns, publisher="driver"):
        self.wire.publish(TOPICS.ee_pose, convert.pose(self.pose(time_ns), BASE), publisher)

    def joints(self, time_ns, names=(*ARM, *FINGERS)):
        values = dict(zip(ARM, self.angles(time_ns), strict=True)) | dict.fromkeys(FINGERS, 0.02)
        positions = [values[name] for name in names]
        return JointState(header=convert.header(time_ns, ""), name=list(names), position=positions)

    def say_joints(self, time_ns, names=(*ARM, *FINGERS), topic=TOPICS.joint_states, publisher="driver"):
        self.wire.publish(topic, self.joints(time_ns, names), publisher)

    def transform(self, time_ns):
        message, pose = TransformStamped(header=convert.header(time_ns, BASE), child_frame_id=HAND), self.pose(time_ns)
        at, turned = message.transform.translation, message.transform.rotation
        at.x, at.y, at.z = map(float, pose.position_m)
        turned.x, turned.y, turned.z, turned.w = map(float, pose.quaternion_xyzw)
        return message

    def image(self, time_ns):
        """No two are alike."""
        return convert.image(seen(16, 16, next(self._pictures)), convert.header(time_ns, ""))

    def say_images(self, time_ns):
        for topic in TOPICS.images:
            self.wire.publish(topic, self.image(time_ns))

    def say_description(self, text=None):
        self.wire.publish(TOPICS.robot_description, String(data=text or robot_urdf()))


class Bench:
    """Inputs, a wire to publish on, and the loop that is fed."""

    def __init__(self, with_proprio=True, wire=None, **parameters):
        self.config = Config().updated({name.replace("__", "."): value for name, value in parameters.items()})
        self.wire = wire or Wire()
        self.arm = Arm(self.wire)
        self.inputs = InputStreams(self.wire, self.config, with_proprio)
        self.loop = ControlLoop(self.config, len(self.config.topics.images), 8, 8 if with_proprio else 0)
        self.loop.set_instruction("move")

    def feed(self, now_ns):
        self.inputs.feed(self.loop, now_ns)

    def problem(self, now_ns):
        self.feed(now_ns)
        return self.loop.blocked(now_ns) or ""

    def speed(self):
        return speed(self.loop.motion, self.config.action, self.config.control.rate)


def started(**parameters):
    """All is well: a bench that has seen images and a pose."""
    bench = Bench(with_proprio=False, **parameters)
    bench.arm.say_images(START)
    bench.arm.say_pose(START)
    assert bench.problem(START) == ""
    return bench


def image(pixels, time_ns=START):
    return convert.image(pixels, convert.header(time_ns, ""))
