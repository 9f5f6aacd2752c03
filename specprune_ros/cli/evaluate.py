"""`specprune evaluate`: which modes, which seeds."""

from __future__ import annotations

import argparse

from specprune_ros.cli.options import add_json, add_parameters, build_config, natural, positive
from specprune_ros.eval import evaluate
from specprune_ros.eval.variants import VARIANTS, parse_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=positive, default=50, help="seeds per mode (default: %(default)s)")
    parser.add_argument("--seed0", type=natural, default=0, help="first seed (default: %(default)s)")
    parser.add_argument(
        "--modes",
        default=",".join(VARIANTS),
        help="comma-separated; also strategies such as random, and each with a level: random@0.5, random@2%% "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--latency-steps",
        type=natural,
        default=1,
        help="simulated inference latency in control periods (default: %(default)s)",
    )
    parser.add_argument("--workers", type=positive, default=1, help="processes that share the cores (default: 1)")
    parser.add_argument("--restart", action="store_true", help="discard what --json FILE already holds")
    add_json(parser)
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    return evaluate.run(build_config(args), parse_names(args.modes), args)
