"""Worker processes that end with the process that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1
"""<sys/prctl.h>"""


def pool(workers: int, begin: Callable[..., None] | None = None, *given: object) -> ProcessPoolExecutor:
    """Workers that are started afresh: a fork would inherit torch's threads and the GL context. begin(*given): what
    each of them does first."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(begin, given))


def die_with_parent() -> None:
    """SIGTERM when the parent is gone, also after its SIGKILL: what it started must not run on. On Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _begin(begin: Callable[..., None] | None, given: tuple) -> None:
    die_with_parent()
    if begin is not None:
        begin(*given)
