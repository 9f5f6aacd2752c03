"""Modes at several levels of aggressiveness: `full@0.25` is `full` with `pruning.aggressiveness: 0.25`."""

from __future__ import annotations

from collections.abc import Sequence

from specprune_ros.config import ConfigError

REFERENCE = "dense"
"""The mode that every other one is judged against."""


def expanded(names: Sequence[str], levels: Sequence[float]) -> tuple[str, ...]:
    """Every mode at every level, the reference first and once: it prunes nothing. A name with a level stays as it
    is."""
    others = [name for name in names if name != REFERENCE]
    first = [REFERENCE] if REFERENCE in names else []
    every = [name if "@" in name or not levels else f"{name}@{level:g}" for name in others for level in levels or (0,)]
    return tuple(dict.fromkeys((*first, *every)))


def parse_levels(text: str) -> tuple[float, ...]:
    """'0.25,1' -> (0.25, 1.0); ConfigError unless each is above 0 and at most 1."""
    try:
        levels = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--levels: {text!r} is not a list of numbers; give for example 0.25,0.5,1") from None
    for level in levels:
        if not 0.0 < level <= 1.0:
            raise ConfigError(f"--levels: {level:g} is not above 0 and at most 1; dense is the mode of level 0")
    return levels
