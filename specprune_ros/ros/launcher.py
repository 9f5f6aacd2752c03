"""The process that launched a node of ours, as long as it is there.

`ros2 launch` ends what it started when it is interrupted (SIGINT). SIGTERM and SIGKILL end launch alone, and what it
started would go on moving the arm with nobody in charge of it. So our launch files say who they are in the environment,
and a node ends with them; a node that was started otherwise has no launcher."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

LAUNCHED_BY = "SPECPRUNE_LAUNCHED_BY"
"""Environment variable: process id of the launch that started a node of ours."""


class Launcher:
    """One process, by its id. A handle on it (pidfd, Linux 5.3) is not mistaken for a later process of the same id."""

    def __init__(self, environment: Mapping[str, str]):
        text = environment.get(LAUNCHED_BY, "")
        self.pid = int(text) if text.isdigit() else None
        self._gone = False
        self._handle: int | None = None
        if self.pid is None:
            return
        try:
            self._handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._gone = True  # before this process was up
        except (AttributeError, OSError):  # not on this system: asked by its id
            self._handle = None

    def gone(self) -> bool:
        """Whether it has ended; False where there is none. Cheap enough for every turn of a loop."""
        if self.pid is not None and not self._gone:
            self._gone = self._ended()
        return self._gone

    def _ended(self) -> bool:
        if self._handle is not None:
            return bool(select.select([self._handle], [], [], 0.0)[0])
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
