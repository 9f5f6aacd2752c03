"""`specprune`: thin subcommands. Heavy modules (torch, MuJoCo, rclpy) load only when a subcommand runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from specprune_ros import shell_variables

SUBCOMMANDS = {
    "demo": ("specprune_ros.cli.demo", "Run the closed loop over real ROS 2 and write a report folder."),
    "evaluate": (
        "specprune_ros.cli.evaluate",
        "Success of pruning modes on paired seeds, judged against dense.",
    ),
    "bench": ("specprune_ros.cli.bench", "Latency of dense against pruned inference, side by side in one run."),
    "checkpoint": ("specprune_ros.cli.checkpoint", "Inspect or verify an OpenVLA-OFT style checkpoint."),
    "train": ("specprune_ros.cli.train", "Regenerate the bundled policy from scripted demonstrations."),
}
"""Subcommand -> (module with add_arguments(parser) and run(args) -> int, summary)."""


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for this command line; only the named subcommand's module is imported."""
    parser = argparse.ArgumentParser(
        prog="specprune",
        description="Token pruning for vision-language-action models on ROS 2 (SpecPrune-VLA).",
        epilog="'specprune COMMAND --help' explains a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, summary) in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in argv:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 fine, 1 a run that failed, 2 a wrong input (one line on stderr), 130 interrupted."""
    if argv is None:
        shell_variables.enter()
        argv = sys.argv[1:]
    # Not before: a foreign numpy on PYTHONPATH is out of the way only now.
    from specprune_ros.config import ConfigError
    from specprune_ros.types import BadInput

    args = build_parser(argv).parse_args(argv)
    try:
        return args.run(args)
    except (BadInput, ConfigError, OSError) as error:
        print(f"specprune {args.command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"specprune {args.command}: interrupted", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
