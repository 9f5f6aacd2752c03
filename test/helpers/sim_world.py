"""The simulator node on a graph of its own, seen from outside."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64, String

from specprune_ros.config import Topics
from specprune_ros.msg import Action
from specprune_ros.ros import convert, qos
from specprune_ros.srv import ResetSim
from specprune_ros.types import Displacement

SIM = ("-m", "specprune_ros.ros.sim_node")
MODULE_SEED = 3


class World:
    """A running simulator and the newest of everything it says."""

    def __init__(self, graph, kind=Action, topic="/policy_node/action", namespace="", **parameters):
        """namespace: of the simulator and, where there is one, of all its topics."""
        self.graph, self.namespace = graph, namespace
        self.own_time = parameters.get("publish_clock", False)
        topics = Topics()
        self.images = [graph.listen(Image, namespace + topic, qos.SENSOR_IN) for topic in topics.images]
        self.poses = graph.listen(PoseStamped, namespace + topics.ee_pose, qos.SENSOR_IN)
        self.joints = graph.listen(JointState, namespace + topics.joint_states, qos.SENSOR_IN)
        self.description = graph.listen(String, namespace + topics.robot_description, qos.LATCHED)
        self.instructions = graph.listen(String, f"{namespace}/sim_node/instruction")
        self.tasks = graph.listen(String, f"{namespace}/sim_node/task", qos.LATCHED)
        self.command = graph.node.create_publisher(kind, namespace + topic, qos.EVENTS)
        self.gripper = graph.node.create_publisher(Float64, f"{namespace}/policy_node/gripper", qos.LATCHED)
        named = ("--ros-args", "-r", f"__ns:={namespace}") if namespace else ()
        self.process = graph.start(*SIM, *named, **{"seed": MODULE_SEED, **parameters})
        graph.until(lambda: self.poses and self.command.get_subscription_count(), what="the simulator")

    def position(self):
        """The TCP position in a pose measured from now on."""
        seen = len(self.poses)
        self.graph.until(lambda: len(self.poses) > seen, what="a pose")
        at = self.poses[-1].pose.position
        return np.array([at.x, at.y, at.z])

    def act(self, *, x=0.0, frame="fr3_link0", period=0.05, count=1):
        """Sends actions of x action units, one per pose."""
        for _ in range(count):
            stamp = convert.header(self.graph.node.get_clock().now().nanoseconds, frame)
            motion = Displacement(np.array([0.05 * x, 0.0, 0.0]), np.zeros(3), 1.0)
            self.command.publish(convert.action(motion, period, stamp))
            self.position()

    def header(self, frame="fr3_link0", age_s=0.0):
        """As if said `age_s` ago, by the simulator's clock."""
        now_ns = self.graph.node.get_clock().now().nanoseconds
        if self.own_time:
            now_ns = convert.stamp_ns(self.poses[-1].header, "")
        return convert.header(now_ns - round(age_s * 1e9), frame)

    def refuses(self, message, reason):
        """Publishes it twice: nothing moves, and the log says why."""
        before = self.position()
        for _ in range(2):
            self.command.publish(message)
            self.position()
        np.testing.assert_allclose(self.position(), before, atol=1e-3)
        assert "refused" in self.process.text() and reason in self.process.text()

    def fingers(self, position_m):
        self.graph.until(
            lambda: abs(self.joints[-1].position[-1] - position_m) < 2e-3, what=f"fingers at {position_m} m"
        )

    def reset(self, seed, suite=""):
        """The answer to a reset; returns when the new episode shows."""
        self.instructions.clear()
        request = ResetSim.Request(seed=seed, suite=suite)
        answer = self.graph.call(ResetSim, f"{self.namespace}/sim_node/reset", request)
        if answer.success:
            begun = ["", answer.instruction]
            self.graph.until(lambda: [text.data for text in self.instructions][-2:] == begun, what="the new task")
        return answer
