"""`specprune demo`: hands the demo its ROS client. The evaluation side below never imports ROS itself."""

from __future__ import annotations

import argparse

from specprune_ros.config import ConfigError
from specprune_ros.eval import demo

add_arguments = demo.add_arguments


def run(args: argparse.Namespace) -> int:
    try:
        from specprune_ros.ros.demo_client import DemoClient
    except ImportError as error:
        raise ConfigError(
            f"ROS 2 is not complete here ({error}); `make demo` sets up what is needed, or source a ROS 2 "
            "workspace in which this package was built"
        ) from error
    return demo.run(args, DemoClient)
