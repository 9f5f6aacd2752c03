"""What a measurement was made on: enough to judge a number, nothing that identifies a person."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from specprune_ros.infer.processor import cpu_flags, cpu_name, kernel_field

FAST_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
"""CPU features that decide how fast small bf16 and fp32 matrix products run."""


def machine() -> dict[str, object]:
    """CPU, memory, software versions, and how busy the machine is right now. Never imports torch by itself."""
    flags = cpu_flags()
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "cpu_flags": [flag for flag in FAST_FLAGS if flag in flags],
        "memory_gib": round(_memory_kib() / 2**20, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "openvino": _version("openvino"),
        "mujoco": _version("mujoco"),
        "load_average": load_average(),
        **_torch_facts(),
    }


def usable_cores() -> int:
    """Cores this process may run on: affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def load_average() -> float:
    """Runnable processes over the last minute: above `cores`, latencies are not worth much."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def _torch_facts() -> dict[str, object]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    facts: dict[str, object] = {"torch_threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return facts


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _memory_kib() -> int:
    words = kernel_field("/proc/meminfo", "MemTotal").split()
    return int(words[0]) if words else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
