"""`specprune bench --worker`: what it costs that the model runs in a process of its own and not in a thread of the
node.

Both ways are asked the same, in turn, in one run: a policy that only copies its frames, as every policy does first, and
so shows the way there and back alone; and the bundled one. The time is that from handing over a request until its
result is there, with somebody waiting for it."""

from __future__ import annotations

import argparse
import random
import select
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from specprune_ros.bench.faults.policy import ScriptedPolicy
from specprune_ros.config import Config, Pruning
from specprune_ros.eval import stats
from specprune_ros.eval.machine import load_average, machine
from specprune_ros.eval.results import changed_parameters, write_json
from specprune_ros.infer.worker import InferenceWorker
from specprune_ros.types import (
    InferenceRequest,
    InferenceResult,
    Mode,
    Observation,
)

COPYING, BUNDLED = "specprune_ros.bench.seam:copying_policy", "specprune_ros.infer.load:warm_policy"
SIZES = ((224, 224), (480, 640), (720, 1280))
"""(height, width) of the two cameras' frames; the frames that they are compared with go along."""
ROUNDS, BUNDLED_ROUNDS = 500, 40
PAUSE_S = 0.01
"""Between two inferences, as a control loop leaves it: both sides have gone to sleep."""
START_S, ANSWER_S = 300.0, 60.0


class CopyingPolicy(ScriptedPolicy):
    """Copies its frames, and answers without a model."""

    def infer(self, request: InferenceRequest) -> InferenceResult:
        for frame in (*request.observation.images, *(request.reference_images or ())):
            frame.copy()
        return super().infer(request)


def copying_policy(config: Config) -> CopyingPolicy:
    return CopyingPolicy(2)


class InThread:
    """The same seam with the model in a thread of this process."""

    def __init__(self, load: Callable[[], object]):
        self._wake, self._done = threading.Event(), threading.Event()
        self._load = load
        self._request: InferenceRequest | None = None
        self._result: InferenceResult | None = None
        threading.Thread(target=self._serve, daemon=True).start()
        if not self._done.wait(START_S):
            raise TimeoutError("the policy did not load")

    def ask(self, request: InferenceRequest) -> InferenceResult:
        self._done.clear()
        self._request = request
        self._wake.set()
        if not self._done.wait(ANSWER_S):
            raise TimeoutError("the thread did not answer")
        return self._result

    def _serve(self) -> None:
        policy = self._load()
        while True:
            self._done.set()
            self._wake.wait()
            self._wake.clear()
            self._result = policy.infer(self._request)


class InProcess:
    """The node's way."""

    def __init__(self, factory: str, config: Config):
        self._worker = InferenceWorker(factory, config, time.monotonic())
        end_s = time.monotonic() + START_S
        while self._worker.policy() is None:
            self._poll_or_wait(end_s)

    def ask(self, request: InferenceRequest) -> InferenceResult:
        self._worker.submit(request, ANSWER_S, time.monotonic())
        end_s = time.monotonic() + ANSWER_S
        while (outcome := self._poll_or_wait(end_s)) is None:
            pass
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self._worker.close(1.0)

    def _poll_or_wait(self, end_s: float) -> InferenceResult | Exception | None:
        outcome = self._worker.poll(time.monotonic())
        if outcome is None:
            if time.monotonic() > end_s:
                raise TimeoutError("the process did not answer")
            select.select([self._worker], [], [], 0.1)
        return outcome


def run(config: Config, args: argparse.Namespace) -> int:
    """Measure all rows; 0 on success."""
    console = Console()
    before = load_average()
    config = config.updated({"policy.nice": 0})  # as the thread
    rows = [row for size in SIZES for row in measure("copying", size, config, args.rounds or ROUNDS)]
    if not args.quick:
        rows += measure("bundled", SIZES[0], config, args.rounds or BUNDLED_ROUNDS)
    result = {
        "rows": rows,
        "parameters": changed_parameters(config),
        "machine": {**machine(), "load_average_before": before, "load_average_after": load_average()},
    }
    console.print(table(result))
    if args.json:
        write_json(args.json, result)
    return 0


def measure(name: str, size: tuple[int, int], config: Config, rounds: int) -> list[dict[str, object]]:
    """A row for the process and one for the thread, from `rounds` inferences of each in turn."""
    ways = {"process": InProcess(_factory(name), config), "thread": InThread(lambda: _policy(name, config))}
    spent_ms: dict[str, list[float]] = {way: [] for way in ways}
    shuffle = random.Random(0)
    try:
        for number in range(-3, rounds):  # the first ones do not count
            for way in shuffle.sample(sorted(ways), len(ways)):
                request = _request(size, number + 4)
                time.sleep(PAUSE_S)
                began_s = time.perf_counter()
                ways[way].ask(request)
                if number >= 0:
                    spent_ms[way].append(1e3 * (time.perf_counter() - began_s))
    finally:
        ways["process"].close()
    common = {"policy": name, "height": size[0], "width": size[1], "rounds": rounds}
    return [{**common, "way": way, **stats.percentiles_ms(values)} for way, values in spent_ms.items()]


def _factory(name: str) -> str:
    return {"copying": COPYING, "bundled": BUNDLED}[name]


def _policy(name: str, config: Config):
    if name == "copying":
        return copying_policy(config)
    from specprune_ros.infer.load import warm_policy

    return warm_policy(config)


def _request(size: tuple[int, int], number: int) -> InferenceRequest:
    frames = [np.full((*size, 3), (number + i) % 256, np.uint8) for i in range(4)]
    seen = Observation(number, tuple(frames[:2]), np.zeros(8, np.float32), "pick up the red cube", None)
    return InferenceRequest(number, seen, tuple(frames[2:]), 11, Mode.FINE, None, Pruning())


def table(result: Mapping[str, object]) -> Table:
    """One line for each policy and size: both ways, and what the process adds."""
    shown = Table(title="From request to result [ms]", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("policy", "frames", "rounds", "process p50", "p99", "thread p50", "p99", "added p50"):
        shown.add_column(heading, justify="right")
    rows = result["rows"]
    for process, thread in zip(rows[::2], rows[1::2], strict=True):
        values = [way[f"p{q}"] for way in (process, thread) for q in (50, 99)]
        added = process["p50"] - thread["p50"]
        size = f"4 x {process['height']} x {process['width']}"
        shown.add_row(process["policy"], size, str(process["rounds"]), *(f"{v:.2f}" for v in (*values, added)))
    return shown
