"""How the two halves of an inference run: op by op, or as captured graphs.

A graph fixes shapes, so there is one for the prefix and one for the suffix of every plan (token budget). An inference whose graphs
are not there yet runs op by op, with the same result, and they are captured in the next idle moment: a changed aggressiveness
costs one slower inference and never a pause. All of it happens in one thread.
"""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from specprune_ros.infer.clock import EventClock, Stopwatch, clock_for
from specprune_ros.infer.passes import Inputs, Middle, Outputs, Passes
from specprune_ros.model.decoder import Rope
from specprune_ros.model.vla import Plan
from specprune_ros.prune.budgets import schedule
from specprune_ros.prune.layout import Layout

log = logging.getLogger(__name__)

MOST_PREFIXES, MOST_SUFFIXES = 8, 48
"""Graphs that are kept; the least recently used ones go first."""

MOST_FAILURES = 3
"""After so many no further capture is tried."""

Clock = Stopwatch | EventClock


class Engine(Protocol):
    """One way to run inferences. `run` does not wait for the device; `clock` may be read after the outputs were."""

    name: str
    captures: bool
    pending: int
    trouble: str

    def run(self, inputs: Inputs, layout: Layout, plan: Plan) -> tuple[Outputs, Clock]: ...

    def expect(self, inputs: Inputs, layout: Layout, plan: Plan) -> None: ...

    def prepare(self, inputs: Inputs, layout: Layout, plan: Plan) -> None: ...

    def idle(self) -> bool: ...


class EagerEngine:
    """Op by op; on any device."""

    name = "eager"
    captures = False
    pending = 0
    trouble = ""

    def __init__(self, passes: Passes):
        self.passes = passes
        self._ropes: dict[Layout, Rope] = {}

    def run(self, inputs: Inputs, layout: Layout, plan: Plan) -> tuple[Outputs, Clock]:
        """One inference."""
        clock, rope = clock_for(inputs.prompt.device), self.rope(layout)
        middle = self.passes.prefix(inputs, layout, rope, plan.scored, plan.static.similarity, clock)
        return self.passes.suffix(middle, inputs.reuse, layout, rope, plan, clock), clock

    def expect(self, inputs: Inputs, layout: Layout, plan: Plan) -> None:
        """Nothing to get ready: the first pass of a kind is only slower."""

    prepare = expect

    def idle(self) -> bool:
        return False

    def rope(self, layout: Layout) -> Rope:
        """The table of a layout, kept."""
        if layout not in self._ropes:
            parameter = next(self.passes.model.parameters())
            like = torch.empty(0, device=parameter.device, dtype=parameter.dtype)
            self._ropes[layout] = self.passes.model.rope(layout.length, like)
        return self._ropes[layout]


class Captured(Protocol):
    """A recorded function: `replay` runs it on what its buffers hold now, and overwrites `outputs`."""

    outputs: tuple[Tensor, ...]

    def replay(self) -> None: ...


Capture = Callable[[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]], Captured]
"""capture(function, buffers) records function(*buffers)."""


@dataclass
class _Prefix:
    """A captured prefix: its input buffers, its outputs, and its suffixes by plan."""

    inputs: Inputs
    compare: Tensor
    graph: Captured
    clock: Clock | None
    suffixes: OrderedDict[Plan, _Suffix] = field(default_factory=OrderedDict)


@dataclass
class _Suffix:
    graph: Captured
    lengths: tuple[int, ...]
    clock: Clock | None


class GraphEngine:
    """Captured graphs, on top of the eager engine that runs what is not captured yet."""

    name = "graph"
    captures = True

    def __init__(self, eager: EagerEngine, capture: Capture, new_clock: Callable[[], Clock] = Stopwatch):
        self.eager, self.passes = eager, eager.passes
        self._capture, self._new_clock = capture, new_clock
        self._prefixes: OrderedDict[tuple, _Prefix] = OrderedDict()
        self._wanted: OrderedDict[tuple, tuple[Inputs, Layout, Plan]] = OrderedDict()
        self._failed: dict[tuple, str] = {}

    def run(self, inputs: Inputs, layout: Layout, plan: Plan) -> tuple[Outputs, Clock]:
        """One inference: replayed when its graphs are there, eager otherwise."""
        key = _key(inputs, layout, plan)
        prefix = self._prefixes.get(key)
        suffix = prefix and prefix.suffixes.get(plan)
        if suffix is None:
            self.expect(inputs, layout, plan)
            return self.eager.run(inputs, layout, plan)
        self._prefixes.move_to_end(key)
        prefix.suffixes.move_to_end(plan)
        _fill(prefix, inputs)
        prefix.graph.replay()
        suffix.graph.replay()
        actions, bits, *salient = suffix.graph.outputs
        # The next replay overwrites the outputs, and a memory may be kept longer than that.
        kept = salient[0].clone() if salient else None
        return Outputs(actions, bits, kept, suffix.lengths), _Both(prefix.clock, suffix.clock)

    def prepare(self, inputs: Inputs, layout: Layout, plan: Plan) -> None:
        """Capture what this inference needs, now."""
        self.expect(inputs, layout, plan)
        while self.idle():
            pass

    @property
    def pending(self) -> int:
        """How many captures are waiting for an idle moment."""
        return len(self._wanted)

    @property
    def trouble(self) -> str:
        """Why some inferences run op by op for good; empty while nothing went wrong."""
        return "; ".join(dict.fromkeys(self._failed.values()))

    def expect(self, inputs: Inputs, layout: Layout, plan: Plan) -> None:
        """Capture what such an inference needs in an idle moment, unless it is there, or failed before."""
        prefix = _key(inputs, layout, plan)
        known = prefix in self._prefixes and plan in self._prefixes[prefix].suffixes
        if not known and (*prefix, plan) not in self._failed and len(self._failed) < MOST_FAILURES:
            self._wanted[(*prefix, plan)] = (inputs, layout, plan)

    def idle(self) -> bool:
        """Capture one missing pair of graphs; False when none is missing."""
        if not self._wanted:
            return False
        key, (inputs, layout, plan) = self._wanted.popitem(last=False)
        try:
            self._record(key, inputs, layout, plan)
        except (
            Exception
        ) as error:  # out of memory, an operation that cannot be recorded, a driver that does not know how
            self._failed[key] = str(error) or type(error).__name__
            if len(self._failed) >= MOST_FAILURES:
                self._wanted.clear()
            log.warning("capturing a CUDA graph failed, such inferences go on op by op and slower: %s", error)
        return bool(self._wanted)

    def _record(self, key: tuple, inputs: Inputs, layout: Layout, plan: Plan) -> None:
        prefix = self._prefixes.get(key[:-1])
        if prefix is None:
            prefix = self._prefixes[key[:-1]] = self._record_prefix(inputs, layout, plan)
            if len(self._prefixes) > MOST_PREFIXES:
                self._prefixes.popitem(last=False)
        if plan not in prefix.suffixes:
            prefix.suffixes[plan] = self._record_suffix(prefix, layout, plan)
            if len(prefix.suffixes) > MOST_SUFFIXES:
                prefix.suffixes.popitem(last=False)

    def _record_prefix(self, inputs: Inputs, layout: Layout, plan: Plan) -> _Prefix:
        buffers = self._buffers(inputs, layout)
        compare = torch.zeros((), dtype=torch.bool, device=inputs.prompt.device)
        rope, views, clock = self.eager.rope(layout), len(inputs.frames), self._new_clock()

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            clock.clear()
            frames, reference = tensors[:views], tensors[views : 2 * views]
            compare, prompt, *proprio = tensors[2 * views :]
            given = Inputs(frames, prompt, proprio[0] if proprio else None, reference if plan.scored else None, None)
            middle = self.passes.prefix(given, layout, rope, plan.scored, plan.static.similarity, clock)
            if not plan.scored:
                return (middle.x,)
            # +inf, "unchanged": no token counts as changed while there is no frame to compare with.
            return middle.x, middle.scores, middle.similarity.masked_fill(~compare, torch.inf)

        proprio = () if buffers.proprio is None else (buffers.proprio,)
        tensors = (*buffers.frames, *buffers.reference, compare, buffers.prompt, *proprio)
        return _Prefix(buffers, compare, self._capture(function, tensors), clock)

    def _record_suffix(self, prefix: _Prefix, layout: Layout, plan: Plan) -> _Suffix:
        rope, clock, lengths = self.eager.rope(layout), self._new_clock(), ()

        def function(reuse: Tensor, x: Tensor, *scored: Tensor) -> tuple[Tensor, ...]:
            nonlocal lengths
            clock.clear()
            scores, similarity = scored or (None, None)
            outputs = self.passes.suffix(Middle(x, scores, similarity), reuse, layout, rope, plan, clock)
            lengths = outputs.lengths
            salient = () if outputs.salient is None else (outputs.salient,)
            return (outputs.actions, outputs.bits, *salient)

        graph = self._capture(function, (prefix.inputs.reuse, *prefix.graph.outputs))
        return _Suffix(graph, lengths, clock)

    def _buffers(self, inputs: Inputs, layout: Layout) -> Inputs:
        """Tensors of their own for everything an inference reads; history is always there, and empty where an inference has none."""
        layers = len(schedule(len(self.passes.model.decoder.layers)).reuse)
        shape = (layers, layout.views, layout.patches)
        return Inputs(
            tuple(frame.clone() for frame in inputs.frames),
            inputs.prompt.clone(),
            None if inputs.proprio is None else inputs.proprio.clone(),
            tuple(frame.clone() for frame in inputs.reference or inputs.frames),
            torch.full(shape, -torch.inf, device=inputs.prompt.device),
        )


def _key(inputs: Inputs, layout: Layout, plan: Plan) -> tuple:
    """What the prefix depends on besides the values in its buffers."""
    frames = (*inputs.frames, *(inputs.reference or inputs.frames))
    return (layout, tuple(frame.shape for frame in frames), plan.scored, plan.static.similarity)


def _fill(prefix: _Prefix, inputs: Inputs) -> None:
    """Copy an inference's values into the buffers, on the device's own timeline."""
    buffers = prefix.inputs
    for buffer, frame in zip(buffers.frames, inputs.frames, strict=True):
        buffer.copy_(frame, non_blocking=True)
    for buffer, frame in zip(buffers.reference, inputs.reference or (), strict=False):
        buffer.copy_(frame, non_blocking=True)
    prefix.compare.fill_(inputs.reference is not None)
    buffers.prompt.copy_(inputs.prompt, non_blocking=True)
    if buffers.proprio is not None:
        buffers.proprio.copy_(inputs.proprio, non_blocking=True)
    if inputs.reuse is None:
        buffers.reuse.fill_(-torch.inf)
    else:
        buffers.reuse.copy_(inputs.reuse, non_blocking=True)


class _Both:
    """The clocks of two graphs that ran one after the other."""

    def __init__(self, *clocks: Clock):
        self.clocks = clocks

    def milliseconds(self) -> dict[str, float]:
        parts = [clock.milliseconds() for clock in self.clocks]
        return {stage: sum(part[stage] for part in parts) for stage in parts[0]}


class CudaCapture:
    """Records into CUDA graphs that share one memory pool: they are replayed one after the other, on one stream."""

    WARM_UPS = 2

    def __init__(self, device: torch.device):
        self.device, self.pool = device, torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)

    def __call__(self, function: Callable[..., Any], buffers: tuple[Tensor, ...]) -> Captured:
        """Runs the function a few times, so that libraries choose their kernels and workspaces, then records it."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(self.WARM_UPS):
                function(*buffers)
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what drivers and cameras do on the device from other threads does not disturb the recording.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            outputs = function(*buffers)
        return _CudaGraph(graph, outputs, function)


@dataclass(frozen=True)
class _CudaGraph:
    """function: kept because the graph reads memory of tensors that only its closure holds."""

    graph: torch.cuda.CUDAGraph
    outputs: tuple[Tensor, ...]
    function: Callable[..., Any]

    def replay(self) -> None:
        self.graph.replay()


def make_engine(name: str, passes: Passes, device: torch.device) -> Engine:
    """`auto`, `eager` or `graph`; graphs need a CUDA device, and without one the engine is eager, with a warning if it was asked for."""
    eager = EagerEngine(passes)
    if name == "eager" or (name == "auto" and device.type != "cuda"):
        return eager
    if device.type != "cuda":
        log.warning("policy.engine: 'graph' needs a CUDA device and the model is on %s; running op by op", device)
        return eager
    if "external" not in inspect.signature(torch.cuda.Event.__new__).parameters:
        log.warning(
            "policy.engine: captured graphs need torch 2.9 or newer, this is %s; running op by op", torch.__version__
        )
        return eager
    return GraphEngine(eager, CudaCapture(device), lambda: EventClock(external=True))
