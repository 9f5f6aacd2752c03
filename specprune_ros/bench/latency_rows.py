"""What `specprune bench` measures: its rows, and what runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from specprune_ros.config import Config
from specprune_ros.eval.variants import variant
from specprune_ros.types import InferenceRequest, Mode, Observation, PolicyMemory

STOCK = "stock"
WARM_UP_PASSES = 2
SETTLE_EVERY_S = 1.0


class Sample(NamedTuple):
    """One inference. ran: the engine that really ran it; layer_lengths are inside gflop."""

    ran: str
    stages_ms: dict[str, float]
    tokens_kept: int
    tokens_total: int
    gflop: float


class Runner(Protocol):
    """One engine on the model."""

    def get_ready(self, config: Config, observation: Observation) -> None:
        """Let inferences with this configuration run as fast as they will, however long that takes."""
        ...

    def run(
        self, request: InferenceRequest, config: Config, memory: PolicyMemory | None
    ) -> tuple[PolicyMemory | None, Sample]:
        """One inference after the one that left `memory`."""
        ...


class PolicyRunner:
    """An engine of ours."""

    def __init__(self, policy):
        self.policy = policy

    def get_ready(self, config: Config, observation: Observation) -> None:
        self.policy.levels_ahead = ()  # only what is measured is made fast
        self.policy.warm_up(config, WARM_UP_PASSES)
        while not self.policy.settle(SETTLE_EVERY_S):
            pass

    def run(
        self, request: InferenceRequest, config: Config, memory: PolicyMemory | None
    ) -> tuple[PolicyMemory | None, Sample]:
        result = self.policy.infer(replace(request, memory=memory, pruning=config.pruning))
        report = result.report
        gflop = self.policy.gflop(report)
        sample = Sample(self.policy.ran, report.stage_ms, report.tokens_kept, report.tokens_total, gflop)
        return result.memory, sample


class StockRunner:
    """OpenVLA-OFT's forward on transformers' and timm's modules (`bench.stock`)."""

    def __init__(self, stock):
        self.stock = stock

    def get_ready(self, config: Config, observation: Observation) -> None:
        for _ in range(WARM_UP_PASSES):
            self.stock.infer(observation)

    def run(
        self, request: InferenceRequest, config: Config, memory: PolicyMemory | None
    ) -> tuple[PolicyMemory | None, Sample]:
        _, stages_ms = self.stock.infer(request.observation)
        tokens = self.stock.config.views * self.stock.config.patches
        return None, Sample(
            STOCK, {"selection": 0.0, **stages_ms}, tokens, tokens, self.stock.gflop(request.observation)
        )


@dataclass
class Row:
    """One way to run the policy, with its own memory along the recording, and what was measured of it.

    forced: coarse or fine throughout; None: as the controller decides from the recorded motion.
    total_ms, samples: by recorded request.
    """

    engine: str
    mode: str
    forced: Mode | None
    config: Config
    memory: PolicyMemory | None = None
    total_ms: dict[int, list[float]] = field(default_factory=dict)
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    @property
    def aggressiveness(self) -> float:
        return self.config.pruning.aggressiveness

    def all_samples(self) -> list[Sample]:
        return [sample for samples in self.samples.values() for sample in samples]

    def infer(self, runner: Runner, recorded: InferenceRequest) -> tuple[float, Sample]:
        """One inference that continues this row's memory: (end-to-end time [ms], what it was)."""
        memory = None if recorded.memory is None else self.memory
        request = replace(recorded, mode=self.forced or recorded.mode)
        started = time.perf_counter()
        self.memory, sample = runner.run(request, self.config, memory)
        return 1e3 * (time.perf_counter() - started), sample


def rows_of(engine: str, config: Config, levels: Sequence[float], parts: bool) -> list[Row]:
    """The rows of one engine, dense and full first. levels: aggressiveness of further rows of mode full, coarse and
    fine; parts: also the levels of the method alone."""

    def row(mode: str, forced: Mode | None = None, base: Config = config) -> Row:
        return Row(engine, mode, forced, variant(base, mode))

    if engine == STOCK:
        return [row("dense")]
    rows = [row("dense"), row("full")]
    if parts:
        rows += [row("static", Mode.FINE), row("static_dynamic", Mode.FINE)]
    for level in levels:
        base = config.updated({"pruning.aggressiveness": level})
        rows += [row("full", forced, base) for forced in (Mode.COARSE, Mode.FINE)]
    return rows
