"""Waits beside a running policy node and reads what it measured of itself: `python -m
specprune_ros.bench.jitter_client`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence

import rclpy
from rclpy.node import Node

from specprune_ros.msg import NodeStatus
from specprune_ros.ros import qos

START_S = 120.0
"""Longest wait for the first chunk."""


class Listener:
    """The newest status of the policy node."""

    def __init__(self, node: Node):
        self.status = NodeStatus()
        node.create_subscription(NodeStatus, "/policy_node/node_status", self._store, qos.LATCHED)

    def _store(self, message: NodeStatus) -> None:
        self.status = message


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line of JSON; 1 when the node never has a chunk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args(argv)
    rclpy.init()
    node = rclpy.create_node("jitter_client")
    listener = Listener(node)
    try:
        if not _spin(node, START_S, lambda: listener.status.accepted > 0):
            print(f"the policy node never had a chunk: {listener.status.hold_reason}", file=sys.stderr)
            return 1
        _spin(node, args.seconds, lambda: False)
    finally:
        rclpy.try_shutdown()
    print(json.dumps(measured(listener.status)))
    return 0


def measured(status: NodeStatus) -> dict[str, float]:
    """What the node said last: deviations of the control periods [ms] since it was activated, and what it did
    meanwhile."""
    control = status.control
    return {
        **{name: round(getattr(control, name), 4) for name in ("p50", "p99", "max")},
        "periods": control.periods,
        "gaps": control.gaps,
        **{name: getattr(status, name) for name in ("commands", "requests", "deadline_misses")},
        "restarts": status.model.restarts,
        "latency p50 [ms]": round(status.inference_p50, 2),
        "latency p95 [ms]": round(status.inference_p95, 2),
    }


def _spin(node: Node, seconds: float, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if (left := end - time.monotonic()) <= 0:
            return False
        rclpy.spin_once(node, timeout_sec=min(left, 0.5))
    return True


if __name__ == "__main__":
    sys.exit(main())
