"""The gripper of interfaces that have none of their own: sends what control/hand.py decides, and tells it what came of
it. Told only of changes, as a gripper's goal runs until it is done."""

from __future__ import annotations

import time
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Float64

from specprune_ros.config import Config
from specprune_ros.control.hand import Cancel, End, Goal, Hand, HandSettings, HandState
from specprune_ros.ros import qos
from specprune_ros.ros.gripper_servers import Server, servers

STEP_S = 0.1
"""How often a goal on its way is looked at, also while the arm is disarmed."""


class GripperOutput:
    """Opens and closes, and follows what it asked for to its end."""

    def __init__(self, node: Node, config: Config):
        output = config.output
        self._node = node
        self._servers = servers(node, config)
        homing = output.gripper_homing and any(server.homes for server in self._servers)
        self._hand = Hand(HandSettings(output.gripper_width, output.gripper_tolerance, homing))
        self._publisher = None
        if not self._servers and output.gripper != "none":
            self._publisher = node.create_publisher(Float64, config.topics.gripper, qos.LATCHED)
        if output.gripper_homing and not homing and output.gripper != "none":
            node.get_logger().warning(
                "output.gripper_homing: homing needs franka_msgs and franka_gripper, and franka_msgs is not installed; "
                "home the hand before use (Franka Desk)"
            )
        self._server: Server | None = None  # of the newest goal
        self._handles: dict[int, object] = {}
        self._reported = ""
        if self._servers:
            node.create_timer(STEP_S, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def want(self, opening: float, hysteresis: float) -> None:
        """opening: 0 closed .. 1 open; hysteresis: how far beyond the middle it must be to change the decision."""
        self._hand.want(opening, hysteresis)
        self._step()

    def obstacle(self) -> str | None:
        """What speaks against arming: a hand that is still to be homed, which this begins."""
        return self._hand.prepare(time.monotonic())

    @property
    def preparing(self) -> bool:
        """Whether the obstacle goes away by itself, so that arming may wait for it."""
        return self._hand.preparing

    def release(self) -> None:
        """Disarmed: others may move the gripper, so the next wish is a command again."""
        self._hand.release()

    def state(self) -> HandState:
        """For diagnostics: what is wanted, what the hand does, and what went wrong."""
        return self._hand.state(time.monotonic())

    def _step(self) -> None:
        order = self._hand.next(time.monotonic(), self._obstacle)
        if isinstance(order, Goal):
            self._send(order)
        elif isinstance(order, Cancel) and (handle := self._handles.pop(order.number, None)):
            handle.cancel_goal_async()
        self._report()

    def _obstacle(self, task) -> str | None:
        """Chooses the server of the next goal. One that a goal was sent to stays, until that goal has ended."""
        if not self._servers:
            return None
        if self._hand.busy:
            return self._server.obstacle(task)
        found = [(server, server.obstacle(task)) for server in self._servers]
        self._server = next((server for server, text in found if text is None), None)
        return None if self._server else " and ".join(text for _, text in found)

    def _send(self, goal: Goal) -> None:
        if not self._servers:  # a topic has no answers
            if self._publisher:
                self._publisher.publish(Float64(data=goal.position_m))
            self._hand.ended(goal.number, End.SUCCEEDED, "", time.monotonic())
            return
        client, message = self._server.goal(goal)
        client.send_goal_async(message).add_done_callback(partial(self._on_answer, goal, self._server))

    def _on_answer(self, goal: Goal, server: Server, answer) -> None:
        now_s, handle = time.monotonic(), answer.result()
        if not handle.accepted:
            self._hand.ended(goal.number, End.REJECTED, server.name(goal.task), now_s)
        elif self._hand.accepted(goal.number, now_s):
            self._handles = {goal.number: handle}
            handle.get_result_async().add_done_callback(partial(self._on_result, goal, server))
        else:  # too late: nobody waits for it any more
            handle.cancel_goal_async()
        self._report()

    def _on_result(self, goal: Goal, server: Server, answer) -> None:
        self._handles.pop(goal.number, None)
        end, detail = server.read(goal, answer.result())
        self._hand.ended(goal.number, end, detail, time.monotonic())
        self._report()

    def _report(self) -> None:
        if self._hand.error != self._reported and self._hand.error:
            self._node.get_logger().error(f"gripper: {self._hand.error}")
        self._reported = self._hand.error
