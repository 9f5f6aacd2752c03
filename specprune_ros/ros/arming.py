"""The services around the safety gate: ~/arm, ~/disarm, ~/estop, ~/reset_estop, and ~/safety for who wants to know."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from specprune_ros.config import Safety
from specprune_ros.control.safety import SafetyGate, State
from specprune_ros.ros import qos
from specprune_ros.types import Command, Hold


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
        self._by_itself = True  # until somebody stops it by hand
        self._published: str | None = None
        self._state = node.create_publisher(String, "~/safety", qos.LATCHED)
        for name, act in (
            ("arm", self._arm),
            ("disarm", self._disarm),
            ("estop", self._estop),
            ("reset_estop", self._reset_estop),
        ):
            node.create_service(Trigger, f"~/{name}", self._service(act))
        self._changed(State.DISARMED)

    def pass_on(self, outcome: Command | Hold, now_ns: int, safety: Safety) -> Command | Hold:
        """The gate's decision on what the control loop wants."""
        before = self._gate.state
        outcome = self._gate.pass_on(outcome, now_ns, safety)
        self._changed(before)
        return outcome

    def auto(self, safety: Safety) -> None:
        """Arm without being asked, where that is allowed and possible."""
        if safety.auto_arm and self._by_itself and self._gate.state is State.DISARMED:
            self._arm_now()

    def watch(self, obstacles: Callable[[], list[str]]) -> None:
        """Disarm when something has come in the way that spoke against arming."""
        if self._gate.state is State.ARMED and (found := obstacles()):
            self.disarm("; ".join(found))

    def disarm(self, reason: str) -> None:
        before = self._gate.state
        self._gate.disarm(reason)
        self._changed(before)

    def _arm(self) -> str | None:
        self._by_itself = True
        return None if self._gate.state is State.ARMED else self._arm_now()

    def _arm_now(self) -> str | None:
        refusal = self._gate.arm(self._obstacles())
        if refusal is None:
            self._on_arm()
            self._changed(State.DISARMED)
        return refusal

    def _disarm(self) -> None:
        self._by_itself = False
        self.disarm("disarmed by ~/disarm; call ~/arm")

    def _estop(self) -> None:
        self._by_itself = False
        before = self._gate.state
        self._gate.estop("~/estop was called")
        self._changed(before)

    def _reset_estop(self) -> str | None:
        refusal = self._gate.reset_estop()
        self._changed(self._gate.state)
        return refusal

    def _changed(self, before: State) -> None:
        """Publish the state and its reason when either is new; rest is said at once when motion was allowed before."""
        gate = self._gate
        if before is State.ARMED and gate.state is not State.ARMED:
            self._on_disarm()
        text = f"{gate.state.value}: {gate.reason}"
        if text != self._published:
            self._published = text
            self._state.publish(String(data=text))
            self._node.get_logger().info(text)

    def _service(self, act: Callable[[], str | None]):
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            refusal = act()
            response.success, response.message = (
                refusal is None,
                refusal or f"{self._gate.state.value}: {self._gate.reason}",
            )
            return response

        return answer
