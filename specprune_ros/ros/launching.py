"""What the launch files share: what is checked before anything starts, which names move with a namespace, and what the
started processes find in their environment. launch is imported where a launch file has it already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specprune_ros import parameter_files
from specprune_ros.config import Config, ConfigError, parameters
from specprune_ros.ros.launcher import LAUNCHED_BY

NODE = "policy_node"

PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks for its profile: since 3.0 (ROS 2 Kilted), and before."""


def node_name(*namespaces: str | None) -> str:
    """The policy node's full name below namespaces, which may be empty."""
    return "/" + "/".join([*(name.strip("/") for name in namespaces if name and name.strip("/")), NODE])


def given(path: str | Path, node: str) -> dict[str, Any]:
    """What a parameter file sets on `node` (its full name), later sections over earlier ones.

    ConfigError when the file cannot be read, sets nothing on this node, has mistyped sections, or would not be a valid
    configuration."""
    parameter_files.check([path], node, [parameter.name for parameter in parameters()])
    values: dict[str, Any] = {}
    for section in parameter_files.read(path):
        if section.applies_to(node):
            values |= section.values
    checked(values)
    return values


def checked(values: Mapping[str, Any]) -> Config:
    """The configuration that parameters of the policy node make, apart from ROS's own; ConfigError when none."""
    # Here, because it imports rclpy, which the tables of the launch files do not need.
    from specprune_ros.ros.parameters import OWN_OF_ROS

    return Config.from_mapping({name: value for name, value in values.items() if not name.startswith(OWN_OF_ROS)})


def relative_topics(values: Mapping[str, Any]) -> dict[str, Any]:
    """All names of topics, actions and nodes without their leading /, so that the node's namespace moves them as well.

    values: what the parameter file sets; the defaults of everything else count as well."""
    moved: dict[str, Any] = {}
    for parameter in parameters():
        value = values.get(parameter.name, parameter.default)
        if parameter.name.startswith("topics.") and (relative := _relative(value)) is not None:
            moved[parameter.name] = relative
    return moved


def environment(folder: Path, around: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For everything that a launch file starts, drivers and cameras included: our profile for Fast DDS, unless the user
    has chosen one. folder: with fastdds.xml."""
    profile = folder / "fastdds.xml"
    if any(around.get(name) for name in PROFILES) or not profile.is_file():
        return {}
    return dict.fromkeys(PROFILES, str(profile))


def node_environment() -> dict[str, str]:
    """For nodes of ours: who launched them."""
    return {LAUNCHED_BY: str(os.getpid())}


def _relative(value: Any) -> str | list[str] | None:
    """Names without their leading /; None when there is none to drop."""
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    if not any(isinstance(name, str) and name.startswith("/") for name in names):
        return None
    relative = [name.lstrip("/") for name in names]
    return relative[0] if isinstance(value, str) else relative


# With a launch context: the arguments as they are once the launch runs.


def prepare(context: Any, folder: Path) -> list[Any]:
    """[actions that set the environment of everything that is started from here on]. folder: config/.

    RuntimeError when params_file cannot be used: said before anything runs that could move an arm."""
    from launch.actions import SetEnvironmentVariable

    try:
        parameters_given(context)
    except ConfigError as error:
        raise RuntimeError(f"params_file: {error}") from None
    return [SetEnvironmentVariable(name, value) for name, value in environment(folder).items()]


def parameters_given(context: Any) -> dict[str, Any]:
    """What params_file sets on the policy node; ConfigError as `given`."""
    return given(_argument(context, "params_file"), node_name(*_namespaces(context)))


def moves_topics(context: Any) -> bool:
    """Whether all topics are in the namespace."""
    relative = _argument(context, "relative_topics").lower()
    if relative not in ("true", "false"):
        raise RuntimeError(f"relative_topics:={relative} is neither true nor false")
    return relative == "true" and node_name(*_namespaces(context)) != f"/{NODE}"


def clock(context: Any) -> list[tuple[str, str]]:
    """Remappings that bring the nodes to the clock of the argument `clock`; auto: one of their own in the namespace."""
    name = _argument(context, "clock")
    if name == "auto":
        name = "clock" if moves_topics(context) else "/clock"
    return [] if name == "/clock" else [("/clock", name)]


def _namespaces(context: Any) -> tuple[str | None, str]:
    """What the node stands below: a namespace that an including launch file pushed, and the argument."""
    return context.launch_configurations.get("ros_namespace"), _argument(context, "namespace")


def _argument(context: Any, name: str) -> str:
    from launch.substitutions import LaunchConfiguration

    return LaunchConfiguration(name).perform(context)
