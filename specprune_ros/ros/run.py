"""Runs one node until it is told to end, so that its last act is its own: signals only set a flag."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from specprune_ros.config import ConfigError

WAKE_S = 0.1
"""Longest time until a signal is noticed while nothing happens."""


class Failure(RuntimeError):
    """The node cannot go on; the text is all that its user needs."""


class Application(Protocol):
    """A node and what runs it. It holds a Node instead of being one: rclpy's own private names are many and common."""

    node: Node

    def close(self) -> bool:
        """Says goodbye on its topics and ends its threads; False when one of them hangs."""


def run(make: Callable[[], Application], args: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGINT or SIGTERM, 1 after a failure, which is one line on stderr."""
    stopping = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stopping.append(received))
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        clean = _spin(make, lambda: bool(stopping))
    except (ConfigError, Failure) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    if not clean:  # a thread hangs in foreign code: waiting for it at interpreter exit would hang as well
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _spin(make: Callable[[], Application], stopping: Callable[[], bool]) -> bool:
    application = make()
    executor = SingleThreadedExecutor()
    executor.add_node(application.node)
    try:
        while not stopping():
            executor.spin_once(timeout_sec=WAKE_S)
    finally:
        clean = application.close()
        executor.shutdown()
        application.node.destroy_node()
    return clean
