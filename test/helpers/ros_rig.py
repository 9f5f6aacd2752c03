"""A policy node with a robot on a live graph, and a watch that judges every message on its command topic."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from ros_helpers import STUB, Robot
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros import rotation
from specprune_ros.config import Limits, Output
from specprune_ros.msg import Action, ActionChunk
from specprune_ros.ros import convert, qos

NODE = "/policy_node"
PERIOD_S = 0.05
FIRST_DAY = {
    f"limits__{name}": getattr(Limits(), name)
    for name in (
        "step_translation",
        "step_rotation",
        "linear_speed",
        "angular_speed",
        "linear_acceleration",
        "angular_acceleration",
    )
} | {"safety__auto_arm": False, "safety__hold_timeout": 30.0}
"""The limits of a first day on a real arm, and arming by hand."""


class Watch:
    """Asserts on every message of a command topic, as it comes in; a violation ends the test that spins."""

    def __init__(self, graph, robot, kind=Action, topic=f"{NODE}/action", period_s=PERIOD_S):
        self._node, self._robot, self._limits, self._period_s = graph.node, robot, Limits(), period_s
        self._before = np.zeros(6)
        self._forbidden_ns = 0
        """Motion with a later stamp is a violation; None while the arm may move."""
        self._last_ns = 0
        self.forward = True
        """Stamps never go back."""
        self.seen = []
        """(stamp [ns], motion (6,) of one period [m, rad], message)"""
        self.topic = topic
        graph.node.create_subscription(kind, topic, self._judge, qos.EVENTS)

    def allow(self):
        self._forbidden_ns = None

    def forbid(self):
        self._forbidden_ns = self._node.get_clock().now().nanoseconds

    def started_anew(self):
        """Another process publishes now."""
        self._before = np.zeros(6)

    def moves(self):
        """Messages that are not rest."""
        return [entry for entry in self.seen if entry[1].any()]

    def assert_at_rest(self):
        """The last messages were a few of rest."""
        rests = 0
        for _, motion, _ in reversed(self.seen):
            if motion.any():
                break
            rests += 1
        assert not self.seen or rests >= 1, "the last message is a motion"
        return rests

    def _judge(self, message):
        stamp_ns, motion = convert.stamp_ns(message.header, "command"), self._motion(message)
        assert message.header.frame_id == "fr3_link0"
        assert np.isfinite(motion).all(), f"not finite: {message}"
        assert stamp_ns >= self._last_ns or not self.forward, "stamps go back"
        if isinstance(message, Action):
            assert 0.0 <= message.gripper <= 1.0, message.gripper
        if motion.any():
            self._judge_motion(stamp_ns, motion)
        self._before, self._last_ns = motion, stamp_ns
        self.seen.append((stamp_ns, motion, message))

    def _judge_motion(self, stamp_ns, motion):
        limits, change = self._limits, motion - self._before
        self._judge_speed(stamp_ns, motion)
        for part, acceleration in (
            (slice(0, 3), limits.linear_acceleration),
            (slice(3, 6), limits.angular_acceleration),
        ):
            assert np.linalg.norm(change[part]) <= acceleration * self._period_s**2 + 1e-6, (
                f"{self._before} -> {motion} is too sudden"
            )
        self._judge_place(motion)

    def _judge_speed(self, stamp_ns, motion):
        """Of one period."""
        limits = self._limits
        late = self._forbidden_ns is not None and stamp_ns > self._forbidden_ns
        assert not late, f"motion {motion} {1e-9 * (stamp_ns - self._forbidden_ns):.3f} s after it was forbidden"
        for part, step, speed in (
            (slice(0, 3), limits.step_translation, limits.linear_speed),
            (slice(3, 6), limits.step_rotation, limits.angular_speed),
        ):
            length = np.linalg.norm(motion[part])
            assert length <= step + 1e-6 and length <= speed * self._period_s + 1e-6, f"{motion} is too fast"

    def _judge_place(self, motion):
        to = np.array([self._robot.x, 0.0, 0.3]) + motion[:3]
        inside = (np.array(self._limits.workspace_min) <= to + 1e-6) & (to - 1e-6 <= self._limits.workspace_max)
        assert inside.all(), f"{to} is outside the workspace"

    def _motion(self, message):
        if isinstance(message, TwistStamped):
            vectors, scale = (message.twist.linear, message.twist.angular), self._period_s
        else:
            vectors, scale = (message.translation, message.rotation), 1.0
            assert message.period == self._period_s
        return scale * np.array([getattr(vector, axis) for vector in vectors for axis in "xyz"])


class PoseWatch(Watch):
    """The same for absolute targets: a motion is what leads away from the measured pose, which is rest."""

    def _motion(self, message):
        target = convert.end_effector(message, "fr3_link0", "target")
        turned = rotation.difference(target.quaternion_xyzw, np.array([1.0, 0.0, 0.0, 0.0]))
        return np.concatenate([target.position_m - [self._robot.x, 0.0, 0.3], turned])

    def _judge_motion(self, stamp_ns, motion):
        output = Output()
        assert np.linalg.norm(motion[:3]) <= output.leash_translation + 1e-6, f"{motion} is too far ahead of the arm"
        assert np.linalg.norm(motion[3:]) <= output.leash_rotation + 1e-6, f"{motion} is too far ahead of the arm"
        self._judge_speed(stamp_ns, motion - self._before)
        self._judge_place(motion)


class Rig:
    """One node, watched from before its start."""

    def __init__(self, graph, clock=None, watch=Watch, command=(str(STUB),), **parameters):
        """command: the node; watch: of its command topic."""
        self.graph, self.robot = graph, Robot(graph, clock)
        self.watch = watch(graph, self.robot)
        self.chunks = graph.listen(ActionChunk, f"{NODE}/chunk")
        self.safety = graph.listen(String, f"{NODE}/safety", qos.LATCHED)
        self.diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
        self.task = graph.node.create_publisher(String, f"{NODE}/instruction", qos.EVENTS)
        self.command, self.parameters = command, FIRST_DAY | parameters
        self.start()

    def start(self):
        self.process = self.graph.start(*self.command, **self.parameters)

    def say(self, text):
        self.task.publish(String(data=text))

    def trigger(self, service):
        """(success, message) of ~/service."""
        answer = self.graph.call(Trigger, f"{NODE}/{service}", Trigger.Request())
        return answer.success, answer.message

    def arm(self):
        """Armed, as soon as nothing speaks against it any more."""
        self.watch.allow()
        answers = []

        def armed():
            answers.append(self.trigger("arm"))
            return answers[-1][0]

        self.graph.until(armed, what="arming")
        return answers[-1][1]

    def stop(self, service):
        """By disarm or estop: nothing moves after the answer."""
        answer = self.trigger(service)
        self.watch.forbid()
        assert answer[0], answer
        return answer[1]

    def until_moving(self, count=4):
        before = len(self.watch.moves())
        self.graph.until(lambda: len(self.watch.moves()) >= before + count, what="motion")

    def until_state(self, text):
        self.graph.until(lambda: self.safety and text in self.safety[-1].data, what=f"the state {text!r}")

    def until_held_because(self, text):
        """Until /diagnostics names the reason; then a stop has been said, and there is silence."""
        self.diagnostics.clear()
        self.graph.until(lambda: text in self.value("hold reason"), what=f"holding because {text!r}")
        self.assert_silence()

    def assert_silence(self, seconds=0.3):
        """Rest may still be said, but nothing moves, and then nothing comes."""
        moves, count = len(self.watch.moves()), len(self.watch.seen)
        self.graph.spin(seconds)
        assert len(self.watch.moves()) == moves and len(self.watch.seen) - count <= 3
        self.watch.assert_at_rest()

    def value(self, key, part="control"):
        """A value in the newest diagnostics."""
        for status in self.diagnostics[-1].status if self.diagnostics else ():
            if status.name == f"{NODE}: {part}":
                return next((pair.value for pair in status.values if pair.key == key), "")
        return ""
