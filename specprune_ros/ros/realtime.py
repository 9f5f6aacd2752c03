"""What a process can do for steady control periods: no garbage collection of what stays, a priority, no paging. What
the system refuses is reported."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import platform
import re
import resource
import struct
import sys

from specprune_ros.config import RealTime

SWITCH_S = 0.0005
"""A thread that draws pictures gives way to control after this time (sys.setswitchinterval)."""

SLICE_NS = 100_000
"""The shortest there is."""

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call sched_setattr(2), which neither Python nor older C libraries wrap."""

SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority, runtime (here: the slice), deadline, period."""

RESET_ON_FORK = 1
"""SCHED_FLAG_RESET_ON_FORK of <linux/sched.h>"""

MCL_CURRENT, MCL_FUTURE = 1, 2
"""<sys/mman.h>"""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""<malloc.h>"""
KEPT_BYTES = 256 << 20
"""Freed memory that the process keeps for the next image."""


def prepare(settings: RealTime) -> dict[str, str]:
    """To be called in the control thread, after the policy is warm. What was done, and what the system refused."""
    settle()
    sys.setswitchinterval(SWITCH_S)
    keep_freed_memory()
    done = {
        "garbage collector": "what was there at the start is frozen",
        "threads": f"control waits at most {1e3 * SWITCH_S:g} ms for one that runs Python",
    }
    done["time slice"] = _shorten_slices()
    if settings.priority:
        done["priority"] = _prioritise(settings.priority)
    if settings.lock_memory:
        done["memory"] = _lock()
    return done


def settle() -> None:
    """Exempt everything that exists now from garbage collection, because it stays for as long as the policy does."""
    gc.collect()
    gc.freeze()


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


def _shorten_slices() -> str:
    """Asks for short time slices for every thread there is: control, and what receives for it. Since Linux 6.12 a
    thread that wakes up and wants little goes before one that has been running and wants much (EEVDF). It takes no
    privilege and gives no more time in all; threads and processes that are started later are as any other."""
    call = SCHED_SETATTR.get(platform.machine())
    if call is None or tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 12):
        return (
            f"as it is: needs Linux 6.12 or newer on x86-64 or ARM, this is {platform.release()}, {platform.machine()}"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    for thread in map(int, os.listdir("/proc/self/task")):
        try:
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
                continue
            nice = os.getpriority(os.PRIO_PROCESS, thread)
        except ProcessLookupError:  # it has ended meanwhile
            continue
        wanted = SCHED_ATTR.pack(SCHED_ATTR.size, os.SCHED_OTHER, RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0)
        if libc.syscall(call, thread, wanted, 0) and ctypes.get_errno() != errno.ESRCH:
            return f"as it is: {os.strerror(ctypes.get_errno())}"
    return f"{1e-6 * SLICE_NS:g} ms"


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
