"""Closed loop without ROS: the same environment, control loop and policy as the nodes, in simulated time.

Inference is given a fixed latency in control periods instead of the wall clock's, so that an episode depends only on
its seed and the parameters. The executor then drops the steps that passed meanwhile, exactly as on the robot.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count

import numpy as np

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.pixels import as_configured
from specprune_ros.sim.settings import check_steps
from specprune_ros.types import Command, EndEffector, InferenceRequest, InferenceResult, PruningReport

START_NS = 1_000_000_000
"""Simulated time of the first control period; not 0, which many clocks use for 'unset'."""

RATE_TOLERANCE = 1e-6

SEEDS = 2**31 - 1
"""The largest `pruning.random_seed`."""


@dataclass(frozen=True)
class Episode:
    """What one episode came to. Per-inference tuples are in the order of the inferences."""

    seed: int
    instruction: str
    success: bool
    steps: int
    held_steps: int
    tokens_total: int
    tokens_kept: tuple[int, ...]
    latency_ms: tuple[float, ...]
    modes: dict[str, int]
    """inferences per pruning mode"""
    suite: str = "pick"
    gflop: tuple[float, ...] = ()
    """analytic cost of each inference, see model/flops.py"""

    def to_json(self) -> dict[str, object]:
        record = asdict(self)
        record["latency_ms"] = [round(value, 2) for value in self.latency_ms]
        record["gflop"] = [round(value, 3) for value in self.gflop]
        return record

    @classmethod
    def from_json(cls, record: dict[str, object]) -> Episode:
        lists = {name: tuple(record[name]) for name in ("tokens_kept", "latency_ms", "gflop")}
        return cls(**{**record, **lists})


class InferenceLine:
    """Simulated delivery, one at a time: a result asked for in period t comes out in period t + latency."""

    def __init__(self, policy, latency_steps: int):
        self._policy = policy
        self.latency_steps = latency_steps
        self._due: tuple[int, InferenceResult] | None = None
        self.latency_ms: list[float] = []
        self.reports: list[PruningReport] = []

    def submit(self, period: int, request: InferenceRequest) -> None:
        started = time.perf_counter()
        result = self._policy.infer(request)
        self.latency_ms.append(1e3 * (time.perf_counter() - started))
        self.reports.append(result.report)
        self._due = (period + self.latency_steps, result)

    def deliver(self, period: int) -> InferenceResult | None:
        if self._due is None or period < self._due[0]:
            return None
        result, self._due = self._due[1], None
        return result


def run_episode(env, policy, config: Config, seed: int, latency_steps: int = 1, suite: str = "pick") -> Episode:
    """Play the episode of `seed` in a suite until success or the environment's step limit.

    ConfigError when `env` steps at another rate than the control loop would, as every speed would be wrong, or does not
    move as far in one period as the policy may ask for. A strategy that draws draws otherwise in every episode.
    """
    check_steps(config)
    if abs(env.control_rate - config.control.rate) > RATE_TOLERANCE * config.control.rate:
        raise ConfigError(
            f"control.rate: {config.control.rate:g} Hz, but the simulator steps at {env.control_rate:g} Hz; "
            "make it with control_rate=config.control.rate"
        )
    if config.pruning.strategy == "random":  # chunks are numbered alike in every episode
        config = config.updated({"pruning.random_seed": (config.pruning.random_seed + seed) % (SEEDS + 1)})
    instruction = env.reset(seed, suite=suite)
    line = InferenceLine(policy, latency_steps)
    held = steps = 0
    for steps, commanded in enumerate(_periods(env, policy, config, instruction, line), start=1):
        held += not commanded
        if env.success() or steps == env.max_steps:
            break
    return Episode(
        seed=seed,
        instruction=instruction,
        success=bool(env.success()),
        steps=steps,
        held_steps=held,
        tokens_total=line.reports[-1].tokens_total if line.reports else 0,
        tokens_kept=tuple(report.tokens_kept for report in line.reports),
        latency_ms=tuple(line.latency_ms),
        modes=dict(Counter(report.mode.value for report in line.reports)),
        suite=suite,
        gflop=tuple(policy.gflop(report) for report in line.reports),
    )


def _periods(env, policy, config: Config, instruction: str, line: InferenceLine) -> Iterator[bool]:
    """Run control periods without end; yields after each whether the arm was commanded (not holding)."""
    from specprune_ros.sim.osc import action_units

    loop = ControlLoop(config, policy.view_count, policy.chunk_steps, policy.proprio_dims)
    loop.set_instruction(instruction)
    period_ns = round(1e9 / config.control.rate)
    for period in count():
        now_ns = START_NS + period * period_ns
        observe(loop, env, now_ns)
        if not line.latency_steps:  # the world waits for the policy
            _ask(loop, line, period, now_ns)
        if result := line.deliver(period):
            loop.accept(result, now_ns)
        decision = loop.tick(now_ns)
        if line.latency_steps:
            _ask(loop, line, period, now_ns)
        commanded = isinstance(decision, Command)
        command = decision if commanded else decision.braking
        env.step(action_units(command.displacement)) if command else env.hold()
        yield commanded


def _ask(loop: ControlLoop, line: InferenceLine, period: int, now_ns: int) -> None:
    if request := loop.request(now_ns):
        line.submit(period, request)


def observe(loop: ControlLoop, env, now_ns: int) -> None:
    """Hand the loop what cameras and robot state show now; images are turned and made smaller as by the node."""
    topics = loop.config.topics
    loop.set_frame(now_ns, tuple(as_configured(env.render(c), topics, view) for view, c in enumerate(env.CAMERAS)))
    loop.set_state(end_effector(env.state(), now_ns), env.proprio())


def end_effector(state, stamp_ns: int) -> EndEffector:
    """The measured pose in a simulator state."""
    return EndEffector(
        stamp_ns=stamp_ns,
        position_m=np.asarray(state.ee_position_m, np.float64),
        quaternion_xyzw=np.asarray(state.ee_quaternion_xyzw, np.float64),
    )
