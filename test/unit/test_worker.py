"""The model's process as control sees it: one request at a time, errors handed over instead of lost, never a wait, and
whatever happens to the process is noticed, named and followed by a new one, but not for ever."""

import os

import numpy as np
import pytest
import worker_rig
from worker_rig import request

from specprune_ros.config import Config, Pruning
from specprune_ros.infer.restarts import FIRST_WAIT_S, MOST_FAILURES
from specprune_ros.infer.worker import (
    InferenceFailed,
    WorkerLost,
    WorkerState,
)
from specprune_ros.infer.worker_main import Memories
from specprune_ros.infer.worker_process import MOST_AT_ONCE, WorkerProcess
from specprune_ros.types import (
    BadInput,
    EngineState,
    InferenceRequest,
    InferenceResult,
    Mode,
    Observation,
    PolicyFacts,
    PolicyMemory,
)

make, supervised = worker_rig.make, worker_rig.supervised

# Answers.


def test_it_loads_in_a_process_of_its_own_and_says_what_it_loaded(make):
    supervised = make()
    worker = supervised.worker
    assert worker.policy() is None and worker.state is WorkerState.LOADING and not worker.accepts(0.0)
    facts = supervised.loaded()
    assert facts == PolicyFacts("scripted", view_count=2, chunk_steps=8, proprio_dims=8, patch_grid=(16, 16))
    assert worker.state is WorkerState.READY and worker.engine == EngineState("scripted") and not worker.trouble
    assert worker.pid not in (0, os.getpid()) and os.path.exists(f"/proc/{worker.pid}")


def test_a_request_comes_back_with_its_result(supervised):
    asked = request("open", 7, config=Config().updated({"pruning.aggressiveness": 1.0}))
    supervised.worker.submit(asked, 1.0, 0.0)
    result = supervised.until(supervised.poll)
    assert isinstance(result, InferenceResult) and result.request is asked
    assert (result.chunk.chunk_id, result.chunk.stamp_ns, result.chunk.instruction) == (7, 5, "open")
    assert result.chunk.actions.shape == (8, 7) and result.report.tokens_kept == 256
    assert supervised.poll() is None, "an outcome is handed over once"


def test_a_policy_that_babbles_keeps_nobody_from_controlling(supervised, caplog):
    """Not one look at the process hears more than a few records, and most of them never leave it."""
    supervised.worker.submit(request("babble"), 60.0, 0.0)
    heard = []

    def poll():
        before, result = len(caplog.records), supervised.poll()
        heard.append(len(caplog.records) - before)
        return result

    assert isinstance(supervised.until(poll), InferenceResult)
    assert 0 < sum(heard) < 1000 and max(heard) <= MOST_AT_ONCE


def test_a_process_that_never_stops_talking_is_heard_a_few_messages_at_a_time():
    class Babbling:
        def receive(self):
            return "record"

    process = WorkerProcess.__new__(WorkerProcess)
    process._channel = Babbling()
    assert len(list(process.received())) == MOST_AT_ONCE


def test_only_one_request_is_under_way(supervised):
    supervised.worker.submit(request("slow"), 60.0, 0.0)
    assert supervised.poll() is None, "nobody waits for it"
    assert not supervised.worker.accepts(0.0)
    with pytest.raises(RuntimeError, match="under way"):
        supervised.worker.submit(request(), 60.0, 0.0)
    assert isinstance(supervised.until(supervised.poll), InferenceResult)
    assert supervised.worker.accepts(0.0)


def test_before_it_is_ready_nothing_can_be_asked(make):
    with pytest.raises(RuntimeError, match="while the policy is loading"):
        make().worker.submit(request(), 1.0, 0.0)


def test_frames_arrive_as_they_were_whatever_their_sizes(make):
    supervised = make("frames_policy:load")
    supervised.loaded()
    rng = np.random.default_rng(0)
    for shapes in (((4, 6), (4, 6)), ((720, 1280), (480, 640)), ((1, 1), (333, 7)), ((4, 6), (4, 6))):
        images = tuple(rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes)
        later = tuple(rng.integers(0, 256, (*shape, 3), np.uint8)[:, ::-1] for shape in shapes)  # not contiguous
        for reference in (None, later):
            observation = Observation(5, images, None, "sums", None)
            asked = InferenceRequest(1, observation, reference, 3, Mode.FINE, None, Pruning())
            supervised.until(lambda: supervised.poll() or supervised.worker.accepts(0.0))
            supervised.worker.submit(asked, 60.0, 0.0)
            result = supervised.until(supervised.poll)
            expected = [[int(frame.astype(np.int64).sum()), *frame.shape] for frame in (*images, *(reference or ()))]
            assert result.chunk.actions.tolist() == expected


def test_the_memory_of_the_last_pass_stays_with_the_model(supervised):
    first = supervised.answer()
    assert not first.report.used_last_attention and isinstance(first.memory.last_attention, int)
    assert supervised.answer(memory=first.memory).report.used_last_attention
    unknown = PolicyMemory(12345, "move", 5)
    assert not supervised.answer(memory=unknown).report.used_last_attention


def test_a_memory_does_not_outlive_its_process(supervised):
    memory = supervised.answer().memory
    supervised.answer("exit")
    supervised.now_s += FIRST_WAIT_S
    supervised.until_state(WorkerState.READY)
    assert not supervised.answer(memory=memory).report.used_last_attention


def test_only_the_newest_memories_are_kept():
    memories = Memories(100)
    kept = [memories.keep(PolicyMemory(f"content {i}", "move", i)) for i in range(20)]
    assert [memory.last_attention for memory in kept] == list(range(100, 120))
    assert [memories.find(kept[i]).last_attention for i in (-1, -8)] == ["content 19", "content 12"]
    assert memories.find(kept[0]) is None and memories.find(None) is None


def test_an_instruction_that_fits_nowhere_is_bad_input_and_no_more(supervised):
    outcome = supervised.answer("x" * 200_000)
    assert isinstance(outcome, BadInput) and "200000 characters" in str(outcome)
    assert isinstance(supervised.answer(), InferenceResult)


def test_what_is_made_beside_the_inferences_is_told_also_when_nobody_asks(make, monkeypatch):
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", "making")
    supervised = make()
    supervised.loaded()
    assert supervised.worker.engine == EngineState("scripted", making=2)
    supervised.until(lambda: supervised.poll() or supervised.worker.engine == EngineState("scripted"))


# Errors.


def test_an_error_is_an_outcome_and_its_traceback_is_logged_once(supervised, caplog):
    for _ in range(3):
        outcome = supervised.answer("raise")
        assert isinstance(outcome, InferenceFailed) and str(outcome) == "RuntimeError: the model broke"
        supervised.now_s += 1.0
    assert caplog.text.count("Traceback") == 1 and "in misbehave" in caplog.text
    assert isinstance(supervised.answer(), InferenceResult)


def test_memory_that_cannot_be_had_is_an_error_like_others(supervised):
    assert "MemoryError" in str(supervised.answer("oom"))
    supervised.now_s += 1.0
    assert isinstance(supervised.answer(), InferenceResult)


def test_an_error_in_idle_work_ends_the_idle_work_only(supervised, caplog):
    for _ in range(3):
        assert isinstance(supervised.answer("idle"), InferenceResult)
    assert isinstance(supervised.answer(), InferenceResult)
    supervised.until(lambda: supervised.poll() or "idle work broke" in caplog.text)
    assert caplog.text.count("getting later inferences ready failed") == 1


def test_log_records_of_the_model_reach_the_node_with_their_level(make, caplog):
    caplog.set_level("INFO")
    supervised = make("frames_policy:load")
    supervised.loaded()
    levels = {record.message: record.levelname for record in caplog.records if record.name == "specprune_ros.frames"}
    assert levels == {"loading 50 %": "INFO", "this machine is slow": "WARNING"}


def test_what_fails_again_and_again_is_not_asked_again_at_once(supervised):
    supervised.answer("raise")
    assert not supervised.worker.accepts(supervised.now_s)
    assert supervised.worker.accepts(supervised.now_s + 0.11)


@pytest.mark.parametrize("task", ["raise", "nan"])
def test_a_model_that_keeps_failing_is_started_again(supervised, task):
    """nan: the answer comes, and control says that it is of no use."""
    first = supervised.worker.pid
    for _ in range(MOST_FAILURES):
        outcome = supervised.answer(task)
        if isinstance(outcome, InferenceResult):
            supervised.worker.judge("it is not finite", supervised.now_s)
        supervised.now_s += 1.0
    [lost] = supervised.until_state(WorkerState.WAITING)
    assert isinstance(lost, WorkerLost) and "10 inferences in a row failed, the last one with: " in str(lost)
    supervised.now_s += FIRST_WAIT_S
    supervised.until_state(WorkerState.READY)
    assert supervised.worker.pid != first and not supervised.worker.trouble
    assert isinstance(supervised.answer(), InferenceResult)


def test_a_good_answer_in_between_is_a_new_beginning(supervised):
    for _ in range(MOST_FAILURES):
        supervised.answer("raise")
        supervised.now_s += 1.0
        supervised.answer()
        supervised.worker.judge(None, supervised.now_s)
    assert supervised.worker.state is WorkerState.READY


def test_bad_input_is_not_the_models_fault(make):
    supervised = make("frames_policy:load")
    supervised.loaded()
    for _ in range(MOST_FAILURES + 1):
        outcome = supervised.answer("bad input")
        assert isinstance(outcome, BadInput) and str(outcome) == "these words are not known"
    assert supervised.worker.accepts(supervised.now_s)
