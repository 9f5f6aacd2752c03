"""/diagnostics: what the node is doing, why it holds, and how its inputs and its inference keep up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from specprune_ros.control.hand import HandState
from specprune_ros.control.jitter import Steadiness
from specprune_ros.control.loop import ControlLoop
from specprune_ros.control.safety import SafetyGate, SafetyState
from specprune_ros.observe.motion import speed
from specprune_ros.ros import qos
from specprune_ros.ros.model_host import ModelHost
from specprune_ros.ros.streams import Arrivals
from specprune_ros.types import InferenceResult

KEPT_LATENCIES = 200
NO_TICK = "no control period in the last second; with use_sim_time, check that /clock advances"


class Diagnostics:
    """Collects what happens and publishes it when asked, once a second."""

    def __init__(self, node: Node, gate: SafetyGate, model: ModelHost):
        self._node, self._gate, self._model = node, gate, model
        self.realtime: dict[str, str] = {}
        """What the system granted."""
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.EVENTS)
        self._latencies_ms: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._result: InferenceResult | None = None
        self._ticks = 0
        self._asked_s = time.monotonic()
        self._misses_before = 0
        self.hold_reason: str | None = "starting"
        """Why nothing is commanded now; None while commands go out."""
        self.hand: HandState | None = None
        """What the gripper does, where it is one of its own."""

    def ticked(self, hold_reason: str | None) -> None:
        self._ticks += 1
        self.hold_reason = hold_reason

    def inferred(self, result: InferenceResult) -> None:
        self._result = result
        self._latencies_ms.append(result.report.stage_ms.get("total", 0.0))

    def latencies_ms(self) -> tuple[float, float]:
        """p50 and p95 of the last inferences [ms]; 0 before the first."""
        return tuple(np.percentile(self._latencies_ms, [50, 95]).tolist()) if self._latencies_ms else (0.0, 0.0)

    def publish(
        self, loop: ControlLoop | None, streams: list[Arrivals], steadiness: Steadiness, no_time: str | None = None
    ) -> None:
        """no_time: why there is no time, where that is known."""
        if loop and not self._ticks:
            self.hold_reason = no_time or NO_TICK
        parts = [self._control(loop, steadiness), self._inference(loop), self._inputs(loop, streams)]
        if self.hand:
            parts.append(self._gripper(self.hand))
        message = DiagnosticArray(status=parts)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _control(self, loop: ControlLoop | None, steadiness: Steadiness) -> DiagnosticStatus:
        now_s = time.monotonic()
        values = {"control rate [Hz]": self._ticks / max(now_s - self._asked_s, 1e-3)}
        self._ticks, self._asked_s = 0, now_s
        values["hold reason"] = self.hold_reason or ""
        values |= {"safety": self._gate.state.value, "safety reason": self._gate.reason, "trips": self._gate.trips}
        values |= {f"real time: {name}": text for name, text in self.realtime.items()}
        missed = 0
        if loop:
            values |= {f"control periods: {name}": value for name, value in asdict(steadiness).items()}
            values |= {
                "instruction": loop.instruction,
                "mode": loop.mode.value,
                "last reset": loop.last_reset,
                "limits": "; ".join(loop.drive.limit_reasons),
            }
            values |= (
                _speeds(loop)
                | asdict(loop.counters)
                | {f"limit {name}": count for name, count in loop.drive.limits_hit.items()}
            )
            missed = loop.counters.deadline_misses - self._misses_before
            self._misses_before = loop.counters.deadline_misses
        if self._gate.state is SafetyState.ESTOPPED:
            return self._status("control", DiagnosticStatus.ERROR, f"emergency stop: {self._gate.reason}", values)
        if self.hold_reason:
            return self._status("control", DiagnosticStatus.WARN, f"holding: {self.hold_reason}", values)
        if missed:
            return self._status(
                "control", DiagnosticStatus.WARN, f"{missed} deadlines missed in the last second", values
            )
        return self._status("control", DiagnosticStatus.OK, "commanding", values)

    def _inference(self, loop: ControlLoop | None) -> DiagnosticStatus:
        model = self._model
        values = {"model process": model.pid or "none", "model restarts": model.restarts}
        values |= {f"engine {name}": value for name, value in asdict(model.engine).items()}
        if model.trouble:
            return self._status("inference", DiagnosticStatus.ERROR, model.trouble, values)
        if loop is None:
            return self._status("inference", DiagnosticStatus.WARN, self.hold_reason or "inactive", values)
        values["failures"] = loop.counters.failures
        if self._result:
            values |= self._last_inference(self._result)
        if loop.error:
            return self._status("inference", DiagnosticStatus.ERROR, loop.error, values)
        if self._result is None:
            return self._status("inference", DiagnosticStatus.OK, "no inference yet", values)
        text = f"{values['tokens kept']} of {values['tokens total']} tokens, {self._latencies_ms[-1]:.0f} ms"
        return self._status("inference", DiagnosticStatus.OK, text, values)

    def _last_inference(self, result: InferenceResult) -> dict[str, object]:
        report, (p50, p95) = result.report, self.latencies_ms()
        return {
            "latency p50 [ms]": p50,
            "latency p95 [ms]": p95,
            "latency last [ms]": self._latencies_ms[-1],
            "tokens kept": report.tokens_kept,
            "tokens total": report.tokens_total,
            "mode": report.mode.value,
            "aggressiveness": report.aggressiveness,
            "preset": result.request.pruning.preset,
        }

    def _inputs(self, loop: ControlLoop | None, streams: list[Arrivals]) -> DiagnosticStatus:
        values, silent = {}, []
        for stream in streams:
            rate, age = stream.rate_hz(), stream.age_s()
            values[f"{stream.topic} rate [Hz]"] = rate
            values[f"{stream.topic} age [s]"] = "never" if age is None else age
            silent += [stream.topic] if rate == 0 else []
        lost = _losses(loop, values)
        if silent:
            return self._status("inputs", DiagnosticStatus.WARN, f"nothing on {', '.join(silent)}", values)
        if lost:
            return self._status("inputs", DiagnosticStatus.WARN, "; ".join(lost), values)
        return self._status("inputs", DiagnosticStatus.OK, "all inputs arrive", values)

    def _gripper(self, hand: HandState) -> DiagnosticStatus:
        level = DiagnosticStatus.WARN if hand.error else DiagnosticStatus.OK
        return self._status("gripper", level, hand.error or f"wanted {hand.wanted}, is {hand.reached}", asdict(hand))

    def _status(self, part: str, level: bytes, text: str, values: Mapping[str, object]) -> DiagnosticStatus:
        pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
        name = f"{self._node.get_fully_qualified_name()}: {part}"
        return DiagnosticStatus(level=level, name=name, message=text, hardware_id="specprune_ros", values=pairs)


def _losses(loop: ControlLoop | None, values: dict[str, object]) -> list[str]:
    """What was lost on the way, for people to read; publishers, sizes and rhythm go into `values`."""
    found = []
    for delivery in loop.inputs.deliveries.values() if loop else ():
        channel, rhythm = delivery.channel, delivery.rhythm()
        if channel is None:
            continue
        values[f"{channel.topic} publishers"] = ", ".join(channel.publishers) or "none"
        if channel.message_bytes:
            values[f"{channel.topic} message [MB]"] = channel.message_bytes / 1e6
        if rhythm:
            values[f"{channel.topic} interval [s]"] = rhythm.interval_s
            values[f"{channel.topic} lost"] = f"{rhythm.lost} of {rhythm.sent}"
        if losses := delivery.losses():
            found.append(f"{channel.topic}: {losses}")
    return found


def _speeds(loop: ControlLoop) -> dict[str, float]:
    """The arm's measured speed; nothing while it is unknown."""
    motion = loop.motion
    if motion is None:
        return {}
    measured = speed(motion, loop.config.action, loop.config.control.rate)
    return {
        "end effector [m/s]": measured.linear,
        "end effector [rad/s]": measured.angular,
        "end effector up [m/s]": measured.vertical,
    }


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
