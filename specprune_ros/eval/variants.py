"""The ways to run the policy that the evaluation and the benchmark compare, as parameter changes.

A name may end in a level: `random@0.5` is at aggressiveness 0.5, `random@2%` keeps 2 % of every view's tokens.
"""

from __future__ import annotations

from specprune_ros.config import STRATEGY_NAMES, Config, ConfigError

VARIANTS: dict[str, dict[str, object]] = {
    # A dense pass has no coarse and fine mode, so it must not replan on a switch between them either.
    "dense": {"pruning.aggressiveness": 0.0, "pruning.controller.enabled": False},
    "static": {"pruning.dynamic.enabled": False, "pruning.controller.enabled": False},
    "static_dynamic": {"pruning.controller.enabled": False},
    "full": {},
}
"""The method by its parts: what is compared unless something else is asked for."""

MODES = VARIANTS | {name: {"pruning.strategy": name} for name in STRATEGY_NAMES}
"""And every selection strategy under the same counts, by the name that `pruning.strategy` takes."""

LEVEL = "@"


def variant(config: Config, name: str) -> Config:
    """`config` with only the parts of the method switched on that `name` stands for, at its level if it has one;
    ConfigError for anything that it cannot stand for."""
    mode, _, level = name.partition(LEVEL)
    if mode not in MODES:
        raise ConfigError(f"--modes: {mode!r} is not one of {', '.join(MODES)}")
    if LEVEL not in name:
        return config.updated(MODES[mode])
    if mode == "dense":
        raise ConfigError(f"--modes: {name!r}: dense keeps every token and has no level; give dense")
    return config.updated({**MODES[mode], **_level(name, level)})


def _level(name: str, text: str) -> dict[str, object]:
    """What follows the @ as parameter changes."""
    form = f"--modes: {name!r}: expected an aggressiveness above 0 and up to 1 or a share above 0% and up to 100%"
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100.0 if share else 1.0)
    except ValueError:
        raise ConfigError(form) from None
    if not 0.0 < value <= 1.0:
        raise ConfigError(form)
    return {"pruning.keep": value} if share else {"pruning.aggressiveness": value, "pruning.keep": 0.0}


def parse_names(text: str) -> tuple[str, ...]:
    """'full,dense' -> ('dense', 'full'): known names once each, in the order of MODES, and of a mode's levels as they
    are given."""
    asked = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in asked:
        variant(Config(), name)
    if not asked:
        raise ConfigError(f"--modes: the list is empty; give one or more of {', '.join(MODES)}")
    order = list(MODES)
    return tuple(sorted(asked, key=lambda name: order.index(name.partition(LEVEL)[0])))
