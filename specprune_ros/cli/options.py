"""Command-line options that several subcommands share: parameters, results file, kinds of numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from specprune_ros import parameter_files
from specprune_ros.config import Config, ConfigError, Parameter, lookup, parameters, with_preset
from specprune_ros.demo.nodes import NODE_NAME
from specprune_ros.sim.settings import SIMULATION


def add_parameters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("parameters of the policy")
    group.add_argument("--params", metavar="FILE.yaml", help="ROS 2 parameter file, as the policy node takes it")
    group.add_argument(
        "--set",
        dest="changes",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="one parameter, e.g. pruning.aggressiveness=0.7 (repeat for more; wins over --params)",
    )


def add_json(parser: argparse.ArgumentParser, about: str = "also write the results as JSON") -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help=about)


def build_config(args: argparse.Namespace) -> Config:
    """The simulator's settings, then --params, then --set; validated once, as a whole."""
    values = SIMULATION | (load_params(args.params) if args.params else {})
    changes: dict[str, object] = {}
    for change in args.changes:
        name, separator, text = change.partition("=")
        if not separator:
            raise ConfigError(f"--set {change}: expected NAME=VALUE, e.g. pruning.aggressiveness=0.7")
        changes[name.strip()] = parse_value(lookup(name.strip()), text.strip())
    # Each source expands its own preset, so that a later one also wins over explicit values of an earlier one.
    return Config().updated(with_preset(values) | with_preset(changes))


def load_params(path: str) -> dict[str, object]:
    """Dotted names from a ROS 2 parameter file, of the policy node in any namespace; those of other nodes are not
    ours."""
    values = parameter_files.for_name(path, NODE_NAME, [parameter.name for parameter in parameters()])
    values.pop("use_sim_time", None)  # every ROS node has it; it means nothing without ROS
    return values


def parse_value(parameter: Parameter, text: str) -> object:
    """Text from the command line as the declared type; ConfigError names what was expected."""
    kind = type(parameter.default)
    if kind is not tuple:
        return _parse_scalar(parameter.name, kind, text)
    element = type(parameter.default[0]) if parameter.default else str
    items = (item.strip() for item in text.strip("[]()").split(","))
    return tuple(_parse_scalar(parameter.name, element, item.strip("'\"")) for item in items if item)


def _parse_scalar(name: str, kind: type, text: str) -> object:
    if kind is bool:
        words = {"true": True, "false": False, "1": True, "0": False, "on": True, "off": False}
        if text.lower() not in words:
            raise ConfigError(f"{name}: expected true or false, got {text!r}")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{name}: expected {kind.__name__}, got {text!r}") from None


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """argparse type: an integer of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)
