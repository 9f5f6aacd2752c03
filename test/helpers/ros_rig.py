"""A policy node with a robot on a live graph, and a watch that judges every message on its command topic."""

import itertools
import time
from dataclasses import fields

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from ros_helpers import STUB, Robot
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros import rotation
from specprune_ros.bench.faults.judge import Judge, Seen
from specprune_ros.config import Limits, Supervision
from specprune_ros.msg import Action, ActionChunk
from specprune_ros.observe.continuity import SETTLED_S
from specprune_ros.ros import convert, qos
from specprune_ros.types import EndEffector

NODE = "/policy_node"
PERIOD_S, FAR_M = 0.05, 0.1
FIRST_DAY = {
    f"limits__{name}": getattr(Limits(), name)
    for name in (
        "step_translation",
        "step_rotation",
        "linear_speed",
        "angular_speed",
        "linear_acceleration",
        "angular_acceleration",
        "linear_jerk",
        "angular_jerk",
    )
} | {
    **{f"supervision__{item.name}": item.default for item in fields(Supervision)},
    "safety__auto_arm": False,
    "safety__hold_timeout": 30.0,
}
"""The limits and the supervision of a first day on a real arm, and arming by hand."""


class Watch(Judge):
    """Asserts on every message of a command topic, as it comes in; a violation ends the test that spins."""

    def __init__(self, graph, robot, kind=Action, topic=f"{NODE}/action", period_s=PERIOD_S):
        super().__init__(Limits(), period_s)
        self._node, self._robot = graph.node, robot
        self.kind, self.topic = kind, topic
        graph.node.create_subscription(kind, topic, self._on_message, qos.EVENTS)

    def forbid(self):
        super().forbid(self._node.get_clock().now().nanoseconds)

    def violation(self, text):
        raise AssertionError(text)

    def moves(self):
        """Messages that are not rest."""
        return [seen for seen in self.seen if seen.moves]

    def assert_at_rest(self):
        """The last messages were a few of rest; how many."""
        rests = sum(1 for _ in itertools.takewhile(lambda seen: not seen.moves, reversed(self.seen)))
        assert not self.seen or rests >= 1, "the last message is a motion"
        return rests

    def _on_message(self, message):
        assert message.header.frame_id == "fr3_link0"
        if isinstance(message, Action):
            assert 0.0 <= message.gripper <= 1.0, message.gripper
        seen = Seen(convert.stamp_ns(message.header, "command"), self._motion(message), message)
        if seen.moves:
            self._judge_place(seen.motion)
        self.add(seen, time.monotonic())

    def _judge_place(self, motion):
        if time.monotonic() - self._robot.placed_s < 0.5:  # the node cannot know yet
            return
        to = self._robot.position + motion[:3]
        inside = (np.array(self.limits.workspace_min) <= to + 5e-3) & (to - 5e-3 <= self.limits.workspace_max)
        assert inside.all(), f"{to} is outside the workspace"

    def _motion(self, message):
        if isinstance(message, TwistStamped):
            vectors, scale = (message.twist.linear, message.twist.angular), self.period_s
        else:
            vectors, scale = (message.translation, message.rotation), 1.0
            assert message.period == self.period_s
        return scale * np.array([getattr(vector, axis) for vector in vectors for axis in "xyz"])


class PoseWatch(Watch):
    """The same for absolute targets: a motion is the way from one target to the next, the first from the measured
    pose."""

    target = None

    def start_anew(self):
        super().start_anew()
        self.target = None

    def _motion(self, message):
        target = convert.end_effector(message, "fr3_link0", "target")
        before = self.target or EndEffector(0, self._robot.position, self._robot.turn)
        self.target = target
        turned = rotation.difference(target.quaternion_xyzw, before.quaternion_xyzw)
        motion = np.concatenate([target.position_m - before.position_m, turned])
        return np.where(np.abs(motion) < 1e-9, 0.0, motion)

    def _judge_place(self, motion):
        to, limits = self.target.position_m, self.limits
        inside = (np.array(limits.workspace_min) <= to + 1e-6) & (to - 1e-6 <= limits.workspace_max)
        assert inside.all(), f"the target {to} is outside the workspace"


class Rig:
    """One node, watched from before its start."""

    def __init__(self, graph, clock=None, watch=Watch, command=(str(STUB),), **parameters):
        """command: the node; watch: of its command topic."""
        self.graph, self.robot = graph, Robot(graph, clock)
        self.watch = watch(graph, self.robot)
        self.robot.obey(self.watch.kind, self.watch.topic)
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

    def begin_again(self):
        """Nothing is wrong any more. An arm that the tests before have led far away goes back, disarmed: at the edge
        of its workspace it would not move."""
        self.robot.heal()
        self.graph.until(lambda: self.task.get_subscription_count() > 0, what="the node")
        if np.linalg.norm(self.robot.position - self.robot.START) > FAR_M:
            self.trigger("disarm")
            self.watch.forbid()
            self.robot.place(self.robot.START)
            self.graph.spin(SETTLED_S + 0.5)  # until the node believes it there

    def until_moving(self, count=4):
        before = len(self.watch.moves())
        self.graph.until(lambda: len(self.watch.moves()) >= before + count, what="motion")

    def until_state(self, text):
        self.graph.until(lambda: self.safety and text in self.safety[-1].data, what=f"the state {text!r}")

    def until_held_because(self, text):
        """Until /diagnostics names the reason; then a stop has been said, and there is silence."""
        self.diagnostics.clear()
        self.graph.until(lambda: text in self.value("hold reason"), what=f"holding because {text!r}")
        self.graph.spin(4 * PERIOD_S)  # the diagnostics may be as young as the hold: braking takes two periods
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
