"""Halves of inferences as CUDA graphs: recorded once, then replayed with one launch each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from specprune_ros.infer.clock import EventClock, Spent
from specprune_ros.infer.passes import Half, Middle, Outputs, PrefixInputs, SuffixInputs

FIRST_TORCH = (2, 9)
"""The first version whose events can be recorded anew by every replay of a graph."""


class CudaCapture:
    """Records into CUDA graphs that share one memory pool: they are replayed one after the other, on one stream.

    A recording that fails leaves its pool in use by nobody knows whom and may leave its stream current. So after a
    failure the caller's stream is set again, and later recordings get a stream and a pool of their own.
    """

    name = "graph"
    from_cameras = True
    background = False
    dtype = None
    most_suffixes = 48
    WARM_UPS = 2

    def __init__(self, device: torch.device):
        self.device = device
        self._renew()

    def __call__(self, half: Half, given: PrefixInputs | SuffixInputs) -> CudaGraph:
        """Runs the half a few times, so that libraries choose their kernels and workspaces, then records it."""
        clock = EventClock(external=True)

        def function() -> Middle | Outputs:
            clock.clear()
            return half(given, clock)

        current = torch.cuda.current_stream(self.device)
        try:
            return self._recorded(function, current, clock)
        except BaseException:
            self._recover(current)
            raise

    def release(self) -> None:
        """Nothing to let go of: the pool belongs to the graphs."""

    def _recorded(self, function: Callable[[], Any], current: torch.cuda.Stream, clock: EventClock) -> CudaGraph:
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(self.WARM_UPS):
                function()
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what drivers and cameras do on the device from other threads does not disturb the recording.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            outputs = function()
        return CudaGraph(graph, outputs, clock, function)

    def _renew(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(self.device)

    def _recover(self, current: torch.cuda.Stream) -> None:
        """Leave no trace of a recording that failed.

        What an exception inside `torch.cuda.graph` leaves behind when the driver refuses to end the recording: the
        recording stream as the current one, and an allocator that still serves it from the pool.
        """
        torch.cuda.set_stream(current)
        with suppress(RuntimeError):  # the recording was ended properly, and with it the use of the pool
            torch._C._cuda_endAllocateToPool(self.device.index or 0, self.pool)
        self._renew()


@dataclass(frozen=True)
class CudaGraph:
    """A recorded half. function: kept because the graph reads memory of tensors that only its closure holds."""

    graph: torch.cuda.CUDAGraph
    outputs: Middle | Outputs
    clock: EventClock
    function: Callable[[], Any]

    def replay(self) -> None:
        self.graph.replay()

    def spent(self) -> Spent:
        return self.clock
