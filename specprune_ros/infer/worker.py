"""The one thread in which the model lives: it loads, warms up and infers, so that CUDA graphs stay where they were captured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from specprune_ros.config import Config
from specprune_ros.types import InferenceRequest, InferenceResult


class Policy(Protocol):
    """What the worker needs of `infer.policy.Policy`."""

    def infer(self, request: InferenceRequest, config: Config) -> InferenceResult: ...

    def idle(self) -> bool:
        """Gets a bit of later work ready; False when there is none left."""
        ...


class PolicyUnavailable(RuntimeError):
    """The policy could not be loaded or warmed up; the text says why, the cause is attached."""


class InferenceWorker:
    """Runs a policy beside the control loop. The caller never waits: it submits, and polls at its next tick.

    policy_factory: loads and warms up; called once, in the worker's thread.
    Invariant: at most one request is under way; its outcome must be polled before the next is submitted.
    """

    def __init__(self, policy_factory: Callable[[], Policy]):
        self._factory = policy_factory
        self._changed = threading.Condition()
        self._policy: Policy | None = None
        self._load_error: Exception | None = None
        self._job: tuple[InferenceRequest, Config] | None = None
        self._outcome: InferenceResult | Exception | None = None
        self._busy = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def policy(self) -> Policy | None:
        """The policy once it is warm, None while it loads; PolicyUnavailable when that failed."""
        with self._changed:
            if self._load_error is not None:
                raise PolicyUnavailable(_one_line(self._load_error)) from self._load_error
            return self._policy

    @property
    def busy(self) -> bool:
        """A request is under way, or its outcome has not been polled."""
        with self._changed:
            return self._busy

    def submit(self, request: InferenceRequest, config: Config) -> None:
        """Hands over one request with the configuration that it is to use."""
        with self._changed:
            if self._policy is None:
                raise RuntimeError("submit before the policy is ready; wait until policy() returns it")
            if self._busy:
                raise RuntimeError("submit while a request is under way; poll() its outcome first")
            self._job, self._busy = (request, config), True
            self._changed.notify_all()

    def poll(self) -> InferenceResult | Exception | None:
        """The outcome of the request when it is there, once; None otherwise."""
        with self._changed:
            outcome, self._outcome = self._outcome, None
            if outcome is not None:
                self._busy = False
            return outcome

    def close(self, timeout: float) -> bool:
        """Asks the thread to end and waits at most `timeout` seconds; False when the model hangs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            policy, error = self._factory(), None
        except Exception as failure:  # whatever it is, it belongs to whoever asks for the policy
            policy, error = None, failure
        with self._changed:
            self._policy, self._load_error = policy, error
        while policy is not None and (job := self._next_job()) is not None:
            try:
                outcome = policy.infer(*job)
            except Exception as failure:  # the control loop decides what an inference error means
                outcome = failure
            with self._changed:
                self._outcome = outcome
            while not self._disturbed() and policy.idle():
                pass

    def _disturbed(self) -> bool:
        """Something is waiting to be done."""
        with self._changed:
            return self._closing or self._job is not None

    def _next_job(self) -> tuple[InferenceRequest, Config] | None:
        """Waits for a request; None when the worker closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._job is not None)
            job, self._job = self._job, None
            return None if self._closing else job


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
