"""A live ROS graph for one test: its own domain, nodes as separate processes, and a robot made of three topics."""

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from domains import own_domain
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from specprune_ros.bench.faults.robot import START_M, StandInRobot
from specprune_ros.ros import convert, qos
from specprune_ros.sim.settings import SIMULATION

ARM = [f"fr3_joint{i}" for i in range(1, 8)]
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]
POSTURE_RAD = (0.0, 0.0, 0.0, -2.2, 0.0, 2.2, 0.8)
STUB = Path(__file__).with_name("stub_policy_node.py")
SIMULATED = {name.replace(".", "__"): value for name, value in SIMULATION.items()} | {"supervision__enabled": False}
"""Wide limits, armed by itself, and the arm may stand still: for tests that are about something else."""

PATIENCE_S = float(os.environ.get("SPECPRUNE_TEST_PATIENCE_S", "90"))
"""Only ever spent on a machine that is busy with other things: conditions are met in a second or two."""
_numbers = itertools.count()


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
        self.domain = own_domain()
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


class Robot(StandInRobot):
    """The stand-in robot of `specprune bench --faults`, with the system's time or a simulated one."""

    START = START_M

    def __init__(self, graph, clock=None):
        """clock: SimulatedTime to stamp with and to advance, instead of the system's."""
        self._simulated = clock
        super().__init__(graph.node, clock and (lambda: clock.now_ns))

    def publish(self):
        super().publish()
        if self._simulated:
            self._simulated.advance()


NAN = math.nan
