"""The services around the safety gate: ~/arm, ~/disarm, ~/estop, ~/reset_estop, and ~/safety for who wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros.config import Safety
from specprune_ros.control.safety import SafetyGate, SafetyState
from specprune_ros.ros import qos
from specprune_ros.types import Command, Hold

WAIT_S = 10.0
"""How long ~/arm waits for obstacles that go away by themselves [s]. With this limit, the arm does not start to move
long after the caller has given up."""
LOOK_EVERY_S = 0.02
"""Interval [s] at which ~/arm checks the obstacles while it waits."""


class Arming:
    """Asks the gate, and lets the node know of every change."""

    def __init__(
        self,
        node: Node,
        gate: SafetyGate,
        obstacles: Callable[[], list[str]],
        on_arm: Callable[[], None],
        on_disarm: Callable[[], None],
    ):
        self._node, self._gate, self._obstacles = node, gate, obstacles
        self._on_arm, self._on_disarm = on_arm, on_disarm
        self.preparing: Callable[[], bool] = lambda: False
        """Whether an obstacle is about to go away by itself: ~/arm waits for that, and its caller with it."""
        self._stops = 0
        """How many times somebody has disarmed or stopped the arm. When this number rises while ~/arm waits, ~/arm
        gives up."""
        self._by_itself = True  # until somebody stops it by hand
        self._published: str | None = None
        self._state = node.create_publisher(String, "~/safety", qos.LATCHED)
        # A group of its own: while it waits, the control timer and ~/estop must run.
        node.create_service(Trigger, "~/arm", self._arm_when_ready, callback_group=MutuallyExclusiveCallbackGroup())
        for name, act in (
            ("disarm", self._disarm),
            ("estop", self._estop),
            ("reset_estop", self._reset_estop),
        ):
            node.create_service(Trigger, f"~/{name}", self._service(act))
        self._changed(SafetyState.DISARMED)

    def pass_on(self, outcome: Command | Hold, now_ns: int, safety: Safety) -> Command | Hold:
        """The gate's decision on what the control loop wants."""
        before = self._gate.state
        outcome = self._gate.pass_on(outcome, now_ns, safety)
        self._changed(before)
        return outcome

    def auto(self, safety: Safety) -> None:
        """Arm without being asked, where that is allowed and possible."""
        if safety.auto_arm and self._by_itself and self._gate.state is SafetyState.DISARMED:
            self._arm_now()

    def watch(self, obstacles: Callable[[], list[str]]) -> None:
        """Disarm when something has come in the way that spoke against arming."""
        if self._gate.state is SafetyState.ARMED and (found := obstacles()):
            self.disarm("; ".join(found))

    def disarm(self, reason: str) -> None:
        before = self._gate.state
        self._gate.disarm(reason)
        self._changed(before)

    def _arm(self) -> str | None:
        self._by_itself = True
        return None if self._gate.state is SafetyState.ARMED else self._arm_now()

    def _arm_now(self) -> str | None:
        refusal = self._gate.arm(self._obstacles())
        if refusal is None:
            self._on_arm()
            self._changed(SafetyState.DISARMED)
        return refusal

    def _disarm(self) -> None:
        self._stops, self._by_itself = self._stops + 1, False
        self.disarm("disarmed by ~/disarm; call ~/arm")

    def _estop(self) -> None:
        self._stops, self._by_itself = self._stops + 1, False
        before = self._gate.state
        self._gate.estop("~/estop was called")
        self._changed(before)

    def _reset_estop(self) -> str | None:
        refusal = self._gate.reset_estop()
        self._changed(self._gate.state)
        return refusal

    def _changed(self, before: SafetyState) -> None:
        """Publish the state and its reason when either is new; rest is said at once when motion was allowed before."""
        gate = self._gate
        if before is SafetyState.ARMED and gate.state is not SafetyState.ARMED:
            self._on_disarm()
        text = f"{gate.state.value}: {gate.reason}"
        if text != self._published:
            self._published = text
            self._state.publish(String(data=text))
            self._node.get_logger().info(text)

    async def _arm_when_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Arms, as soon as what it has to wait for (Servo's answer, a homed gripper) is there."""
        stops, refusal, until_s = self._stops, self._arm(), time.monotonic() + WAIT_S
        while refusal and self.preparing() and time.monotonic() < until_s:
            await moment(self._node)
            if stops != self._stops:
                refusal = f"stopped by hand while arming was waiting: {self._gate.reason}"
                break
            refusal = self._arm()
        return self._answer(response, refusal)

    def _service(self, act: Callable[[], str | None]):
        return lambda request, response: self._answer(response, act())

    def _answer(self, response: Trigger.Response, refusal: str | None) -> Trigger.Response:
        response.success = refusal is None
        response.message = refusal or f"{self._gate.state.value}: {self._gate.reason}"
        return response


async def moment(node: Node) -> None:
    """Lets everything else run for a moment."""
    over = Future()
    timer = node.create_timer(
        LOOK_EVERY_S, lambda: over.set_result(None), clock=Clock(clock_type=ClockType.STEADY_TIME)
    )
    await over
    node.destroy_timer(timer)
