"""How inferences run: op by op, or as captured graphs on top of that.

An inference whose graphs are not there yet runs op by op, with the same result, and they are made later: a changed
aggressiveness costs slower inferences for a moment and never a pause. Where capturing stops the device, as for CUDA
graphs, it happens in idle moments of the inference thread; where it takes seconds of a CPU, as for OpenVINO, beside
the inferences.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Protocol

import torch
from torch import Tensor

from specprune_ros.infer.clock import Spent, Together, clock_for
from specprune_ros.infer.graphs import Captured, Key, Prefix, Shelf, Wanted, key_of
from specprune_ros.infer.passes import (
    Cameras,
    Half,
    Outputs,
    Passes,
    PassInputs,
    PrefixHalf,
    PrefixInputs,
    SuffixHalf,
    SuffixInputs,
)
from specprune_ros.infer.records import refilled, tensors_of
from specprune_ros.model.decoder import Rope
from specprune_ros.model.vla import Plan
from specprune_ros.prune.budgets import schedule
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.strategies.registry import STRATEGIES

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0


class Engine(Protocol):
    """One way to run inferences. All of it is called from one thread."""

    name: str
    captures: bool
    """Whether inferences get faster when they were announced by `expect`."""
    ran: str
    """How the last inference really ran: `eager`, or the engine's name when its graphs were there."""
    pending: int
    """Captures that will stop the inference thread in its next idle moments."""
    making: int
    """Kinds of inference that are being made fast beside the inferences, and are slower until then."""
    trouble: str
    """Why it is no faster engine, or why some inferences stay slower; empty while nothing went wrong."""
    state: str
    """The engine in words: its name, what is still being made, and what went wrong."""

    def run(self, inputs: PassInputs, layout: Layout, plan: Plan) -> tuple[Outputs, Spent]:
        """One inference; does not wait for the device. What was spent may be read after the outputs were."""
        ...

    def expect(self, inputs: PassInputs, layout: Layout, plan: Plan) -> None:
        """Such an inference may come: what it needs is made when there is time."""
        ...

    def prepare(self, inputs: PassInputs, layout: Layout, plan: Plan) -> None:
        """Such an inference comes next: what it needs is made now, unless that takes long."""
        ...

    def idle(self) -> bool:
        """Use a moment without inferences; False when there is nothing to do in it."""
        ...

    def settle(self, timeout_s: float) -> bool:
        """Wait until everything expected is made; False when that took too long."""
        ...


class EagerEngine:
    """Op by op; on any device. why: the reason why it is not a faster engine, where there is one."""

    name = ran = "eager"
    captures = False
    pending = making = 0

    def __init__(self, passes: Passes, why: str = ""):
        self.passes, self.trouble = passes, why
        self.state = f"{self.name}: {why}" if why else self.name
        self._ropes: dict[Layout, Rope] = {}

    def run(self, inputs: PassInputs, layout: Layout, plan: Plan) -> tuple[Outputs, Spent]:
        clock, rope = clock_for(inputs.prompt.device), self.rope(layout)
        seen = self.passes.see(Cameras(inputs.frames, inputs.reference), clock)
        fixed = (layout, rope, plan.scored, plan.static.similarity)
        middle = self.passes.prefix(seen, inputs.prompt, inputs.proprio, *fixed, clock)
        given = SuffixInputs(middle, inputs.last_attention, inputs.noise)
        return self.passes.suffix(given, layout, rope, plan, clock), clock

    def expect(self, inputs: PassInputs, layout: Layout, plan: Plan) -> None:
        """Nothing to get ready: the first pass of a kind is only slower."""

    prepare = expect

    def idle(self) -> bool:
        return False

    def settle(self, timeout_s: float) -> bool:
        return True

    def rope(self, layout: Layout) -> Rope:
        """The table of a layout, kept."""
        if layout not in self._ropes:
            parameter = next(self.passes.model.parameters())
            like = torch.empty(0, device=parameter.device, dtype=parameter.dtype)
            self._ropes[layout] = self.passes.model.rope(layout.length, like)
        return self._ropes[layout]


class Capture(Protocol):
    """Makes a graph of a half."""

    name: str
    from_cameras: bool
    """Whether the graph begins with the cameras' frames, or with what the towers see."""
    background: bool
    """Whether it takes seconds and may run beside inferences, in another thread."""
    dtype: torch.dtype | None
    """Of all floating-point buffers, None: the model's."""
    most_suffixes: int
    """Graphs of second halves to keep for every first half."""

    def __call__(self, half: Half, given: PrefixInputs | SuffixInputs) -> Captured:
        """A graph that reads the buffers `given`; any exception means that it cannot be had, and why."""
        ...

    def release(self) -> None:
        """Let go of what only capturing needs; called when nothing is wanted for now."""
        ...


class GraphEngine:
    """Captured graphs, on top of the eager engine that runs what is not captured yet."""

    captures = True

    def __init__(self, eager: EagerEngine, capture: Capture):
        self.eager, self.passes, self.name, self.ran = eager, eager.passes, capture.name, eager.name
        self.shelf = Shelf(capture.most_suffixes)
        self._capture = capture
        self._lock, self._making = threading.Lock(), False
        # A capture's helpers end with the engine; at the end of the process they end by themselves.
        weakref.finalize(self, capture.release).atexit = False

    def run(self, inputs: PassInputs, layout: Layout, plan: Plan) -> tuple[Outputs, Spent]:
        key = self._key(inputs, layout, plan)
        pair = self.shelf.pair(key)
        if pair is None:
            self._want(key, Wanted(inputs, layout, plan), urgent=True)
            self.ran = self.eager.name
            return self.eager.run(inputs, layout, plan)
        self.ran = self.name
        prefix, suffix = pair
        seeing = self._fill(prefix, inputs)
        prefix.captured.replay()
        suffix.replay()
        # The next replay overwrites the outputs, and a memory may be kept longer than that.
        outputs = refilled(suffix.outputs, [output.clone() for output in tensors_of(suffix.outputs)])
        return outputs, Together(*seeing, prefix.captured.spent(), suffix.spent())

    def expect(self, inputs: PassInputs, layout: Layout, plan: Plan) -> None:
        self._want(self._key(inputs, layout, plan), Wanted(inputs, layout, plan))

    def prepare(self, inputs: PassInputs, layout: Layout, plan: Plan) -> None:
        self.expect(inputs, layout, plan)
        while self.idle():
            pass

    def idle(self) -> bool:
        return not self._capture.background and self._make_one()

    def settle(self, timeout_s: float) -> bool:
        while self.idle():
            pass
        return self.shelf.wait(timeout_s)

    def release(self) -> None:
        """Nothing is wanted for now: let go of what only capturing needs."""
        self._capture.release()

    @property
    def pending(self) -> int:
        return 0 if self._capture.background else self.shelf.outstanding

    @property
    def making(self) -> int:
        return self.shelf.outstanding if self._capture.background else 0

    @property
    def trouble(self) -> str:
        return self.shelf.trouble

    @property
    def state(self) -> str:
        left = self.shelf.outstanding
        ready = f"{self.shelf.ready} kinds of inference ready, {left} being made, until then op by op"
        return self.name + (f" ({ready})" if left else "") + (f": {self.trouble}" if self.trouble else "")

    def _key(self, inputs: PassInputs, layout: Layout, plan: Plan) -> Key:
        """Cameras of every size share a graph that does not begin with their frames."""
        key = key_of(inputs, layout, plan)
        return key if self._capture.from_cameras else key._replace(sizes=())

    def _want(self, key: Key, wanted: Wanted, urgent: bool = False) -> None:
        with self._lock:  # a thread that is about to end because nothing is wanted must not miss this
            if self.shelf.want(key, wanted, urgent) and self._capture.background and not self._making:
                self._making = True
                # Of the engine only a weak reference: a policy that nobody uses any more ends its thread.
                threading.Thread(target=_make_all, args=(weakref.ref(self),), name="graphs").start()

    def _make_one(self) -> bool:
        """Make one wanted pair of graphs; False when none is left."""
        taken = self.shelf.take()
        if taken is None:
            return False
        key, wanted = taken
        why_not = ""
        try:
            self._make(key, wanted)
        except Exception as error:  # out of memory, an operation that cannot be captured, an old driver
            why_not = " ".join(str(error).split()) or type(error).__name__
            if threading.main_thread().is_alive():  # else the process ends, and with it what was being made
                log.warning("policy.engine: %s: such inferences go on op by op and slower: %s", self.name, why_not)
        self.shelf.done(key, why_not)
        return self.shelf.outstanding > 0

    def _make(self, key: Key, wanted: Wanted) -> None:
        inputs, layout, plan = wanted
        rope = self.eager.rope(layout)
        prefix = self.shelf.prefix(key)
        if prefix is None:
            half = PrefixHalf(self.passes, layout, rope, plan.scored, plan.static.similarity)
            given = self._prefix_buffers(inputs, plan.scored)
            captured = self._capture(half, given)
            prefix = Prefix(given, self._attention_buffer(layout), captured, self._noise_buffer(layout))
            self.shelf.put_prefix(key, prefix)
        if plan not in prefix.suffixes:
            strategy = STRATEGIES[plan.strategy]
            past = prefix.last_attention if strategy.remembers else None
            given = SuffixInputs(prefix.captured.outputs, past, prefix.noise if strategy.noisy else None)
            self.shelf.put_suffix(key, prefix, self._capture(SuffixHalf(self.passes, layout, rope, plan), given))

    @torch.inference_mode()
    def _prefix_buffers(self, inputs: PassInputs, scored: bool) -> PrefixInputs:
        """Tensors of their own for everything a first half reads; a reference is always there where tokens are
        scored."""
        images = Cameras(inputs.frames, (inputs.reference or inputs.frames) if scored else None)
        if not self._capture.from_cameras:
            images = self.passes.see(images, clock_for(inputs.prompt.device))
        compare = torch.zeros((), dtype=torch.bool, device=inputs.prompt.device) if scored else None
        given = PrefixInputs(images, inputs.prompt, inputs.proprio, compare)
        return refilled(given, [self._buffer(tensor) for tensor in tensors_of(given)])

    @torch.inference_mode()
    def _attention_buffer(self, layout: Layout) -> Tensor:
        layers = len(schedule(len(self.passes.model.decoder.layers)).remembered)
        device = next(self.passes.model.parameters()).device
        return torch.full((layers, layout.views, layout.patches), -torch.inf, device=device)

    @torch.inference_mode()
    def _noise_buffer(self, layout: Layout) -> Tensor:
        device = next(self.passes.model.parameters()).device
        return torch.arange(layout.visual, dtype=torch.int32, device=device).view(layout.views, layout.patches)

    def _buffer(self, like: Tensor) -> Tensor:
        dtype = self._capture.dtype if self._capture.dtype and like.is_floating_point() else like.dtype
        return like.to(dtype, copy=True, memory_format=torch.contiguous_format)

    def _fill(self, prefix: Prefix, inputs: PassInputs) -> list[Spent]:
        """Copy an inference's values into the buffers, on the device's own timeline; what was spent on seeing outside
        the graph."""
        given, spent = prefix.given, []
        images = Cameras(inputs.frames, inputs.reference)
        if not self._capture.from_cameras:
            spent.append(clock_for(inputs.prompt.device))
            images = self.passes.see(images, spent[0])
        for buffers, values in zip(given.images, images, strict=True):
            if buffers is not None and values is not None:  # nothing to compare with: what is in the buffer is masked
                _copy(buffers, values)
        _copy((given.prompt, given.proprio), (inputs.prompt, inputs.proprio))
        if given.compare is not None:
            given.compare.fill_(inputs.reference is not None)
        if inputs.last_attention is None:
            prefix.last_attention.fill_(-torch.inf)
        else:
            prefix.last_attention.copy_(inputs.last_attention, non_blocking=True)
        if inputs.noise is not None:
            prefix.noise.copy_(inputs.noise, non_blocking=True)
        return spent


def _copy(buffers, values) -> None:
    for buffer, value in zip(tensors_of(buffers), tensors_of(values), strict=True):
        buffer.copy_(value, non_blocking=True)


def _make_all(engine_ref: weakref.ref[GraphEngine]) -> None:
    """The thread of a capture that takes long: makes what is wanted until nothing is, the engine is gone or the
    process ends."""
    said_s = time.monotonic()
    while threading.main_thread().is_alive() and (engine := engine_ref()) is not None:
        engine._make_one()
        left = engine.shelf.outstanding
        if not left or time.monotonic() - said_s > PROGRESS_EVERY_S:
            said_s = time.monotonic()
            log.info("policy.engine: %s", engine.state)
        if not left:
            engine.release()
            with engine._lock:
                engine._making = engine.shelf.outstanding > 0  # something may be wanted since
                if not engine._making:
                    return
        del engine
