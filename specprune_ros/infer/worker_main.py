"""The process of the model: loads a policy, answers one request after the other, and ends with the node that started
it.

Started by `worker_process.WorkerProcess`. One thread does everything, so that CUDA graphs stay where they were
captured."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from specprune_ros.config import ConfigError, PolicySettings
from specprune_ros.infer.channel import Channel, Closed
from specprune_ros.infer.messages import Answer, Engine, Log, Raised, Ready, Start, Unavailable, Work
from specprune_ros.infer.shared_frames import FrameReader
from specprune_ros.types import BadInput, EngineState, InferenceRequest, InferenceResult, PolicyFacts, PolicyMemory

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
"""<sys/prctl.h>"""

MOST_MEMORIES = 8
"""Number of passes whose memories are kept. The control loop uses one of them; older ones are needed only while it
refuses the policy's answers."""

MOST_TEXT = 1 << 15
"""Characters of a traceback or a log record that are passed on: the end says what went wrong."""

RECORDS_PER_S = 50
"""Log records that are passed on."""

LOOK_EVERY_S = 0.5
"""Interval [s] at which the progress of what is made beside the inferences is checked."""

OOM_SCORE = 500
"""oom_score_adj, at most 1000. When the machine runs out of memory, the kernel ends the model's process before the
node's."""

PLAIN_ERRORS = (BadInput, ConfigError, ImportError, OSError)
"""Loading errors whose text is enough for the user; they are reported without a traceback."""


class PolicyLike(Protocol):
    """What this process needs of `infer.policy.Policy`."""

    name: str
    view_count: int
    chunk_steps: int
    proprio_dims: int
    patch_grid: tuple[int, int]
    engine: EngineState

    def infer(self, request: InferenceRequest) -> InferenceResult:
        """The next actions; any exception is a failed inference, whose text the node reports."""
        ...

    def idle(self) -> bool:
        """Gets a bit of later work ready; False when there is none left."""
        ...


class Memories:
    """What the last passes remember, by number. A number that is not known, or not any more, stands for no memory."""

    def __init__(self, first: int):
        self._next = first
        self._kept: OrderedDict[int, PolicyMemory] = OrderedDict()

    def keep(self, memory: PolicyMemory) -> PolicyMemory:
        """The same with a number for its content."""
        number, self._next = self._next, self._next + 1
        self._kept[number] = memory
        if len(self._kept) > MOST_MEMORIES:
            self._kept.popitem(last=False)
        return replace(memory, last_attention=number)

    def find(self, numbered: PolicyMemory | None) -> PolicyMemory | None:
        """The memory that `keep` gave this number; None for None, and for one that is no longer kept."""
        return self._kept.get(numbered.last_attention) if numbered else None


class Server:
    """Answers the node until it is gone."""

    def __init__(self, channel: Channel, frames: FrameReader, policy: PolicyLike, first_memory: int):
        self._channel, self._frames, self._policy = channel, frames, policy
        self._memories = Memories(first_memory)
        self._told = engine_state(policy)
        self._idles = True
        channel.send(Ready(facts(policy), self._told))

    def run(self) -> None:
        """Ends with Closed."""
        wait_s: float | None = 0.0
        while True:
            while not self._asked(wait_s):
                wait_s = self._idle()
            self._channel.send(self._answer(self._channel.receive()))
            wait_s = 0.0

    def _answer(self, work: Work) -> Answer | Raised:
        try:
            result = self._policy.infer(self._request(work))
            memory = self._memories.keep(result.memory)
            self._told = engine_state(self._policy)
            return Answer(result.chunk, result.report, memory, self._told)
        except BadInput as error:
            return Raised(one_line(error), "", bad_input=True)
        except Exception as error:  # the node decides what it means
            return Raised(described(error), shortened(traceback.format_exc()), bad_input=False)

    def _request(self, work: Work) -> InferenceRequest:
        request = work.request
        return replace(
            request,
            observation=replace(request.observation, images=self._frames.read(work.images)),
            reference_images=None if work.reference is None else self._frames.read(work.reference),
            memory=self._memories.find(request.memory),
        )

    def _idle(self) -> float | None:
        """One piece of idle work, and news of what is made beside it; how long to wait for the next request before the
        next piece: None, for ever."""
        more = self._idles and self._work_ahead()
        if (state := engine_state(self._policy)) != self._told:
            self._told = state
            self._channel.send(Engine(state))
        return 0.0 if more else LOOK_EVERY_S if state.making else None

    def _work_ahead(self) -> bool:
        """Inferences do not need it, so the first error ends it for good, and nothing else."""
        try:
            return self._policy.idle()
        except Exception:
            self._idles = False
            log.exception("getting later inferences ready failed and is given up; inferences are only slower")
            return False

    def _asked(self, wait_s: float | None) -> bool:
        """Something is waiting to be done, or the node is gone; waits so long for it."""
        return bool(select.select([self._channel], [], [], wait_s)[0])


class LogToNode(logging.Handler):
    """Log records go to the node, which has the log: at most RECORDS_PER_S of them, so that its control thread has
    little to do with them."""

    def __init__(self, channel: Channel):
        super().__init__(logging.INFO)
        self._channel = channel
        self._second, self._count, self._dropped = 0, 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record (logging.Handler), unless there were too many in this second."""
        if (second := int(time.monotonic())) != self._second:
            self._second, self._count = second, 0
            if self._dropped:
                text = f"{self._dropped} more records of the policy were left out (more than {RECORDS_PER_S} a second)"
                self._dropped = 0
                self._send(Log(logging.WARNING, __name__, text))
        self._count += 1
        if self._count > RECORDS_PER_S:
            self._dropped += 1
            return
        self._send(Log(record.levelno, record.name, shortened(self.format(record))))

    def _send(self, message: Log) -> None:
        with suppress(Closed):  # nobody is left to read it
            self._channel.send(message)


def main(channel_descriptor: int, frames_descriptor: int, parent: int) -> None:
    """Does not return: the interpreter's own end would wait for threads of foreign code."""
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the node's business, and so is this process
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # where it hangs: written also while the interpreter is blocked
    channel = Channel(socket.socket(fileno=channel_descriptor))
    try:
        code = _serve(channel, FrameReader(frames_descriptor))
    except Closed:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve(channel: Channel, frames: FrameReader) -> int:
    start: Start = channel.receive()
    package = logging.getLogger("specprune_ros")
    package.setLevel(logging.INFO)
    package.addHandler(LogToNode(channel))
    package.propagate = False
    _stand_back(start.config.policy)
    try:
        policy = loaded(start)
    except PLAIN_ERRORS as error:
        channel.send(Unavailable(one_line(error), ""))
        return 1
    except Exception as error:
        channel.send(Unavailable(described(error), shortened(traceback.format_exc())))
        return 1
    Server(channel, frames, policy, start.first_memory).run()
    return 0


def loaded(start: Start) -> PolicyLike:
    """The policy that `start.factory` ("module:function") makes of the configuration. Whatever the factory raises is
    raised here; ImportError or AttributeError when there is no such factory."""
    module, _, function = start.factory.partition(":")
    return getattr(importlib.import_module(module), function)(start.config)


def facts(policy: PolicyLike) -> PolicyFacts:
    """What the node must know of a policy: its name and the sizes of what goes in and comes out."""
    return PolicyFacts(policy.name, policy.view_count, policy.chunk_steps, policy.proprio_dims, policy.patch_grid)


def engine_state(policy: PolicyLike) -> EngineState:
    """How the policy's inferences run now, for the node's status."""
    engine = policy.engine
    return EngineState(engine.name, engine.pending, engine.making, engine.trouble)


def one_line(error: BaseException) -> str:
    """The error's text in one line, at most the last MOST_TEXT characters; its class where it has no text."""
    return " ".join(str(error).split())[-MOST_TEXT:] or type(error).__name__


def described(error: BaseException) -> str:
    """The error's class and its text, in one line."""
    return ": ".join(dict.fromkeys([type(error).__name__, one_line(error)]))


def shortened(text: str) -> str:
    """The last MOST_TEXT characters of a text, after "..." when something was left out."""
    return text if len(text) <= MOST_TEXT else f"...{text[-MOST_TEXT:]}"


def _end_with(parent: int) -> None:
    """Killed by the kernel when the thread that started this process ends, whatever this process is doing then."""
    if sys.platform.startswith("linux"):
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NAME, b"specprune_model")  # in top and ps
    if os.getppid() != parent:  # it ended before that was asked for
        os._exit(1)


def _stand_back(settings: PolicySettings) -> None:
    """Control, DDS and drivers come first: on the processor, and when memory runs out. What is refused is not
    needed."""
    os.nice(settings.nice)
    cores = sorted(os.sched_getaffinity(0))
    spared = min(settings.spare_cores, len(cores) - max(1, settings.threads))
    if spared > 0:
        os.sched_setaffinity(0, cores[spared:])
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            if int(file.read()) < OOM_SCORE:
                file.seek(0)
                file.write(str(OOM_SCORE))
    except (OSError, ValueError):
        pass
