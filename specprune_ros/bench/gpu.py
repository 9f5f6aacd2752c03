"""The accelerator under a measurement: its state, and time that is really spent on it."""

from __future__ import annotations

import subprocess
import time

import torch

# Those who measure import both from here.
from specprune_ros.infer.timing import seconds_of as seconds_of
from specprune_ros.infer.timing import synchronise as synchronise

QUERY = {
    "driver": "driver_version",
    "pstate": "pstate",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
}
REASONS = {"clocks_held_by": "clocks_event_reasons.active"}
"""Name in our JSON -> nvidia-smi's name. `clocks_held_by` is a bit mask (0x4: power cap, 0x20 and up: heat); old
drivers lack it."""


def gpu_state(device: torch.device) -> dict[str, str]:
    """Clocks, heat and driver as nvidia-smi reports them now; empty without a GPU or without nvidia-smi."""
    if device.type != "cuda":
        return {}
    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", "")).removeprefix("GPU-")
    which = [f"--id=GPU-{uuid}"] if uuid else []
    return _asked(which, QUERY) | _asked(which, REASONS)


def _asked(which: list[str], query: dict[str, str]) -> dict[str, str]:
    command = ["nvidia-smi", *which, f"--query-gpu={','.join(query.values())}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.partition("\n")[0].split(",")]
    return dict(zip(query, values, strict=True)) if done.returncode == 0 and len(values) == len(query) else {}


class Marks:
    """Time between points in a stream of work, taken without stopping it: CUDA events, read after the last one."""

    def __init__(self, device: torch.device):
        self.device = device
        self.names: list[str] = []
        self.times: list = [self._now()]

    def __call__(self, name: str) -> None:
        """The work since the last mark was `name`."""
        self.names.append(name)
        self.times.append(self._now())

    def milliseconds(self) -> dict[str, float]:
        synchronise(self.device)
        return {name: self._between(*self.times[i : i + 2]) for i, name in enumerate(self.names)}

    def _now(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start, end) -> float:
        return 1e3 * (end - start) if self.device.type != "cuda" else start.elapsed_time(end)


def peak_gib(device: torch.device, reset: bool = False) -> float | None:
    """Most memory allocated since the last reset [GiB]; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    if reset:
        torch.cuda.reset_peak_memory_stats(device)
    return round(peak, 3)
