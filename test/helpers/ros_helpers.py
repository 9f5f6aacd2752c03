"""A live ROS graph for one test: its own domain, nodes as separate processes, and a robot made of three topics."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from pictures import seen
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from specprune_ros import rotation
from specprune_ros.config import Topics
from specprune_ros.ros import convert, qos
from specprune_ros.sim.settings import SIMULATION
from specprune_ros.types import EndEffector

ARM = [f"fr3_joint{i}" for i in range(1, 8)]
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]
POSTURE_RAD = (0.0, 0.0, 0.0, -2.2, 0.0, 2.2, 0.8)
STUB = Path(__file__).with_name("stub_policy_node.py")
SIMULATED = {name.replace(".", "__"): value for name, value in SIMULATION.items()}
"""Wide limits, armed by itself: for tests that are about something else."""

PATIENCE_S = float(os.environ.get("SPECPRUNE_TEST_PATIENCE_S", "90"))
"""Only ever spent on a machine that is busy with other things: conditions are met in a second or two."""
_numbers = itertools.count(os.getpid())


class Process:
    """A node in a process of its own, with what it printed."""

    def __init__(self, command, parameters, domain, cwd):
        self.log = Path(cwd) / f"node{next(_numbers)}.log"
        arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
        with self.log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *command, *(["--ros-args", *arguments] if arguments else [])],
                cwd=cwd,
                env=os.environ | {"ROS_DOMAIN_ID": str(domain)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def text(self):
        return self.log.read_text()

    def signal(self, number=signal.SIGTERM):
        self.popen.send_signal(number)

    def wait(self, seconds=PATIENCE_S):
        return self.popen.wait(seconds)

    def end(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(5)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class Graph:
    """The test's own node, and the processes it started."""

    def __init__(self, cwd):
        self.cwd = cwd
        self.domain = 1 + next(_numbers) % 101
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = rclpy.create_node("test", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.end()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def start(self, *command, **parameters):
        """A node: "-m" and a module, or a script; parameter names with __ for dots."""
        named = {name.replace("__", "."): value for name, value in parameters.items()}
        self.processes.append(Process(command, named, self.domain, self.cwd))
        return self.processes[-1]

    def start_stub(self, **parameters):
        return self.start(str(STUB), **{**SIMULATED, **parameters})

    def listen(self, kind, topic, profile=qos.EVENTS):
        """A list that grows by every message."""
        received = []
        self.node.create_subscription(kind, topic, received.append, profile)
        return received

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def until(self, condition, seconds=PATIENCE_S, what="the condition"):
        """The first true value of condition(); fails with the logs of all nodes when one crashed or the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(process.popen.poll() for process in self.processes):
            if value := condition():
                return value
            self.executor.spin_once(timeout_sec=0.02)
        logs = "\n".join(f"--- {process.popen.args}\n{process.text()}" for process in self.processes)
        raise AssertionError(f"{what} did not come within {seconds} s\n{logs}")

    def call(self, kind, service, request):
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready, what=service)
        future = client.call_async(request)
        self.until(future.done, what=f"the answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def set(self, node, name, value):
        """The node's answer to one live parameter change."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        [result] = self.call(SetParameters, f"{node}/set_parameters", request).results
        return result


class SimulatedTime:
    """Publishes /clock when asked; `now_ns` may be set to anything."""

    def __init__(self, graph):
        self.now_ns = 1_000_000_000
        self._publisher = graph.node.create_publisher(Clock, "/clock", 1)

    def advance(self):
        self.now_ns += 50_000_000
        self._publisher.publish(Clock(clock=convert.header(self.now_ns, "").stamp))


class Robot:
    """Cameras and an arm at 20 Hz that does what it is told; what is wrong with them can be changed at any time."""

    PERIOD_S = 0.05
    START = (0.4, 0.0, 0.3)

    def __init__(self, graph, clock=None):
        """clock: SimulatedTime to stamp with and to advance, instead of the system's."""
        topics = Topics()
        self._node, self._simulated = graph.node, clock
        self._pictures = itertools.cycle([seen(16, 16, frame).tobytes() for frame in range(7)])
        """With a camera's noise, so that none is like the one before."""
        make = graph.node.create_publisher
        self._cameras = [make(Image, topic, qos.SENSOR_OUT) for topic in topics.images]
        self._pose = make(PoseStamped, topics.ee_pose, qos.POSE_OUT)
        self._joints = make(JointState, topics.joint_states, qos.SENSOR_OUT)
        self.heal()
        self.place(self.START)
        graph.node.create_timer(self.PERIOD_S, self._publish)

    def heal(self):
        self.silent = set()
        self.spoil = {}
        """What is wrong with the messages of a view (index), "pose" or "joints": called with each before it is
        published."""
        self.encoding = "rgb8"
        self.finger = 0.04
        self.frozen = False
        """The arm stands still whatever it is told."""
        self.push = np.zeros(3)
        """A velocity that nobody commanded [m/s]."""
        self.sag = np.zeros(3)
        """A steady error between target and measured position [m]."""

    def place(self, position, turn=(1.0, 0.0, 0.0, 0.0)):
        """Put the arm somewhere, at once."""
        self.placed_s = time.monotonic()
        self._target = np.array(position, float), np.array(turn, float)
        self.position, self.turn = np.array(position, float) + self.sag, np.array(turn, float)

    @property
    def x(self):
        return float(self.position[0])

    @x.setter
    def x(self, value):
        self.place((value, *self.position[1:]), self.turn)

    def obey(self, kind, topic):
        """Follow the commands on a topic: Action, TwistStamped or PoseStamped."""
        self._node.create_subscription(kind, topic, self._on_command, qos.EVENTS)

    def _on_command(self, message):
        position, turn = self._target
        if isinstance(message, PoseStamped):
            end = convert.end_effector(message, "fr3_link0", "target")
            self._target = end.position_m, end.quaternion_xyzw
            return
        if isinstance(message, TwistStamped):
            vectors, scale = (message.twist.linear, message.twist.angular), self.PERIOD_S
        else:
            vectors, scale = (message.translation, message.rotation), 1.0
        moved, turned = (scale * np.array([vector.x, vector.y, vector.z]) for vector in vectors)
        self._target = position + moved, rotation.multiply(rotation.from_rotvec(turned), turn)

    def _move(self):
        """Most of the way to the target, and wherever it is pushed."""
        position, turn = self._target
        if not self.frozen:
            self.position = self.position + 0.7 * (position + self.sag - self.position)
            rest = rotation.difference(turn, self.turn)
            self.turn = rotation.multiply(rotation.from_rotvec(0.7 * rest), self.turn)
            self.turn /= np.linalg.norm(self.turn)
        moved = self.push * self.PERIOD_S
        self.position, self._target = self.position + moved, (position + moved, turn)

    def _publish(self):
        self._move()
        now_ns = self._simulated.now_ns if self._simulated else self._node.get_clock().now().nanoseconds
        stamp = convert.header(now_ns, "").stamp
        for index, publisher in enumerate(self._cameras):
            image = Image(height=16, width=16, step=48, encoding=self.encoding if index == 1 else "rgb8")
            image.data.frombytes(next(self._pictures))
            self._send(index, publisher, image, stamp)
        pose = convert.pose(EndEffector(now_ns, self.position, self.turn), "fr3_link0")
        self._send("pose", self._pose, pose, stamp)
        joints = JointState(name=[*ARM, *FINGERS], position=[*POSTURE_RAD, self.finger, self.finger])
        self._send("joints", self._joints, joints, stamp)
        if self._simulated:
            self._simulated.advance()

    def _send(self, name, publisher, message, stamp):
        message.header.stamp = stamp
        if name in self.spoil:
            self.spoil[name](message)
        if name not in self.silent:
            publisher.publish(message)


NAN = math.nan
