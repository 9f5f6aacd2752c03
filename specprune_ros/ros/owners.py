"""Which process owns a publisher of commands, noted where the next process of this machine can read it.

Discovery forgets a process that was killed only after about 20 s. A node that is started again meanwhile must know that
the publisher beside its own belongs to nobody any more. The process id in a publisher's identifier is not enough for
that: in another container on the same machine it means another process. So every node writes down who it is, and only
what is written down here, and has ended here, is held for dead.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


def note(gid: bytes) -> None:
    """This process owns the publisher. Where nothing can be written, a killed publisher counts as a living one for as
    long as discovery does."""
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        for path in folder.iterdir():
            if not path.read_text().startswith(_boot()):
                path.unlink(missing_ok=True)
        (folder / gid.hex()).write_text(_identity(os.getpid()))
    except OSError as error:
        log.info("a publisher of commands could not be noted: %s", error)


def forget(gid: bytes) -> None:
    """The publisher is gone, in good order."""
    with suppress(OSError):
        (_folder() / gid.hex()).unlink(missing_ok=True)


def has_ended(gid: bytes) -> bool:
    """Whether the owner was noted on this machine, in this container, and its process has ended. False: nobody
    knows."""
    return _has_ended(_folder() / gid.hex())


def _has_ended(path: Path) -> bool:
    try:
        noted = path.read_text()
        namespace, pid, _ = noted.split()
        ours = namespace == _namespace() and path.stat().st_uid == os.getuid()
    except (OSError, ValueError):
        return False
    return ours and _identity(int(pid)) != noted


def _identity(pid: int) -> str:
    """Namespace of process ids, process id and start time: no other process ever has all three. Empty when it has
    ended."""
    started = start_of(pid)
    return f"{_namespace()} {pid} {started}" if started else ""


def start_of(pid: int) -> str:
    """When a process of this container started, in the kernel's ticks. Empty when it has ended, also while nobody has
    waited for it."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else others[18]


def _namespace() -> str:
    """Of process ids; another container has another one."""
    return f"{_boot()}:{os.stat('/proc/self/ns/pid').st_ino}"


def _boot() -> str:
    """All the numbers here start anew with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _folder() -> Path:
    return Path(tempfile.gettempdir(), f"specprune_ros_{os.getuid()}")
