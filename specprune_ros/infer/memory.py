"""Keep freed memory in the process: on a CPU, page faults of fresh buffers are a large part of a small model's time."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""

LARGEST_KEPT = 32 << 20
"""Largest buffer that glibc lets us serve from the heap (HEAP_MAX_SIZE / 2)."""


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed buffers of up to 32 MB instead of returning them to the kernel; False on other
    libcs."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, 16 * LARGEST_KEPT))
