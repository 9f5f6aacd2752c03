"""What a process can do for steady control periods: no garbage collection of what stays, a priority, no paging. Best effort."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys

from specprune_ros.config import RealTime

SWITCH_S = 0.0005
"""A thread that draws pictures gives way to control after this time (sys.setswitchinterval)."""

MCL_CURRENT, MCL_FUTURE = 1, 2
"""<sys/mman.h>"""


def prepare(settings: RealTime) -> dict[str, str]:
    """To be called in the control thread, after the policy is warm. What was done, and what the system refused."""
    settle()
    sys.setswitchinterval(SWITCH_S)
    done = {
        "garbage collector": "what was there at the start is frozen",
        "threads": f"control waits at most {1e3 * SWITCH_S:g} ms for one that runs Python",
    }
    if settings.priority:
        done["priority"] = _prioritise(settings.priority)
    if settings.lock_memory:
        done["memory"] = _lock()
    return done


def settle() -> None:
    """What is there now is there to stay: the garbage collector need not look at it any more."""
    gc.collect()
    gc.freeze()


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
        return f"not locked ({os.strerror(ctypes.get_errno())}); allow it with 'memlock unlimited' in /etc/security/limits.conf"
    return "locked"
