"""The inference thread: one request at a time, errors handed over instead of lost, never a wait for the caller."""

import threading
import time

import pytest

from specprune_ros.config import Config
from specprune_ros.infer.worker import InferenceWorker, PolicyUnavailable


class Scripted:
    """A policy that answers when it is told to."""

    def __init__(self):
        self.go = threading.Event()
        self.started = threading.Event()
        self.threads = {threading.get_ident()}
        self.later = 0

    def idle(self):
        self.threads.add(threading.get_ident())
        self.later -= 1
        return self.later > 0

    def infer(self, request, config):
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.go.wait(5)
        if isinstance(request, Exception):
            raise request
        return request, config.pruning.aggressiveness


def eventually(read, seconds=5.0):
    deadline = time.monotonic() + seconds
    while (value := read()) is None and time.monotonic() < deadline:
        time.sleep(0.002)
    return value


def test_loads_and_infers_in_one_thread_of_its_own():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    policy.go.set()
    worker.submit("request", Config().updated({"pruning.aggressiveness": 0.25}))
    assert eventually(worker.poll) == ("request", 0.25)
    assert len(policy.threads) == 1 and threading.get_ident() not in policy.threads
    assert worker.close(5)


def test_the_caller_never_waits_and_an_outcome_is_handed_over_once():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    started = time.monotonic()
    worker.submit("slow", Config())
    assert worker.poll() is None
    assert time.monotonic() - started < 1.0
    policy.go.set()
    assert eventually(worker.poll)[0] == "slow"
    assert worker.poll() is None
    assert worker.close(5)


def test_only_one_request_is_under_way():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    worker.submit("first", Config())
    with pytest.raises(RuntimeError, match="under way"):
        worker.submit("second", Config())
    policy.go.set()
    while not worker._outcome:  # finished, but nobody has looked at it yet
        time.sleep(0.002)
    with pytest.raises(RuntimeError, match="poll"):
        worker.submit("second", Config())
    assert worker.close(5)


def test_an_inference_error_is_an_outcome_and_the_worker_lives_on():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    policy.go.set()
    worker.submit(ValueError("bad frame"), Config())
    outcome = eventually(worker.poll)
    assert isinstance(outcome, ValueError) and str(outcome) == "bad frame"
    worker.submit("next", Config())
    assert eventually(worker.poll)[0] == "next"
    assert worker.close(5)


def test_a_policy_that_cannot_be_loaded_says_why_in_one_line():
    def factory():
        raise OSError("model.safetensors: checksum\n  does not match")

    worker = InferenceWorker(factory)

    def failure():
        try:
            return worker.policy()
        except PolicyUnavailable as error:
            return error

    assert str(eventually(failure)) == "model.safetensors: checksum does not match"
    with pytest.raises(RuntimeError, match="before the policy is ready"):
        worker.submit("request", Config())
    assert worker.close(5)


def test_before_the_policy_is_loaded_there_is_none():
    gate = threading.Event()
    worker = InferenceWorker(lambda: gate.wait(5) and Scripted())
    assert worker.policy() is None
    gate.set()
    assert eventually(worker.policy) is not None
    assert worker.close(5)


def test_closing_does_not_wait_for_a_hung_model():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    worker.submit("hangs", Config())
    assert policy.started.wait(5)
    started = time.monotonic()
    assert worker.close(0.05) is False
    assert time.monotonic() - started < 1.0
    policy.go.set()


def test_moments_without_a_request_are_used_to_get_later_work_ready():
    worker = InferenceWorker(Scripted)
    policy = eventually(worker.policy)
    policy.later = 3
    policy.go.set()
    worker.submit("request", Config())
    assert eventually(worker.poll)[0] == "request"
    assert eventually(lambda: policy.later == 0 or None)
    assert len(policy.threads) == 1 and worker.close(5)
