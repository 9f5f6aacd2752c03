"""Who may move the arm: disarmed until asked, an emergency stop that latches, and disarming when commands stop for
long.

States: DISARMED --arm--> ARMED --disarm, long hold, rival publisher--> DISARMED; any --estop--> ESTOPPED
--reset_estop--> DISARMED. No clock and no ROS: `now_ns` is an argument. This is not a functional-safety device
(docs/explanation/safety.md)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from specprune_ros.config import Safety
from specprune_ros.types import NANOSECONDS, Command, Hold


class SafetyState(str, Enum):
    """Whether commands may leave. The values are the words that NodeStatus.safety has."""

    DISARMED = "disarmed"
    ARMED = "armed"
    ESTOPPED = "estopped"


class SafetyGate:
    """The last decision before a command leaves. `reason` says why the state is what it is."""

    def __init__(self) -> None:
        self.state = SafetyState.DISARMED
        self.reason = "not armed yet; call ~/arm"
        self.trips = 0
        """times that motion was stopped while armed: disarmed by itself, or by the emergency stop"""
        self._holding_since_ns: int | None = None

    def arm(self, obstacles: Sequence[str]) -> str | None:
        """Arm, unless something speaks against it; returns what that is."""
        if self.state is SafetyState.ESTOPPED:
            return f"the emergency stop is latched ({self.reason}); call ~/reset_estop first"
        if obstacles:
            return "; ".join(obstacles)
        self.state, self.reason, self._holding_since_ns = SafetyState.ARMED, "armed", None
        return None

    def disarm(self, reason: str) -> None:
        """Stop moving until armed again; an emergency stop stays."""
        if self.state is SafetyState.ARMED:
            self.trips += 1
            self.state, self.reason = SafetyState.DISARMED, reason

    def estop(self, reason: str) -> None:
        """Stop moving until reset AND armed again. The first reason stays."""
        if self.state is not SafetyState.ESTOPPED:
            self.trips += self.state is SafetyState.ARMED
            self.state, self.reason = SafetyState.ESTOPPED, reason

    def reset_estop(self) -> str | None:
        """Unlatch; the arm stays disarmed. Returns why not, when there is nothing to reset."""
        if self.state is not SafetyState.ESTOPPED:
            return f"the emergency stop is not latched; the node is {self.state.value}"
        self.state, self.reason = SafetyState.DISARMED, "the emergency stop was reset; call ~/arm"
        return None

    def pass_on(self, outcome: Command | Hold, now_ns: int, safety: Safety) -> Command | Hold:
        """The outcome of a control period, if it may leave; else why not."""
        if self.state is not SafetyState.ARMED:
            closed = f"{self.state.value}: {self.reason}"
            return Hold(f"{outcome.reason}; {closed}" if isinstance(outcome, Hold) else closed)
        if isinstance(outcome, Command):
            self._holding_since_ns = None
            return outcome
        self._watch_hold(outcome, now_ns, safety)
        return outcome if self.state is SafetyState.ARMED else Hold(outcome.reason)

    def _watch_hold(self, hold: Hold, now_ns: int, safety: Safety) -> None:
        if self._holding_since_ns is None or now_ns < self._holding_since_ns:
            self._holding_since_ns = now_ns
        held_s = (now_ns - self._holding_since_ns) / NANOSECONDS
        if safety.hold_timeout and held_s > safety.hold_timeout:
            self.disarm(f"held for {held_s:.1f} s (safety.hold_timeout {safety.hold_timeout:g} s): {hold.reason}")
