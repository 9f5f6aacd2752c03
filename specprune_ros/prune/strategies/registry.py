"""All selection strategies, by name."""

from __future__ import annotations

from specprune_ros.prune.strategies.at_random import Random
from specprune_ros.prune.strategies.fastv import FastV
from specprune_ros.prune.strategies.local import Local
from specprune_ros.prune.strategies.official import Official
from specprune_ros.prune.strategies.protocol import Strategy
from specprune_ros.prune.strategies.specprune import SpecPrune

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy for strategy in (SpecPrune(), Random(), Local(), FastV(), Official())
}
"""By the names that `pruning.strategy` takes."""
