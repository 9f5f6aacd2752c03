"""Time per stage of an inference: wall time on a CPU, device events on a GPU, which must not be waited for between
stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from specprune_ros.types import STAGES


class Spent(Protocol):
    """Where the time of something that ran has gone."""

    def milliseconds(self) -> dict[str, float]:
        """[ms] of each of `STAGES`. On a GPU only after the device has been waited for."""
        ...


class Stopwatch:
    """Wall time per stage; a stage entered inside another is taken out of the outer one."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start again from zero."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.inner = 0.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start, before = time.perf_counter(), self.inner
        self.inner = 0.0
        yield
        spent = time.perf_counter() - start
        self.seconds[stage] += spent - self.inner
        self.inner = before + spent

    def milliseconds(self) -> dict[str, float]:
        return {stage: 1e3 * seconds for stage, seconds in self.seconds.items()}


class EventClock:
    """The same from CUDA events on the current stream. `external`: in a captured graph, events that every replay
    records anew."""

    def __init__(self, external: bool = False):
        self.external = external
        self.clear()

    def clear(self) -> None:
        """Start again from nothing measured."""
        self.spans: list[tuple[str, str | None, torch.cuda.Event, torch.cuda.Event]] = []
        self.outer: list[str] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start, end = self._event(), self._event()
        parent = self.outer[-1] if self.outer else None
        self.outer.append(stage)
        start.record()
        yield
        end.record()
        self.outer.pop()
        self.spans.append((stage, parent, start, end))

    def _event(self) -> torch.cuda.Event:
        return torch.cuda.Event(enable_timing=True, **({"external": True} if self.external else {}))

    def milliseconds(self) -> dict[str, float]:
        spent = dict.fromkeys(STAGES, 0.0)
        for stage, parent, start, end in self.spans:
            elapsed = start.elapsed_time(end)
            spent[stage] += elapsed
            if parent:
                spent[parent] -= elapsed
        return spent


class Together:
    """What several parts that ran one after the other have spent."""

    def __init__(self, *parts: Spent):
        self.parts = parts

    def milliseconds(self) -> dict[str, float]:
        spent = [part.milliseconds() for part in self.parts]
        return {stage: sum(part[stage] for part in spent) for stage in STAGES}


def clock_for(device: torch.device) -> Stopwatch | EventClock:
    """A clock for what runs on this device: CUDA events on a GPU, wall time elsewhere."""
    return EventClock() if device.type == "cuda" else Stopwatch()
