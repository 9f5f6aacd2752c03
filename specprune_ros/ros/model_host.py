"""The policy over the node's lifecycle: loaded, watched, let go. The model itself runs in a process of its own."""

from __future__ import annotations

import time

from specprune_ros.config import Config
from specprune_ros.infer.worker import InferenceWorker, PolicyUnavailable, WorkerState, patience_s
from specprune_ros.ros.failure import Failure
from specprune_ros.types import EngineState, InferenceRequest, InferenceResult, PolicyFacts

CLOSE_S = 1.0
"""Time the model's process gets to end by itself."""

NONE = "unconfigured; configure the node"
LOADING = "policy is loading"


class ModelHost:
    """At most one process of the model, and none of two generations at the same time."""

    def __init__(self, factory: str):
        """factory: "module:function", see `infer.messages.Start`."""
        self._factory = factory
        self._worker: InferenceWorker | None = None
        self._leaving: InferenceWorker | None = None

    @property
    def facts(self) -> PolicyFacts | None:
        """What there is to know of the policy; None before it was ready for the first time. Also None when it
        failed."""
        try:
            return self._worker and self._worker.policy()
        except PolicyUnavailable:
            return None

    @property
    def begun(self) -> bool:
        """A policy is loaded, or being loaded, or failed."""
        return self._worker is not None

    @property
    def state(self) -> WorkerState | None:
        return self._worker and self._worker.state

    @property
    def engine(self) -> EngineState:
        return self._worker.engine if self._worker else EngineState()

    @property
    def pid(self) -> int:
        return self._worker.pid if self._worker else 0

    @property
    def restarts(self) -> int:
        return self._worker.restarts if self._worker else 0

    @property
    def trouble(self) -> str:
        """Why the policy is not there although it was; empty while all is well."""
        return self._worker.trouble if self._worker else ""

    def begin(self, config: Config) -> None:
        """Starts loading, unless that was begun. Failure while an old process still holds its memory."""
        if self._worker:
            return
        if self._leaving and not self._leaving.gone():
            raise Failure(
                "the process of the old policy cannot be ended, because a driver holds it; see dmesg, then try again"
            )
        self._leaving = None
        self._worker = InferenceWorker(self._factory, config, time.monotonic())

    def loaded(self) -> PolicyFacts | None:
        """The policy once it is there, None while it loads; Failure says why there is none."""
        self.poll()
        try:
            return self._worker.policy()
        except PolicyUnavailable as error:
            raise Failure(f"the policy cannot be loaded: {error}") from error

    def end(self) -> None:
        """Lets go of the policy. What does not end is ended by force."""
        worker, self._worker = self._worker, None
        if worker and not worker.close(CLOSE_S):
            self._leaving = worker

    def poll(self) -> InferenceResult | Exception | None:
        """See InferenceWorker.poll."""
        return self._worker.poll(time.monotonic()) if self._worker else None

    def accepts(self) -> bool:
        return self._worker is not None and self._worker.accepts(time.monotonic())

    def submit(self, request: InferenceRequest, config: Config) -> None:
        self._worker.submit(request, patience_s(config), time.monotonic())

    def judge(self, problem: str | None) -> None:
        """See InferenceWorker.judge."""
        if self._worker:
            self._worker.judge(problem, time.monotonic())

    def obstacles(self) -> list[str]:
        """What speaks against moving the arm now."""
        if self.trouble:
            return [self.trouble]
        pending = self.engine.pending
        return [f"{pending} kinds of inference are being made fast; arm again in a moment"] if pending else []
