"""Time that is really spent on a device, without what it takes to ask for the work."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    """Wait until everything asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(
    work: Callable[[], object],
    device: torch.device,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Time of one call of `work` [s], the mean of `repeats` calls in a row; by `clock` where the device is a CPU.

    On a GPU the calls are recorded and replayed as one graph: what is timed is the work and not its launches, which
    take longer than a small product.
    """
    if device.type != "cuda":
        started = clock()
        for _ in range(repeats):
            work()
        return (clock() - started) / repeats
    replay = _recorded(work, device, repeats)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    replay()
    synchronise(device)
    start.record()
    replay()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end) / repeats


def _recorded(work: Callable[[], object], device: torch.device, repeats: int) -> Callable[[], None]:
    """Replays `repeats` calls; the first call, which loads kernels, is made before."""
    current, stream, graph = torch.cuda.current_stream(device), torch.cuda.Stream(device), torch.cuda.CUDAGraph()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        work()
    current.wait_stream(stream)
    try:
        # thread_local: what others do on the device from their threads does not disturb the recording.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _ in range(repeats):
                work()
    except BaseException:
        torch.cuda.set_stream(current)  # a recording that cannot be ended leaves its stream as the current one
        raise
    return graph.replay
