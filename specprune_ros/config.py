"""The one declaration of every run-time parameter: default, unit, range, whether it is live, and what it does.

ROS descriptors, the YAML check and docs/reference/parameters.md derive from this file. A configuration is frozen and
validated whole; a live change builds a new one (`Config.updated`), which the node swaps in at the next inference.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from specprune_ros.settings.declaration import ConfigError, Parameter, param
from specprune_ros.settings.inputs import IMAGE_FLIPS, IMAGE_ROTATIONS, Pictures, Topics
from specprune_ros.settings.interface import Control, Output, RealTime, Robot
from specprune_ros.settings.motion import ActionScale, Limits, Safety, Supervision
from specprune_ros.settings.policy import PolicySettings
from specprune_ros.settings.pruning import STRATEGY_NAMES, Controller, Dynamic, Pruning, ReferenceFrame, Static

__all__ = [
    "ActionScale",
    "Config",
    "ConfigError",
    "Control",
    "Controller",
    "Dynamic",
    "IMAGE_FLIPS",
    "IMAGE_ROTATIONS",
    "Limits",
    "Output",
    "PRESETS",
    "PRESET_NAMES",
    "STRATEGY_NAMES",
    "Parameter",
    "Pictures",
    "PolicySettings",
    "Pruning",
    "RealTime",
    "ReferenceFrame",
    "Robot",
    "Safety",
    "Static",
    "Supervision",
    "Topics",
    "check_views",
    "flattened",
    "lookup",
    "parameters",
    "with_preset",
]


@dataclass(frozen=True)
class Config:
    """Everything the node, the evaluation and the benchmark can be told."""

    instruction: str = param("", "What the robot should do; empty: wait for the topic")
    debug_image: bool = param(True, "Publish debug images, each only while somebody subscribes to it")
    auto_activate: bool = param(
        True, "Configure and activate without being asked; false: wait for a lifecycle manager", live=False
    )
    pruning: Pruning = field(default_factory=Pruning)
    control: Control = field(default_factory=Control)
    action: ActionScale = field(default_factory=ActionScale)
    limits: Limits = field(default_factory=Limits)
    safety: Safety = field(default_factory=Safety)
    supervision: Supervision = field(default_factory=Supervision)
    output: Output = field(default_factory=Output)
    realtime: RealTime = field(default_factory=RealTime)
    policy: PolicySettings = field(default_factory=PolicySettings)
    topics: Topics = field(default_factory=Topics)
    pictures: Pictures = field(default_factory=Pictures)
    robot: Robot = field(default_factory=Robot)

    def __post_init__(self) -> None:
        rules(self)

    def get(self, name: str) -> Any:
        """Value of the dotted parameter `name`."""
        value = self
        for part in lookup(name).name.split("."):
            value = getattr(value, part)
        return value

    def updated(self, changes: Mapping[str, Any]) -> Config:
        """A new configuration with dotted names changed, validated whole; ConfigError when anything is wrong.

        A preset among the changes brings its values along, except those that are changed explicitly; the result's
        preset says what is in force: `custom` where a value is not the preset's."""
        checked = {name: lookup(name).check(value) for name, value in with_preset(changes).items()}
        changed = _replaced(self, checked)
        values = PRESETS.get(changed.pruning.preset, {})
        if any(changed.get(name) != value for name, value in values.items()):
            changed = _replaced(changed, {PRESET: CUSTOM})
        return changed

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """Configuration from nested or dotted names, defaults elsewhere."""
        return cls().updated(dict(flattened(values)))


PRESET, CUSTOM = "pruning.preset", "custom"
_WHOLE_METHOD = {
    "pruning.static.enabled": True,
    "pruning.dynamic.enabled": True,
    "pruning.controller.enabled": True,
    "pruning.strategy": "specprune",
    "pruning.keep": 0.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "conservative": {"pruning.aggressiveness": 0.25} | _WHOLE_METHOD,
    "paper": {"pruning.aggressiveness": 0.5} | _WHOLE_METHOD,
    "aggressive": {"pruning.aggressiveness": 0.8} | _WHOLE_METHOD,
}
"""The values that `pruning.preset` stands for; `custom` stands for none."""

PRESET_NAMES = (PRESET, *PRESETS["paper"])
"""Parameters that change together."""


def with_preset(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes`, and what a preset among them sets besides what they set explicitly."""
    preset = changes.get(PRESET)
    return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **changes}


def rules(config: Config) -> None:
    """What must hold between parameters."""
    control, controller = config.control, config.pruning.controller
    if control.lead_steps >= control.execute_steps:
        raise ConfigError(
            f"control.lead_steps: {control.lead_steps} must be below control.execute_steps ({control.execute_steps})"
        )
    hang_s = config.policy.inference_timeout
    if 0.0 < hang_s <= control.chunk_timeout:
        raise ConfigError(
            f"policy.inference_timeout: {hang_s} s must be above control.chunk_timeout ({control.chunk_timeout} s): an "
            "inference that takes less is slow and still useful; or give 0 for five times control.chunk_timeout"
        )
    for axis in ("linear", "angular"):
        enter, leave = getattr(controller, f"enter_{axis}"), getattr(controller, f"exit_{axis}")
        if leave < enter:
            raise ConfigError(
                f"pruning.controller.exit_{axis}: {leave} is below enter_{axis} ({enter}); the mode would flicker"
            )
    limits = config.limits
    for name in ("workspace_min", "workspace_max"):
        if len(getattr(limits, name)) != 3:
            raise ConfigError(f"limits.{name}: {list(getattr(limits, name))} has not the three numbers x, y, z")
    for axis, low, high in zip("xyz", limits.workspace_min, limits.workspace_max, strict=True):
        if low >= high:
            raise ConfigError(f"limits.workspace_max: {axis} {high} is not above limits.workspace_min ({low})")
    fingers = config.robot.finger_joints
    if len(fingers) != 2:
        raise ConfigError(f"robot.finger_joints: {list(fingers)} are not two names; name a single measured joint twice")
    _view_rules(config.topics)


def _view_rules(topics: Topics) -> None:
    """What must hold between the lists that have one entry per view."""
    views = len(topics.images)
    if not views:
        raise ConfigError("topics.images: the list is empty; give one image topic per view")
    for name, values, allowed in (
        ("image_rotations", topics.image_rotations, IMAGE_ROTATIONS),
        ("image_flips", topics.image_flips, IMAGE_FLIPS),
    ):
        for value in values:
            if value not in allowed:
                raise ConfigError(f"topics.{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
        if len(values) != views and set(values) - {allowed[0]}:
            raise ConfigError(
                f"topics.{name}: {len(values)} values for {views} image topics; give one per view, in their order"
            )


def check_views(topics: Topics, views: int) -> None:
    """ConfigError unless there is one image topic per view of the policy."""
    if len(topics.images) != views:
        raise ConfigError(
            f"topics.images: {len(topics.images)} topics for a policy with {views} views; give one per view, "
            "in the policy's order"
        )


def parameters() -> tuple[Parameter, ...]:
    """All declared parameters in the order of declaration."""
    return tuple(_walk(Config(), ""))


def lookup(name: str) -> Parameter:
    """The declaration of a dotted name; ConfigError with the nearest names when there is none."""
    declared = _by_name()
    if name not in declared:
        near = difflib.get_close_matches(name, declared, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see docs/reference/parameters.md"
        raise ConfigError(f"unknown parameter {name!r}; {hint}")
    return declared[name]


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) pairs of a nested mapping, as in a ROS YAML file below `ros__parameters`."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, name + ".")
        else:
            yield name, value


def _by_name() -> dict[str, Parameter]:
    global _TABLE
    if _TABLE is None:
        _TABLE = {parameter.name: parameter for parameter in parameters()}
    return _TABLE


_TABLE: dict[str, Parameter] | None = None


def _walk(node: Any, prefix: str) -> Iterator[Parameter]:
    for item in fields(node):
        value = getattr(node, item.name)
        if is_dataclass(value):
            yield from _walk(value, f"{prefix}{item.name}.")
        else:
            yield Parameter(name=prefix + item.name, default=value, **item.metadata)


def _replaced(node: Any, changes: Mapping[str, Any]) -> Any:
    own: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, inner in groups.items():
        own[head] = _replaced(getattr(node, head), inner)
    return replace(node, **own)
