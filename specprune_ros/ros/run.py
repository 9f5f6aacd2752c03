"""Runs one node until a signal arrives. Signal handlers only set a flag, so the node can still publish a final stop."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from specprune_ros import parameter_files, shell_mistakes
from specprune_ros.config import ConfigError
from specprune_ros.ros.failure import Failure
from specprune_ros.ros.launcher import Launcher

ROS_ERRORS = (_rclpy.RCLError, _rclpy.UnknownROSArgsError)

_received: list[int] = []
"""Signals that asked this process to end."""
_arguments: list[str] = []
_launcher = Launcher(os.environ)

WAKE_S = 0.1
"""Longest time until a signal is noticed while nothing happens."""


class Application(Protocol):
    """A node and what runs it. It holds a Node instead of being one: rclpy's own private names are many and common."""

    node: Node

    def close(self) -> bool:
        """Says goodbye on its topics and ends its threads; False when one of them hangs."""


def stop_requested() -> bool:
    """Whether this process should end, by a signal or because its launch is gone: for whatever waits for long."""
    return bool(_received) or _launcher.gone()


def arguments() -> Sequence[str]:
    """The command line of the node that `run` runs: rclpy keeps it to itself."""
    return _arguments


def run(make: Callable[[], Application], args: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGINT, SIGTERM or SIGHUP (the terminal was closed, or the connection lost), 1 after a
    failure, which is one line on stderr."""
    _arguments[:] = sys.argv if args is None else args
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # started by nohup: it is meant to go on without its terminal
        signal.signal(number, lambda received, frame: _received.append(received))
    shell_mistakes.check_for_node()
    try:
        for path in parameter_files.given(_arguments):
            parameter_files.read(path)  # rcl would say less about what is wrong with it
        rclpy.init(args=_arguments, signal_handler_options=SignalHandlerOptions.NO)
        clean = _spin(make, stop_requested)
    except (ConfigError, Failure) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except ROS_ERRORS as error:
        print(f"error: {_of_ros(error)}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    if not clean:  # a thread hangs in foreign code: waiting for it at interpreter exit would hang as well
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _of_ros(error: Exception) -> str:
    """What rcl says, without the places in its source, and which settings of the shell it may be about."""
    text = re.sub(r",?\s*at /\S+:\d+", "", " ".join(str(error).split()))
    if isinstance(error, _rclpy.UnknownROSArgsError):
        text = f"{text} are no ROS arguments; see `ros2 run --help`"
    around = shell_mistakes.neighbourhood(os.environ)
    return f"ROS 2 did not start the node: {text}" + (f"; set in this shell: {around}" if around else "")


class NodeLog(logging.Handler):
    """Python's log records of this package, in a node's log: what is below `ros/` knows no other way to speak up."""

    def __init__(self, node: Node):
        super().__init__(logging.INFO)
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        logger = self._node.get_logger()
        # rclpy fixes the severity of a call's place in the code, so every severity has its own.
        if record.levelno >= logging.ERROR:
            logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            logger.warning(record.getMessage())
        else:
            logger.info(record.getMessage())


def _spin(make: Callable[[], Application], stopping: Callable[[], bool]) -> bool:
    application = _made(make)
    if around := shell_mistakes.neighbourhood(os.environ):
        application.node.get_logger().info(f"meets only the nodes that the shell's settings let it meet: {around}")
    package = logging.getLogger("specprune_ros")
    package.setLevel(logging.INFO)
    package.addHandler(NodeLog(application.node))
    executor = SingleThreadedExecutor()
    executor.add_node(application.node)
    try:
        while not stopping():
            executor.spin_once(timeout_sec=WAKE_S)
        if _launcher.gone():
            application.node.get_logger().warning(
                f"ends because the launch that started it (process {_launcher.pid}) did; if there "
                "was none, `unset SPECPRUNE_LAUNCHED_BY`"
            )
    finally:
        clean = application.close()
        executor.shutdown()
        application.node.destroy_node()
    return clean


def _made(make: Callable[[], Application]) -> Application:
    try:
        return make()
    except ValueError as error:
        empty = parameter_files.empty_lists(_arguments)
        if isinstance(error, ConfigError) or not empty or "PARAMETER_NOT_SET" not in str(error):
            raise
        raise ConfigError(f"{', '.join(empty)}: the list is empty; give values, or leave the parameter out") from None
