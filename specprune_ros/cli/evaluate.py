"""`specprune evaluate`: which modes, which seeds."""

from __future__ import annotations

import argparse

from specprune_ros.cli.options import add_json, add_parameters, build_config, natural, positive
from specprune_ros.eval import evaluate
from specprune_ros.eval.decision import MARGIN
from specprune_ros.eval.levels import expanded
from specprune_ros.eval.variants import VARIANTS, parse_names
from specprune_ros.sim.settings import SUITE_NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=positive, default=50, help="seeds per suite and mode (default: %(default)s)")
    parser.add_argument("--seed0", type=natural, default=0, help="first seed (default: %(default)s)")
    parser.add_argument("--modes", default=",".join(VARIANTS), help="comma-separated (default: %(default)s)")
    parser.add_argument(
        "--suites",
        "--suite",
        default="pick",
        metavar="SUITES",
        help=f"comma-separated, of {', '.join(SUITE_NAMES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--latency-steps",
        type=natural,
        default=1,
        help="simulated inference latency in control periods (default: %(default)s)",
    )
    parser.add_argument("--workers", type=positive, default=1, help="processes that share the cores (default: 1)")
    parser.add_argument(
        "--margin",
        type=float,
        default=100 * MARGIN,
        metavar="POINTS",
        help="loss of success against dense that is accepted, declared before the first episode (default: %(default)g)",
    )
    parser.add_argument(
        "--sequential",
        action="store_true",
        help="an anytime-valid test: a suite and mode ends when it is decided, after at most --episodes",
    )
    parser.add_argument("--restart", action="store_true", help="discard the episodes kept beside --json FILE")
    add_json(parser, "the results as JSON; every episode goes to a .jsonl file beside it at once")
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    suites = evaluate.parse_suites(args.suites)
    return evaluate.run(build_config(args), expanded(parse_names(args.modes), ()), suites, args)
