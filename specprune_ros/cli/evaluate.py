"""`specprune evaluate`: which modes, which seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from specprune_ros.cli.options import add_json, add_parameters, build_config, natural, positive
from specprune_ros.config import ConfigError
from specprune_ros.eval import evaluate
from specprune_ros.eval.decision import MARGIN
from specprune_ros.eval.leaderboard import LEVELS, entries, on_front
from specprune_ros.eval.levels import expanded, parse_levels
from specprune_ros.eval.variants import VARIANTS, parse_names
from specprune_ros.sim.settings import PERTURBATIONS, STRENGTHS, SUITE_NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=positive, default=50, help="seeds per suite and mode (default: %(default)s)")
    parser.add_argument("--seed0", type=natural, default=0, help="first seed (default: %(default)s)")
    parser.add_argument(
        "--modes",
        default=",".join(VARIANTS),
        help="comma-separated; also strategies such as random, and each with a level: random@0.5, random@2%% "
        "(default: %(default)s)",
    )
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
    parser.add_argument(
        "--perturb",
        default="",
        metavar="AXES",
        help=f"other episodes than those of training, comma-separated: {', '.join(PERTURBATIONS)}",
    )
    parser.add_argument(
        "--strength", type=int, choices=STRENGTHS, default=1, help="of --perturb (default: %(default)s)"
    )
    parser.add_argument(
        "--leaderboard",
        action="store_true",
        help="every mode at every level on the same seeds, with a table and a picture (FILE.png beside --json FILE)",
    )
    parser.add_argument(
        "--levels",
        default=None,
        metavar="LEVELS",
        help=f"of aggressiveness, comma-separated (with --leaderboard: {','.join(f'{one:g}' for one in LEVELS)})",
    )
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="play nothing: draw the picture of a results file, as FILE.png"
    )
    parser.add_argument("--restart", action="store_true", help="discard the episodes kept beside --json FILE")
    add_json(parser, "the results as JSON; every episode goes to a .jsonl file beside it at once")
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    if args.plot:
        print(plot(args.plot))
        return 0
    suites = evaluate.parse_suites(args.suites)
    levels = parse_levels(args.levels) if args.levels is not None else LEVELS if args.leaderboard else ()
    status = evaluate.run(build_config(args), expanded(parse_names(args.modes), levels), suites, args)
    if args.leaderboard and args.json:
        print(plot(args.json))
    return status


def plot(results: Path) -> Path:
    """Draw success against latency and GFLOP of a results file; the path of the picture, which lies beside it.

    ConfigError for a file that is not a result of several modes, or has no episodes."""
    import cv2

    from specprune_ros.draw.front import Point, picture

    path = results.with_suffix(".png")
    try:
        result = json.loads(results.read_text())
        rows = entries(result)
        panels = []
        for name, costs in (
            (f"median latency in this run, {result['workers']} at a time [ms]", [row.latency_ms for row in rows]),
            ("GFLOP per inference, analytic", [row.gflop for row in rows]),
        ):
            front = on_front(costs, [row.success for row in rows])
            points = zip(rows, costs, front, strict=True)
            panels.append((name, [Point(row.mode, row.level or row.mode, x, row.success, on) for row, x, on in points]))
        pixels = picture(panels, f"Success, mean of {', '.join(result['suites'])}")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{results}: cannot be drawn ({type(error).__name__}: {error})") from None
    if not cv2.imwrite(str(path), pixels[:, :, ::-1]):
        raise OSError(f"{path}: cannot be written")
    return path
