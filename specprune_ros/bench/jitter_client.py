"""Waits beside a running policy node and reads how steady its control periods were: `python -m specprune_ros.bench.jitter_client`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from specprune_ros.ros import qos

PREFIX = "real time: tick jitter "
START_S = 120.0
"""Longest wait for the first command."""


class Listener:
    """The newest diagnostics of the policy node."""

    def __init__(self, node: Node):
        self.values: dict[str, str] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._store, qos.EVENTS)

    def number(self, name: str) -> float:
        return float(self.values.get(name, 0.0))

    def _store(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values |= {pair.key: pair.value for pair in status.values}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line of JSON; 1 when the node never commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args(argv)
    rclpy.init()
    node = rclpy.create_node("jitter_client")
    listener = Listener(node)
    try:
        if not _spin(node, START_S, lambda: listener.number("commands") > 0):
            print("the policy node never commanded", file=sys.stderr)
            return 1
        _spin(node, args.seconds, lambda: False)
    finally:
        rclpy.try_shutdown()
    result = {
        key.removeprefix(PREFIX): float(value) for key, value in listener.values.items() if key.startswith(PREFIX)
    }
    for name in ("requests", "deadline_misses", "commands", "latency p50 [ms]"):
        result[name] = listener.number(name)
    print(json.dumps(result))
    return 0


def _spin(node: Node, seconds: float, done) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if (left := end - time.monotonic()) <= 0:
            return False
        rclpy.spin_once(node, timeout_sec=min(left, 0.5))
    return True


if __name__ == "__main__":
    sys.exit(main())
