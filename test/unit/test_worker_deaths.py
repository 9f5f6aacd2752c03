"""The model's process dies, hangs, and is started again, or is given up."""

import os
import signal
import time

import pytest
import worker_rig
from hypothesis import strategies as st
from properties import given

from specprune_ros.infer import restarts
from specprune_ros.infer.restarts import FIRST_WAIT_S, HEALTHY_S, LONGEST_WAIT_S, MOST_FAILURES, Failures, Restarts
from specprune_ros.infer.worker import (
    PolicyUnavailable,
    WorkerLost,
    WorkerState,
)
from specprune_ros.types import (
    EngineState,
    InferenceResult,
)

make, supervised = worker_rig.make, worker_rig.supervised

# Death.

ENDS = {
    "segv": "was ended by SIGSEGV (Segmentation fault) during inference 1",
    "exit": "ended with exit status 3 during inference 1",
    "kill": "was ended by SIGKILL (Killed by somebody, or by the kernel because memory ran out: see dmesg) "
    "during inference 1",
}


@pytest.mark.parametrize("task", ENDS)
def test_a_death_is_named_and_followed_by_a_new_process(supervised, task):
    worker, first = supervised.worker, supervised.worker.pid
    outcome = supervised.answer(task)
    assert isinstance(outcome, WorkerLost)
    assert f"(pid {first}) {ENDS[task]}; it is started again in 1 s (1 of 3)" in str(outcome) == worker.trouble
    assert worker.state is WorkerState.WAITING and worker.pid == 0 and worker.engine == EngineState()
    assert not os.path.exists(f"/proc/{first}"), "and it is no zombie"
    supervised.now_s += FIRST_WAIT_S - 0.01
    assert supervised.poll() is None and worker.state is WorkerState.WAITING
    supervised.now_s += 0.02
    supervised.poll()
    assert worker.state is WorkerState.LOADING and "it is loading again (1 of 3)" in worker.trouble
    supervised.until_state(WorkerState.READY)
    assert worker.restarts == 1 and worker.trouble == "" and worker.pid not in (0, first)
    assert isinstance(supervised.answer(), InferenceResult)


@pytest.mark.parametrize("task", ["hang", "gil", "stop", "slow"])
def test_a_model_without_an_answer_is_ended_when_the_patience_is_over(make, capfd, task):
    supervised = make()
    supervised.loaded()
    worker, first = supervised.worker, supervised.worker.pid
    supervised.submit(task, number=12, patience_s=5.0)
    supervised.now_s += 4.9
    time.sleep(0.1)
    assert supervised.poll() is None and worker.state is WorkerState.READY
    supervised.now_s += 0.2
    lost = supervised.poll()
    assert "inference 12 had no answer for 5.1 s (limit 5 s, policy.inference_timeout): the policy hangs" in str(lost)
    if task == "gil":  # the interpreter is blocked, and its stack is said all the same
        said = []

        def whole():
            time.sleep(0.5)  # reading cuts off what is being written meanwhile
            said.append(capfd.readouterr().err)
            return "in _serve" in "".join(said)

        supervised.until(whole)
    supervised.now_s += 1.0
    supervised.until_state(WorkerState.WAITING)
    assert not os.path.exists(f"/proc/{first}"), "the old one is gone before the new one starts"
    supervised.now_s += 1.0
    supervised.until_state(WorkerState.READY)
    assert isinstance(supervised.answer(), InferenceResult)


def test_an_answer_that_is_there_counts_also_when_nobody_looked_for_long(supervised):
    supervised.submit(patience_s=1.0)
    supervised.until(lambda: supervised.worker._process.fileno() in _readable(supervised.worker))
    supervised.now_s += 1000.0
    assert isinstance(supervised.poll(), InferenceResult)


def _readable(worker):
    import select

    return select.select([worker._process.fileno()], [], [], 0.01)[0]


def test_a_death_without_a_request_is_noticed_too(supervised):
    os.kill(supervised.worker.pid, signal.SIGKILL)
    lost = supervised.until(supervised.poll)
    assert isinstance(lost, WorkerLost) and "SIGKILL" in str(lost) and "during" not in str(lost)


def test_a_process_that_keeps_dying_is_given_up(make):
    supervised = make(**{"policy.restarts": 2})
    supervised.loaded()
    for wait_s in (1.0, 2.0):
        assert f"again in {wait_s:g} s" in str(supervised.answer("exit"))
        supervised.now_s += wait_s
        supervised.until_state(WorkerState.READY)
    assert "given up after 2 new starts in a row (policy.restarts): mend it" in str(supervised.answer("exit"))
    assert supervised.worker.state is WorkerState.FAILED and supervised.worker.pid == 0
    with pytest.raises(PolicyUnavailable, match="ended with exit status 3.*given up"):
        supervised.worker.policy()
    supervised.now_s += 1e6
    assert supervised.poll() is None and supervised.worker.state is WorkerState.FAILED


def test_after_a_healthy_while_the_count_begins_anew(make):
    supervised = make(**{"policy.restarts": 1})
    supervised.loaded()
    for _ in range(3):
        supervised.now_s += HEALTHY_S
        assert "(1 of 1)" in str(supervised.answer("exit"))
        supervised.now_s += 1.0
        supervised.until_state(WorkerState.READY)
    assert supervised.worker.restarts == 3
    assert "given up" in str(supervised.answer("exit"))


@given(st.lists(st.integers(0, 200), max_size=40), st.integers(0, 5))
def test_restarts_in_a_row_are_bounded_and_wait_ever_longer(lives_s, most):
    counted, now_s, row = Restarts(most), 0.0, 0
    for life_s in lives_s:
        counted.ready(now_s)
        now_s += life_s
        row = 0 if life_s >= HEALTHY_S else row
        wait_s = counted.died(now_s)
        assert (wait_s is None) == (row >= most)
        if wait_s is None:
            return
        row += 1
        assert wait_s == min(FIRST_WAIT_S * 2 ** (row - 1), LONGEST_WAIT_S) and counted.count == row
        now_s += wait_s


def test_pauses_after_failures_grow_to_a_second():
    failures, now_s, pauses = Failures(), 0.0, []
    for _ in range(MOST_FAILURES):
        broken = failures.bad(now_s)
        begin, now_s = now_s, now_s
        while not failures.over(now_s):
            now_s += 0.01
        pauses.append(now_s - begin)
    assert broken and pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, *[1.0] * (MOST_FAILURES - 4)], abs=0.011)
    failures.good()
    assert failures.over(now_s) and not failures.bad(now_s)
    assert restarts.LONGEST_RETRY_S == 1.0
