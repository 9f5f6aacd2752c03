"""Declares `config.py` on a node, refuses what would not be a valid configuration, and keeps the one in force."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from specprune_ros import parameter_files
from specprune_ros.config import PRESET_NAMES, Config, ConfigError, Parameter, parameters
from specprune_ros.ros import run

INTEGER_LIMITS = (-(2**63), 2**63 - 1)
FLOAT_LIMITS = (-sys.float_info.max, sys.float_info.max)
OWN_OF_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
"""What rclpy declares on every node by itself."""


class LiveParameters:
    """The configuration of a node. `config` is valid as a whole at any time and changes only between two callbacks.

    node: made with automatically_declare_parameters_from_overrides=True, so that overrides nobody declares are seen.
    ConfigError: an override that is unknown or cannot be used.
    """

    def __init__(self, node: Node):
        self._node = node
        self._declared = {parameter.name: parameter for parameter in parameters()}
        self._config = Config.from_mapping(take_overrides(node, self._declared))
        self._changed: set[str] = set()
        for parameter in self._declared.values():
            declare(node, parameter, self._config.get(parameter.name))
        if hasattr(node, "add_pre_set_parameters_callback"):  # Humble has none: see `_write_back`
            node.add_pre_set_parameters_callback(self._completed)
        node.add_on_set_parameters_callback(self._check)

    @property
    def config(self) -> Config:
        """The configuration in force: the same object until a parameter was set."""
        if self._changed:
            names, self._changed = list(self._changed), set()
            values = (parameter.value for parameter in self._node.get_parameters(names))
            self._config = self._config.updated(dict(zip(names, values, strict=True)))
            self._write_back()
        return self._config

    def _completed(self, changes: list[RosParameter]) -> list[RosParameter]:
        """Integers become doubles where those are meant; a preset changes together with the values it stands for."""
        completed = {change.name: self._as_declared(change) for change in changes}
        before = self.config
        try:
            after = before.updated(self._ours(completed.values()))
        except ConfigError:
            return list(completed.values())  # `_check` refuses them and says why
        for name in PRESET_NAMES:
            if name in completed or after.get(name) != before.get(name):
                completed[name] = RosParameter(name, value=after.get(name))
        return list(completed.values())

    def _write_back(self) -> None:
        """What a preset changed besides, where ROS did not let `_completed` change it at the same time (Humble)."""
        for name in PRESET_NAMES:
            value = self._config.get(name)
            if self._node.get_parameter(name).value != value:
                self._node.set_parameters([RosParameter(name, value=value)])

    def _as_declared(self, change: RosParameter) -> RosParameter:
        """A change in the type that was declared, where it says the same in another one; else as it is."""
        declared = self._declared.get(change.name)
        if declared is None:
            return change
        value = _as_doubles(change, declared.default)
        return RosParameter(change.name, ros_type(declared), value) if value is not None else change

    def _check(self, changes: Sequence[RosParameter]) -> SetParametersResult:
        """Accepts changes that make a valid configuration together. Other callbacks may still refuse them, so what
        is in force is read back from the node, the next time somebody asks."""
        values = self._ours(changes)
        unset = [change.name for change in changes if change.type_ == RosParameter.Type.NOT_SET]
        if unset and unset[0] in values:
            return SetParametersResult(successful=False, reason=f"{unset[0]}: cannot be unset; give a value")
        try:
            self.config.updated(values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._changed |= values.keys()
        return SetParametersResult(successful=True)

    def _ours(self, changes: Iterable[RosParameter]) -> dict[str, Any]:
        return {change.name: change.value for change in changes if change.name in self._declared}


def take_overrides(node: Node, names: Collection[str]) -> dict[str, Any]:
    """What command line and YAML files set, apart from rclpy's own; undeclared again, to be declared with descriptors.

    names: the parameters that the node will declare. ConfigError: a parameter file sets nothing on this node, or has a
    mistyped section.
    """
    parameter_files.check(parameter_files.given(run.arguments()), node.get_fully_qualified_name(), names)
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix("").items()
        if not name.startswith(OWN_OF_ROS)
    }
    for name in given:
        node.undeclare_parameter(name)
    return given


def declare(node: Node, parameter: Parameter, value: Any) -> None:
    """Declares one parameter with its description, range and value."""
    value = list(value) if isinstance(value, tuple) else value
    node.declare_parameter(parameter.name, value, descriptor(parameter), ignore_override=True)


def ros_type(parameter: Parameter) -> RosParameter.Type:
    """The type that ROS gives a parameter; also of an empty list, which shows none."""
    default = parameter.default
    if isinstance(default, tuple):
        is_number = bool(default) and isinstance(default[0], float)
        return RosParameter.Type.DOUBLE_ARRAY if is_number else RosParameter.Type.STRING_ARRAY
    return RosParameter.Type.from_parameter_value(default)


def _as_doubles(change: RosParameter, default: Any) -> float | list[Any] | None:
    """What a change means where whole numbers stand for doubles, or where a list is empty; None where neither is so.

    `ros2 param set` sends [0, 1] as integers, [0, 1.5] as text, and [] as bytes.
    """
    value, kind, types = change.value, change.type_, RosParameter.Type
    if isinstance(default, float):
        return float(value) if kind == types.INTEGER else None
    if not isinstance(default, tuple):
        return None
    if kind == types.STRING and re.fullmatch(r"\s*\[[^]]*\]\s*", value):
        value = [item.strip() for item in value.strip()[1:-1].split(",") if item.strip()]
    elif kind not in (types.INTEGER_ARRAY, types.BYTE_ARRAY, types.STRING_ARRAY, types.DOUBLE_ARRAY, types.BOOL_ARRAY):
        return None
    if len(value) == 0:
        return []
    if not (default and isinstance(default[0], float)) or kind not in (types.INTEGER_ARRAY, types.STRING):
        return None
    try:
        return [float(item) for item in value]
    except ValueError:
        return None


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What ROS tools show of a parameter, and check before we do."""
    unit = f" [{parameter.unit}]" if parameter.unit else ""
    described = ParameterDescriptor(
        name=parameter.name,
        description=f"{parameter.doc}{unit}",
        additional_constraints=f"one of: {', '.join(parameter.choices)}" if parameter.choices else "",
        read_only=not parameter.live,
        dynamic_typing=True,  # `LiveParameters` refuses another type, and names parameter and value; rclpy does not
    )
    if parameter.bounds and isinstance(parameter.default, float):
        low, high = _closed(parameter.bounds, FLOAT_LIMITS)
        described.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif parameter.bounds and isinstance(parameter.default, int):
        low, high = _closed(parameter.bounds, INTEGER_LIMITS)
        described.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return described


def _closed(bounds, limits):
    return tuple(limit if bound is None else bound for bound, limit in zip(bounds, limits, strict=True))
