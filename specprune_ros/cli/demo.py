"""`specprune demo`: how many episodes, and where the report goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from specprune_ros.cli.options import add_json, add_parameters, build_config, natural, positive
from specprune_ros.config import ConfigError
from specprune_ros.demo import run as demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=positive, default=5, help="default: %(default)s")
    parser.add_argument("--seed0", type=natural, default=0, help="seed of the first episode (default: %(default)s)")
    parser.add_argument("--report", type=Path, default=Path("report"), help="output folder (default: %(default)s)")
    add_json(parser)
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    config = build_config(args)
    try:
        from specprune_ros.demo.client import DemoClient
    except ImportError as error:
        raise ConfigError(
            f"ROS 2 is not complete here ({error}); `make demo` sets up what is needed, or source a ROS 2 "
            "workspace in which this package was built"
        ) from error
    return demo.run(config, args, DemoClient)
