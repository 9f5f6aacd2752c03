"""The four ways to run the policy that the evaluation and the benchmark compare, as parameter changes."""

from __future__ import annotations

from specprune_ros.config import Config, ConfigError

VARIANTS: dict[str, dict[str, object]] = {
    # A dense pass has no coarse and fine mode, so it must not replan on a switch between them either.
    "dense": {"pruning.aggressiveness": 0.0, "pruning.controller.enabled": False},
    "static": {"pruning.dynamic.enabled": False, "pruning.controller.enabled": False},
    "static_dynamic": {"pruning.controller.enabled": False},
    "full": {},
}


def variant(config: Config, name: str) -> Config:
    """`config` with only the parts of the method switched on that `name` stands for."""
    return config.updated(VARIANTS[name])


def parse_names(text: str) -> tuple[str, ...]:
    """'full,dense' -> ('dense', 'full'): known names once each, in the order of VARIANTS."""
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if name not in VARIANTS:
            raise ConfigError(f"--modes: {name!r} is not one of {', '.join(VARIANTS)}")
    if not asked:
        raise ConfigError(f"--modes: the list is empty; give one or more of {', '.join(VARIANTS)}")
    return tuple(name for name in VARIANTS if name in asked)
