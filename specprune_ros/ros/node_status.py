"""~/node_status: what the node is doing, in typed fields for programs."""

from __future__ import annotations

import re
import time
from dataclasses import asdict

from rclpy.node import Node

from specprune_ros.control.counters import Counters
from specprune_ros.control.jitter import Steadiness
from specprune_ros.control.safety import SafetyGate
from specprune_ros.infer.worker import WorkerState
from specprune_ros.msg import ControlPeriods, ModelStatus, NodeStatus
from specprune_ros.ros import qos
from specprune_ros.ros.instructions import Instructions
from specprune_ros.ros.model_host import ModelHost

TOPIC = "~/node_status"
SAY_S = 0.1
MODEL_STATES = {
    None: ModelStatus.NONE,
    WorkerState.LOADING: ModelStatus.LOADING,
    WorkerState.READY: ModelStatus.READY,
    WorkerState.ENDING: ModelStatus.ENDING,
    WorkerState.WAITING: ModelStatus.WAITING,
    WorkerState.FAILED: ModelStatus.FAILED,
}
COUNTERS = tuple(asdict(Counters()).keys() & NodeStatus.get_fields_and_field_types().keys())
"""Those of the control loop that the message has fields for."""


class NodeStatusOutput:
    """Publishes when asked, and remembers what it said last."""

    def __init__(self, node: Node, model: ModelHost, gate: SafetyGate, instructions: Instructions):
        self._node, self._model, self._gate, self._instructions = node, model, gate, instructions
        self._publisher = node.create_publisher(NodeStatus, TOPIC, qos.LATCHED)
        self._said: tuple | None = None
        self._said_s = 0.0

    def changed(self, state: int, hold_reason: str) -> bool:
        """Something that programs wait for is not what was last said. state: of NodeStatus; hold_reason: why nothing is
        commanded, which counts as changed when more than its numbers is. Not sooner than SAY_S after the last time."""
        soon = time.monotonic() - self._said_s < SAY_S
        return not soon and self._said != (*self._essence(state), _words(hold_reason))

    def publish(
        self,
        state: int,
        hold_reason: str,
        counters: Counters,
        latencies_ms: tuple[float, float],
        rate_hz: float,
        steadiness: Steadiness,
    ) -> None:
        """latencies_ms: p50 and p95 of the last inferences."""
        self._said_s = time.monotonic()
        essence = _, ready, model_state, safety = self._essence(state)
        self._said = (*essence, _words(hold_reason))
        message = NodeStatus(state=state, ready=ready, hold_reason=hold_reason, safety=safety)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.safety_reason = self._gate.reason
        message.instruction, message.instruction_source = self._instructions.text, self._instructions.source
        message.model = self._model_status(model_state)
        message.control = ControlPeriods(
            rate=rate_hz,
            periods=steadiness.periods,
            p50=steadiness.p50_ms,
            p99=steadiness.p99_ms,
            max=steadiness.max_ms,
            gaps=steadiness.gaps,
        )
        for name in COUNTERS:
            setattr(message, name, getattr(counters, name))
        message.inference_p50, message.inference_p95 = latencies_ms
        self._publisher.publish(message)

    def _model_status(self, state: int) -> ModelStatus:
        model, facts = self._model, self._model.facts
        return ModelStatus(
            state=state,
            pid=model.pid,
            restarts=model.restarts,
            trouble=model.trouble,
            policy=facts.name if facts else "",
            engine=model.engine.name,
            pending=model.engine.pending,
            making=model.engine.making,
            engine_trouble=model.engine.trouble,
        )

    def _essence(self, state: int) -> tuple[int, bool, int, str]:
        model_state = MODEL_STATES[self._model.state]
        answers = model_state == ModelStatus.READY and not self._model.engine.pending
        return state, state == NodeStatus.ACTIVE and answers, model_state, self._gate.state.value


def _words(reason: str) -> str:
    return re.sub(r"[\d.]+", "", reason)
