"""The model beside the control loop, in a process of its own that may hang, crash or be killed without the arm being
harmed.

Control submits one request and polls for the outcome at its next ticks; it never waits. This module never imports
torch. Seconds (`now_s`) are those of a clock that only runs forward."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

from specprune_ros.config import Config
from specprune_ros.infer.channel import TooLong
from specprune_ros.infer.messages import Answer, Engine, Log, Raised, Ready, Unavailable, Work
from specprune_ros.infer.restarts import MOST_FAILURES, Failures, Restarts
from specprune_ros.infer.shared_frames import FrameWriter
from specprune_ros.infer.worker_process import WorkerProcess
from specprune_ros.types import BadInput, EngineState, InferenceRequest, InferenceResult, PolicyFacts

log = logging.getLogger(__name__)

LAST_WORDS = 10_000
"""Messages of a process that has ended: more than fit into its channel."""

STACK_S = 0.2
"""Time a hanging process gets to write where it hangs, before it is killed."""

MEMORIES_EACH = 1 << 32
"""Numbers of memories that belong to one process."""

REMEDY = "mend it, then clean up and configure the node, or start it again"

MOST_TRACEBACKS = 64
"""Different ones that are remembered, so that each is logged once."""


class PolicyUnavailable(RuntimeError):
    """The policy could not be loaded, or its process was given up; the text says why."""


class InferenceFailed(RuntimeError):
    """One inference raised; the text is the error's class and message. Its traceback is in the log, once."""


class WorkerLost(RuntimeError):
    """The process of the model is gone or being ended: the text says how, and what comes next; `why` says how. Whatever
    was under way is lost, and the memory of the last pass with it."""

    def __init__(self, text: str, why: str):
        super().__init__(text)
        self.why = why


class WorkerState(str, Enum):
    """Of the model's process."""

    LOADING = "loading"
    READY = "ready"
    ENDING = "ending"
    """It hangs or is broken, and is being ended."""
    WAITING = "waiting"
    """It is gone, and a new one starts in a moment."""
    FAILED = "failed"
    """It is gone, and no new one starts."""


@dataclass(frozen=True)
class Asked:
    """The request that is under way. patience_s: without an answer for longer, the process hangs."""

    request: InferenceRequest
    since_s: float
    patience_s: float


def patience_s(config: Config) -> float:
    """How long an inference may take before its process counts as hanging [s]."""
    return config.policy.inference_timeout or 5.0 * config.control.chunk_timeout


class InferenceWorker:
    """Supervises the model's process. `poll` must be called regularly, whether a request is under way or not.

    factory: "module:function" that loads and warms up the policy, given the configuration; called in the new process.
    Invariants: at most one request is under way; a new process starts only when the old one is gone, so that two copies
    of the weights never exist.
    """

    def __init__(self, factory: str, config: Config, now_s: float):
        self._factory, self._config = factory, config
        self._frames = FrameWriter()
        self._restarts = Restarts(config.policy.restarts)
        self._failures = Failures()
        self._outcomes: deque[InferenceResult | Exception] = deque()
        self._asked: Asked | None = None
        self._facts: PolicyFacts | None = None
        self._logged: set[str] = set()
        self._process: WorkerProcess | None = None
        self._why = ""
        self.engine = EngineState()
        self.trouble = ""
        """Why the process is not ready although it was, or why it failed; empty while all is well."""
        self._start(now_s)

    @property
    def pid(self) -> int:
        """Of the model's process; 0 while there is none."""
        gone = self._process is None or self.state in (WorkerState.WAITING, WorkerState.FAILED)
        return 0 if gone else self._process.pid

    @property
    def restarts(self) -> int:
        """How often the process was started again since the policy was configured."""
        return self._restarts.total

    def fileno(self) -> int:
        """Readable when the process has something to say, for those who would rather wait than poll."""
        return self._process.fileno()

    def policy(self) -> PolicyFacts | None:
        """What there is to know of the policy, None while it loads for the first time; PolicyUnavailable when it
        failed."""
        if self.state is WorkerState.FAILED:
            raise PolicyUnavailable(self.trouble)
        return self._facts

    def accepts(self, now_s: float) -> bool:
        """A request may be submitted now."""
        return self.state is WorkerState.READY and self._asked is None and self._failures.over(now_s)

    def submit(self, request: InferenceRequest, patience_s: float, now_s: float) -> None:
        """Hands over one request. patience_s: how long its answer may take [s]; now_s: the present time [s].
        RuntimeError unless the process is ready and no request is under way (see `accepts`). For a request that cannot
        be sent, `poll` returns a BadInput."""
        if self.state is not WorkerState.READY:
            raise RuntimeError(f"submit while the policy is {self.state.value}; ask accepts() first")
        if self._asked:
            raise RuntimeError("submit while a request is under way; poll() its outcome first")
        self._asked = Asked(request, now_s, patience_s)
        try:
            self._process.send(self._work(request))
        except (TooLong, OSError) as error:
            length = len(request.observation.instruction)
            text = f"the request cannot be handed to the policy: {error}; its instruction has {length} characters"
            self._finish(BadInput(text))

    def poll(self, now_s: float) -> InferenceResult | Exception | None:
        """The next thing that happened, once: an outcome, or WorkerLost; None when nothing did."""
        if self.state in (WorkerState.LOADING, WorkerState.READY, WorkerState.ENDING):
            self._watch(now_s)
        elif self.state is WorkerState.WAITING and now_s >= self._due_s:
            self._start(now_s)
        return self._outcomes.popleft() if self._outcomes else None

    def judge(self, problem: str | None, now_s: float) -> None:
        """Whether the last result was of use, or what was wrong with it. A model whose results never are is broken
        too."""
        if problem is None:
            self._failures.good()
        else:
            self._count_failure(problem, now_s)

    def close(self, timeout_s: float) -> bool:
        """Ends the process: it gets `timeout_s` to end by itself, unless it is busy; False when not even the kernel can
        end it, because a driver holds it."""
        listens = self.state is WorkerState.READY and not self._asked
        self.state, self.trouble = WorkerState.FAILED, "the policy was unloaded"
        self._asked = None
        self._outcomes.clear()
        self._frames.close()
        return self._process is None or self._process.close(timeout_s if listens else 0.0)

    def gone(self) -> bool:
        """After `close`: whether the process has ended meanwhile."""
        return self._process is None or self._process.ended() is not None

    def _watch(self, now_s: float) -> None:
        """Hears what the living process says, and notices when it dies or hangs."""
        process = self._process
        ended = process.ended()  # asked first: its last words count
        for message in process.received(LAST_WORDS) if ended else process.received():
            self._hear(message, now_s)
        if ended:
            if self.state is not WorkerState.ENDING:
                self._give_up(f"the process of the policy (pid {process.pid}) {ended}{self._meanwhile()}", now_s)
            self._follow()
        elif self.state is WorkerState.ENDING:
            if now_s >= self._kill_s:
                process.kill()
        elif self._asked and now_s - self._asked.since_s > self._asked.patience_s:
            self._end_hanging(now_s)

    # What the process says.

    def _hear(self, message: object, now_s: float) -> None:
        if isinstance(message, Log):
            logging.getLogger(message.logger).log(message.level, "%s", message.text)
        elif self.state not in (WorkerState.LOADING, WorkerState.READY):
            return  # the last words of a process that was given up
        elif isinstance(message, Ready):
            self._ready(message, now_s)
        elif isinstance(message, Unavailable):
            self._log_once(f"the policy cannot be loaded: {message.text}", message.traceback)
            self._end(f"the policy cannot be loaded again: {message.text}" if self._facts else message.text, now_s)
        elif isinstance(message, Engine):
            self.engine = message.state
        elif isinstance(message, Answer):
            self.engine = message.engine
            request = self._asked.request
            self._finish(InferenceResult(request, message.chunk, message.report, message.memory))
        elif isinstance(message, Raised):
            self._raised(message, now_s)

    def _ready(self, message: Ready, now_s: float) -> None:
        if self._facts not in (None, message.facts):
            self._end(f"the checkpoint is another one now ({message.facts}, was {self._facts})", now_s, again=False)
            return
        self._facts, self.engine, self.trouble = message.facts, message.engine, ""
        self.state = WorkerState.READY
        self._restarts.ready(now_s)

    def _raised(self, message: Raised, now_s: float) -> None:
        if message.bad_input:
            self._finish(BadInput(message.text))
            return
        self._log_once(f"inference failed: {message.text}", message.traceback)
        self._finish(InferenceFailed(message.text))
        self._count_failure(message.text, now_s)

    def _finish(self, outcome: InferenceResult | Exception) -> None:
        self._asked = None
        self._outcomes.append(outcome)

    def _count_failure(self, why: str, now_s: float) -> None:
        if self._failures.bad(now_s) and self.state is WorkerState.READY:
            self._end(f"{MOST_FAILURES} inferences in a row failed, the last one with: {why}", now_s)

    def _log_once(self, text: str, traceback: str) -> None:
        if traceback and traceback not in self._logged and len(self._logged) < MOST_TRACEBACKS:
            self._logged.add(traceback)
            log.error("%s\n%s", text, traceback.rstrip())

    # Life and death.

    def _start(self, now_s: float) -> None:
        self.state, self._failures = WorkerState.LOADING, Failures()
        if self._facts:
            self.trouble = f"{self._why}; it is loading again ({self._restarts.count} of {self._restarts.most})"
        first_memory = self._restarts.total * MEMORIES_EACH
        try:
            self._process = WorkerProcess(self._factory, self._config, self._frames.descriptor, first_memory)
        except OSError as error:
            self._process = None
            self._give_up(f"no process can be started for the policy: {error}", now_s)
            self._follow()

    def _end_hanging(self, now_s: float) -> None:
        asked = self._asked
        why = (
            f"inference {asked.request.chunk_id} had no answer for {now_s - asked.since_s:.1f} s "
            f"(limit {asked.patience_s:g} s, policy.inference_timeout): the policy hangs"
        )
        self._process.say_where()
        self._end(why, now_s, grace_s=STACK_S)

    def _end(self, why: str, now_s: float, grace_s: float = 0.0, again: bool = True) -> None:
        """The process is of no use any more: it is killed when the grace is over."""
        self._kill_s = now_s + grace_s
        self._give_up(why, now_s, again)
        self.state = WorkerState.ENDING

    def _give_up(self, why: str, now_s: float, again: bool = True) -> None:
        """Settles what comes next. A policy that was never ready is not tried again: what is wrong with it stays
        wrong."""
        self._asked, self.engine, self._why = None, EngineState(), why
        wait_s = self._restarts.died(now_s) if again and self._facts else None
        self._due_s = None if wait_s is None else now_s + wait_s
        if wait_s is not None:
            self.trouble = (
                f"{why}; it is started again in {wait_s:g} s ({self._restarts.count} of {self._restarts.most})"
            )
        elif self._facts and again:
            self.trouble = (
                f"{why}; given up after {self._restarts.count} new starts in a row (policy.restarts): {REMEDY}"
            )
        else:
            self.trouble = f"{why}; {REMEDY}" if self._facts else why
        if self._facts:
            self._outcomes.append(WorkerLost(self.trouble, why))

    def _follow(self) -> None:
        """The process is gone."""
        if self._process:
            self._process.close(0.0)
        self.state = WorkerState.FAILED if self._due_s is None else WorkerState.WAITING

    def _meanwhile(self) -> str:
        if self.state is WorkerState.LOADING:
            return " while it was loading"
        return f" during inference {self._asked.request.chunk_id}" if self._asked else ""

    def _work(self, request: InferenceRequest) -> Work:
        """The request with its frames moved into shared memory."""
        images, reference = request.observation.images, request.reference_images or ()
        places = self._frames.write((*images, *reference))
        stripped = replace(request, observation=replace(request.observation, images=()), reference_images=None)
        split = len(images)
        return Work(stripped, places[:split], None if request.reference_images is None else places[split:])
