"""One process of the model, as the node sees it: started, spoken to, ended. Nothing in here waits, apart from
`close`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

from specprune_ros.config import Config
from specprune_ros.infer.channel import Channel, Closed
from specprune_ros.infer.messages import Start

BOOT = """import json, sys
sys.path[:], *numbers = json.loads(sys.argv[1])
from specprune_ros.infer.worker_main import main
main(*numbers)
"""
"""Finds modules where the node finds them, whatever the working folder is."""

MOST_AT_ONCE = 32
"""Messages that are heard in one control period."""
KILLED_S = 2.0
"""The kernel ends a process within milliseconds, unless a driver holds it."""


class WorkerProcess:
    """Runs `worker_main` with a policy. The frames' descriptor is shared, the rest goes through `channel`."""

    def __init__(self, factory: str, config: Config, frames_descriptor: int, first_memory: int):
        """factory: see `messages.Start`. OSError when no process can be started."""
        ours, theirs = Channel.pair()
        try:
            numbers = [theirs.fileno(), frames_descriptor, os.getpid()]
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps([sys.path, *numbers])],
                stdin=subprocess.DEVNULL,
                pass_fds=numbers[:2],
                start_new_session=True,  # a Ctrl-C reaches the node, which ends this process in its own time
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._channel = Channel(ours)
        self.send(Start(factory, config, first_memory))

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when it has something to say, or has ended."""
        return self._channel.fileno()

    def send(self, message: object) -> None:
        """TooLong as the channel's. A process that is gone or does not listen is found by `ended` and by the patience
        of whoever waits for its answer."""
        with suppress(Closed, BlockingIOError):
            self._channel.send(message)

    def received(self, most: int = MOST_AT_ONCE) -> Iterator[object]:
        """What it has said since the last call, at most so many messages: the rest is for the next call, so that one
        that never stops talking does not keep the control thread."""
        with suppress(BlockingIOError, Closed):
            for _ in range(most):
                yield self._channel.receive()

    def ended(self) -> str | None:
        """How it ended, as the end of a sentence; None while it runs."""
        status = self._process.poll()
        return None if status is None else how_it_ended(status)

    def say_where(self) -> None:
        """Has it write to its standard error where in the code it is, even if the interpreter is blocked."""
        self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """At once, also when it is stopped or hangs; `ended` tells when it is gone."""
        self._process.kill()

    def close(self, timeout_s: float) -> bool:
        """Asks it to end, waits, then ends it; False when not even the kernel can, because a driver holds it."""
        self._channel.close()
        for wait_s in (timeout_s, KILLED_S):
            try:
                self._process.wait(wait_s)
                return True
            except subprocess.TimeoutExpired:
                self._process.kill()
        return False


def how_it_ended(status: int) -> str:
    """From a status as `subprocess` gives it: negative for a signal."""
    if status >= 0:
        return f"ended with exit status {status}"
    number = -status
    try:
        name, meaning = signal.Signals(number).name, signal.strsignal(number)
    except ValueError:
        return f"was ended by signal {number}"
    if number == signal.SIGKILL:
        meaning += " by somebody, or by the kernel because memory ran out: see dmesg"
    return f"was ended by {name} ({meaning})"
