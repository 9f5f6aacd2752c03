"""What a declared parameter is: a dataclass field that carries its own documentation and its own check."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A parameter that cannot be used: the text names it, the value, the bound and the remedy."""


def param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    bounds: tuple[float | None, float | None] | None = None,
    choices: tuple[str, ...] | None = None,
    live: bool = True,
) -> Any:
    """A dataclass field that carries its own documentation.

    bounds: (low, high) inclusive, either may be None; choices: allowed strings; live: may change while the node runs.
    """
    metadata = dict(doc=doc, unit=unit, bounds=bounds, choices=choices, live=live)
    if isinstance(default, (list, tuple)):
        return field(default=tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Parameter:
    """One declared parameter, as ROS, YAML and the documentation see it."""

    name: str
    default: Any
    doc: str
    unit: str
    bounds: tuple[float | None, float | None] | None
    choices: tuple[str, ...] | None
    live: bool

    def check(self, value: Any) -> Any:
        """`value` converted to the declared type, or ConfigError."""
        value = self._typed(value)
        for item in value if isinstance(value, tuple) else (value,):
            self._check_item(item)
        return value

    def _typed(self, value: Any) -> Any:
        kind = type(self.default)
        if kind is tuple:
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise ConfigError(f"{self.name}: expected a list, got {value!r}")
            element = type(self.default[0]) if self.default else str
            return tuple(self._scalar(item, element) for item in value)
        return self._scalar(value, kind)

    def _scalar(self, value: Any, kind: type) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"{self.name}: expected {kind.__name__}, got {type(value).__name__} {value!r}")
        return value

    def _check_item(self, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self.name}: {value} is not finite; give a number {self.range_text()}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name}: {value!r} is not one of {', '.join(self.choices)}")
        if self.bounds:
            low, high = self.bounds
            if (low is not None and value < low) or (high is not None and value > high):
                raise ConfigError(f"{self.name}: {value} is out of range; give a number {self.range_text()}")

    def range_text(self) -> str:
        if not self.bounds:
            return ""
        low, high = self.bounds
        if high is None:
            return f">= {low}"
        if low is None:
            return f"<= {high}"
        return f"in [{low}, {high}]"
