"""`specprune bench`: what to measure."""

from __future__ import annotations

import argparse

from specprune_ros.bench import latency
from specprune_ros.cli.options import add_json, add_parameters, build_config, natural, positive
from specprune_ros.config import ConfigError

MODELS = ("bundled", "openvla-7b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="what to measure (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="few rows and rounds: a first impression in under a minute"
    )
    parser.add_argument("--rounds", type=positive, help="passes over the recording (default: 8, 7B: 20, quick: 3)")
    parser.add_argument("--observations", type=positive, help="inferences per pass (default: 16, 7B: 15, quick: 6)")
    parser.add_argument("--aggressiveness", default="0.25,0.5,0.75,1", help="rows of mode full (default: %(default)s)")
    parser.add_argument(
        "--engines",
        default="all",
        help=f"comma-separated, of {', '.join(latency.ENGINES)}; all (default): every one that runs here but compiled",
    )
    parser.add_argument("--seed0", type=natural, default=0, help="first recorded episode (default: 0)")
    seven = parser.add_argument_group("only with --model openvla-7b")
    seven.add_argument(
        "--scale", choices=("full", "tiny"), default="full", help="tiny: the same path in seconds on a CPU"
    )
    seven.add_argument("--eager", action="store_true", help="pruned rows also without captured graphs")
    seven.add_argument(
        "--time-limit",
        type=positive,
        default=480,
        metavar="S",
        help="no new round after this many seconds (default: 480)",
    )
    control = parser.add_argument_group("steadiness of the control periods instead of latency")
    control.add_argument("--control", action="store_true", help="run the nodes at 20 and 50 Hz and measure the jitter")
    control.add_argument("--minutes", type=_minutes, default=10.0, help="for each rate (default: %(default)g)")
    seam = parser.add_argument_group("cost of the model's own process instead of latency")
    seam.add_argument(
        "--worker", action="store_true", help="compare the process of the model with a thread of the node, interleaved"
    )
    inputs = parser.add_argument_group("what inputs of a real robot's size cost, instead of latency")
    inputs.add_argument(
        "--inputs",
        action="store_true",
        help="two raw cameras of 1280 x 720 at 30 Hz, poses at 1 kHz",
    )
    faults = parser.add_argument_group("what stops the arm, and how fast, instead of latency")
    faults.add_argument("--faults", action="store_true", help="every fault on a live graph, by every command interface")
    faults.add_argument("--repetitions", type=positive, default=3, metavar="N", help="of each (default: %(default)s)")
    faults.add_argument("--workers", type=positive, default=1, help="graphs at the same time (default: %(default)s)")
    add_json(parser)
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    config = build_config(args)
    if args.control:
        from specprune_ros.bench import control

        return control.run(config, args)
    if args.inputs:
        from specprune_ros.bench import inputs

        return inputs.run(args)
    if args.worker:
        from specprune_ros.bench import seam

        return seam.run(config, args)
    if args.faults:
        from specprune_ros.bench.faults import run as faults

        return faults.run(args)
    levels = [config.pruning.aggressiveness] if args.quick else _levels(args.aggressiveness)
    if args.model == "openvla-7b":
        from specprune_ros.bench import model

        return model.run(config, levels, args)
    return latency.run(config, levels, args)


def _minutes(text: str) -> float:
    """argparse type: a length of time."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.0 < minutes < 1e4:
        raise argparse.ArgumentTypeError(f"expected minutes above 0, got {text!r}")
    return minutes


def _levels(text: str) -> list[float]:
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise ConfigError(f"--aggressiveness: expected numbers such as 0.25,0.5,1, got {text!r}") from None
