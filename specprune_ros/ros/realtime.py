"""What a process can do for steady control periods: no garbage collection of what stays, a priority, no paging. What
the system refuses is reported."""

from __future__ import annotations

import ctypes
import gc
import os
import resource

from specprune_ros.config import RealTime

MCL_CURRENT, MCL_FUTURE = 1, 2
"""<sys/mman.h>"""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""<malloc.h>"""
KEPT_BYTES = 256 << 20
"""Freed memory that the process keeps for the next image."""


def prepare(settings: RealTime) -> dict[str, str]:
    """To be called in the control thread, after the policy is warm. What was done, and what the system refused."""
    gc.collect()
    gc.freeze()
    done = {"garbage collector": "what was there after warm-up is frozen"}
    keep_freed_memory()
    if settings.priority:
        done["priority"] = _prioritise(settings.priority)
    if settings.lock_memory:
        done["memory"] = _lock()
    return done


def keep_freed_memory() -> None:
    """The memory of an image of megabytes comes from memory that was freed before, and not anew from the system:
    touching new pages costs several times as much as copying the image. Where the C library is not glibc, nothing
    changes."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def release() -> None:
    """Before another policy is loaded: let go of what belonged to the old one."""
    gc.unfreeze()
    gc.collect()


def _prioritise(priority: int) -> str:
    try:
        # Threads that this one starts later keep the ordinary scheduling: only control is urgent.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        return f"not granted ({error}); allow it with 'rtprio {priority}' in /etc/security/limits.conf"
    return f"SCHED_FIFO {priority}"


def _lock() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and os.geteuid():  # later allocations would fail in the middle of a motion
        return f"not locked (limit {limit >> 20} MiB); allow it with 'memlock unlimited' in /etc/security/limits.conf"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE):
        why = os.strerror(ctypes.get_errno())
        return f"not locked ({why}); allow it with 'memlock unlimited' in /etc/security/limits.conf"
    return "locked"
