"""What the kernel says of this machine's processor. Imports no torch."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor as the kernel or the platform names it."""
    return kernel_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """What it can do beyond the ordinary, in the kernel's words; empty where the kernel does not say."""
    return frozenset(kernel_field("/proc/cpuinfo", "flags").split())


def kernel_field(path: str, name: str) -> str:
    """What stands behind the first `name:` of a file such as /proc/meminfo; empty where there is none."""
    try:
        text = Path(path).read_text()
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
