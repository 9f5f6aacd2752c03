"""The model's process as control sees it: one request at a time, errors handed over instead of lost, never a wait, and
whatever happens to the process is noticed, named and followed by a new one, but not for ever."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.bench.faults.policy import FACTORY
from specprune_ros.config import Config
from specprune_ros.infer import restarts
from specprune_ros.infer.restarts import FIRST_WAIT_S, HEALTHY_S, LONGEST_WAIT_S, MOST_FAILURES, Failures, Restarts
from specprune_ros.infer.worker import (
    InferenceFailed,
    InferenceWorker,
    PolicyUnavailable,
    State,
    WorkerLost,
    patience_s,
)
from specprune_ros.infer.worker_main import Memories
from specprune_ros.infer.worker_process import how_it_ended
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

PATIENCE_S = 60.0
"""Real time, and only ever spent on a busy machine."""


def request(task="move", number=1, memory=None, level=0, reference=None, config=None):
    images = tuple(np.full((16 + 8 * view, 16, 3), level + view, np.uint8) for view in range(2))
    observation = Observation(5, images, np.full(8, 0.4, np.float32), task, None)
    return InferenceRequest(number, observation, reference, 3, Mode.FINE, memory, (config or Config()).pruning)


class Supervised:
    """A worker whose clock is moved by hand: it may be hours later in no time."""

    def __init__(self, factory=FACTORY, **changes):
        self.now_s = 0.0
        self.worker = InferenceWorker(factory, Config().updated(changes), self.now_s)

    def poll(self):
        return self.worker.poll(self.now_s)

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, (self.worker.state, self.worker.trouble)
            time.sleep(0.002)
        return value

    def loaded(self):
        return self.until(lambda: self.poll() or self.worker.policy())

    def until_state(self, state):
        """Outcomes on the way there."""
        outcomes = []

        def there():
            outcomes.append(self.poll())
            return self.worker.state is state

        self.until(there)
        return [outcome for outcome in outcomes if outcome is not None]

    def submit(self, *args, patience_s=1.0, **kwargs):
        self.until(lambda: self.poll() or self.worker.accepts(self.now_s))
        self.worker.submit(request(*args, **kwargs), patience_s, self.now_s)

    def answer(self, *args, **kwargs):
        self.submit(*args, **kwargs)
        return self.until(self.poll)


@pytest.fixture
def make():
    made = []

    def make(*args, **kwargs):
        made.append(Supervised(*args, **kwargs))
        return made[-1]

    yield make
    for supervised in made:
        assert supervised.worker.close(1.0)
        assert supervised.worker.gone()


@pytest.fixture
def supervised(make):
    supervised = make()
    supervised.loaded()
    return supervised


# Answers.


def test_it_loads_in_a_process_of_its_own_and_says_what_it_loaded(make):
    supervised = make()
    worker = supervised.worker
    assert worker.policy() is None and worker.state is State.LOADING and not worker.accepts(0.0)
    facts = supervised.loaded()
    assert facts == PolicyFacts("scripted", view_count=2, chunk_steps=8, proprio_dims=8, patch_grid=(16, 16))
    assert worker.state is State.READY and worker.engine == EngineState("scripted") and not worker.trouble
    assert worker.pid not in (0, os.getpid()) and os.path.exists(f"/proc/{worker.pid}")


def test_a_request_comes_back_with_its_result(supervised):
    asked = request("open", 7, config=Config().updated({"pruning.aggressiveness": 1.0}))
    supervised.worker.submit(asked, 1.0, 0.0)
    result = supervised.until(supervised.poll)
    assert isinstance(result, InferenceResult) and result.request is asked
    assert (result.chunk.chunk_id, result.chunk.stamp_ns, result.chunk.instruction) == (7, 5, "open")
    assert result.chunk.actions.shape == (8, 7) and result.report.tokens_kept == 256
    assert supervised.poll() is None, "an outcome is handed over once"


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
            asked = InferenceRequest(1, observation, reference, 3, Mode.FINE, None)
            supervised.until(lambda: supervised.poll() or supervised.worker.accepts(0.0))
            supervised.worker.submit(asked, 60.0, 0.0)
            result = supervised.until(supervised.poll)
            expected = [[int(frame.astype(np.int64).sum()), *frame.shape] for frame in (*images, *(reference or ()))]
            assert result.chunk.actions.tolist() == expected


def test_the_memory_of_the_last_pass_stays_with_the_model(supervised):
    first = supervised.answer()
    assert not first.report.reused_global and isinstance(first.memory.salient, int)
    assert supervised.answer(memory=first.memory).report.reused_global
    unknown = PolicyMemory(12345, "move", 5)
    assert not supervised.answer(memory=unknown).report.reused_global


def test_a_memory_does_not_outlive_its_process(supervised):
    memory = supervised.answer().memory
    supervised.answer("exit")
    supervised.now_s += FIRST_WAIT_S
    supervised.until_state(State.READY)
    assert not supervised.answer(memory=memory).report.reused_global


def test_only_the_newest_memories_are_kept():
    memories = Memories(100)
    kept = [memories.keep(PolicyMemory(f"content {i}", "move", i)) for i in range(20)]
    assert [memory.salient for memory in kept] == list(range(100, 120))
    assert memories.find(kept[-1]).salient == "content 19" and memories.find(kept[-8]).salient == "content 12"
    assert memories.find(kept[0]) is None and memories.find(None) is None


def test_an_instruction_that_fits_nowhere_is_bad_input_and_no_more(supervised):
    outcome = supervised.answer("x" * 200_000)
    assert isinstance(outcome, BadInput) and "200000 characters" in str(outcome)
    assert isinstance(supervised.answer(), InferenceResult)


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
    [lost] = supervised.until_state(State.WAITING)
    assert isinstance(lost, WorkerLost) and "10 inferences in a row failed, the last one with: " in str(lost)
    supervised.now_s += FIRST_WAIT_S
    supervised.until_state(State.READY)
    assert supervised.worker.pid != first and not supervised.worker.trouble
    assert isinstance(supervised.answer(), InferenceResult)


def test_a_good_answer_in_between_is_a_new_beginning(supervised):
    for _ in range(MOST_FAILURES):
        supervised.answer("raise")
        supervised.now_s += 1.0
        supervised.answer()
        supervised.worker.judge(None, supervised.now_s)
    assert supervised.worker.state is State.READY


def test_bad_input_is_not_the_models_fault(make):
    supervised = make("frames_policy:load")
    supervised.loaded()
    for _ in range(MOST_FAILURES + 1):
        outcome = supervised.answer("bad input")
        assert isinstance(outcome, BadInput) and str(outcome) == "these words are not known"
    assert supervised.worker.accepts(supervised.now_s)


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
    assert worker.state is State.WAITING and worker.pid == 0 and worker.engine == EngineState()
    assert not os.path.exists(f"/proc/{first}"), "and it is no zombie"
    supervised.now_s += FIRST_WAIT_S - 0.01
    assert supervised.poll() is None and worker.state is State.WAITING
    supervised.now_s += 0.02
    supervised.poll()
    assert worker.state is State.LOADING and "it is loading again (1 of 3)" in worker.trouble
    supervised.until_state(State.READY)
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
    assert supervised.poll() is None and worker.state is State.READY
    supervised.now_s += 0.2
    lost = supervised.poll()
    assert "inference 12 had no answer for 5.1 s (limit 5 s, policy.inference_timeout): the policy hangs" in str(lost)
    if task == "gil":  # the interpreter is blocked, and its stack is said all the same
        said = []
        supervised.until(lambda: said.append(capfd.readouterr().err) or "in _serve" in "".join(said))
    supervised.now_s += 1.0
    supervised.until_state(State.WAITING)
    assert not os.path.exists(f"/proc/{first}"), "the old one is gone before the new one starts"
    supervised.now_s += 1.0
    supervised.until_state(State.READY)
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
        supervised.until_state(State.READY)
    assert "given up after 2 new starts in a row (policy.restarts): mend it" in str(supervised.answer("exit"))
    assert supervised.worker.state is State.FAILED and supervised.worker.pid == 0
    with pytest.raises(PolicyUnavailable, match="ended with exit status 3.*given up"):
        supervised.worker.policy()
    supervised.now_s += 1e6
    assert supervised.poll() is None and supervised.worker.state is State.FAILED


def test_after_a_healthy_while_the_count_begins_anew(make):
    supervised = make(**{"policy.restarts": 1})
    supervised.loaded()
    for _ in range(3):
        supervised.now_s += HEALTHY_S
        assert "(1 of 1)" in str(supervised.answer("exit"))
        supervised.now_s += 1.0
        supervised.until_state(State.READY)
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


# Loading.


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("refuse", "model.safetensors: checksum does not match"),
        ("torch", "No module named 'no_such_torch'"),
        ("raise", "RuntimeError: the model broke"),
        ("segv", "was ended by SIGSEGV (Segmentation fault) while it was loading"),
        ("exit", "ended with exit status 3 while it was loading"),
    ],
)
def test_a_policy_that_cannot_be_loaded_says_why_in_one_line_and_is_not_tried_again(
    make, monkeypatch, caplog, how, text
):
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", how)
    supervised = make()
    assert supervised.until_state(State.FAILED) == []
    with pytest.raises(PolicyUnavailable) as error:
        supervised.worker.policy()
    assert str(error.value).endswith(text) and "\n" not in str(error.value)
    assert ("Traceback" in caplog.text) == (how == "raise"), (
        "where in the code helps only with what nobody has thought of"
    )


def test_a_factory_that_does_not_exist_is_named(make):
    supervised = make("no_such_module:load")
    supervised.until_state(State.FAILED)
    assert supervised.worker.trouble == "No module named 'no_such_module'"


def test_a_load_that_fails_after_a_death_is_tried_again_and_named(make, monkeypatch, tmp_path):
    how = tmp_path / "how"
    how.write_text("")
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", str(how))
    supervised = make()
    supervised.loaded()
    how.write_text("refuse")
    supervised.answer("exit")
    supervised.now_s += 1.0
    [lost] = supervised.until_state(State.WAITING)
    assert "the policy cannot be loaded again: model.safetensors: checksum does not match" in str(lost)
    assert "again in 2 s (2 of 3)" in str(lost)
    how.write_text("")
    supervised.now_s += 2.0
    supervised.until_state(State.READY)
    assert isinstance(supervised.answer(), InferenceResult)


def test_another_checkpoint_under_the_same_name_is_not_taken_over(make, monkeypatch, tmp_path):
    name = tmp_path / "name"
    name.write_text("first")
    monkeypatch.setenv("FRAMES_POLICY_NAME", str(name))
    supervised = make("frames_policy:load")
    supervised.loaded()
    name.write_text("second")
    os.kill(supervised.worker.pid, signal.SIGKILL)
    supervised.until(supervised.poll)
    supervised.now_s += 1.0
    [lost] = supervised.until_state(State.FAILED)
    assert "the checkpoint is another one now" in str(lost) and "configure the node" in str(lost)


def test_without_room_for_a_process_the_policy_is_unavailable(make, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    supervised = make()
    with pytest.raises(PolicyUnavailable, match="no process can be started for the policy: .*temporarily unavailable"):
        supervised.worker.policy()


# Ends.


@pytest.mark.parametrize("task", [None, "hang", "gil", "stop"])
def test_closing_ends_the_process_whatever_it_does(make, task):
    supervised = make()
    supervised.loaded()
    pid = supervised.worker.pid
    if task:
        supervised.submit(task)
        time.sleep(0.1)
    assert supervised.worker.close(1.0) and not os.path.exists(f"/proc/{pid}")


def test_closing_while_it_loads(make, monkeypatch):
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", "hang")
    supervised = make()
    pid = supervised.worker.pid
    assert supervised.worker.close(1.0) and not os.path.exists(f"/proc/{pid}")


PARENT = """
import sys, time
from specprune_ros.config import Config
from specprune_ros.infer.worker import InferenceWorker
sys.path.insert(0, {helpers!r})
from test_worker_requests import request
worker = InferenceWorker("specprune_ros.bench.faults.policy:load", Config(), 0.0)
while worker.policy() is None:
    worker.poll(0.0)
worker.submit(request({task!r}), 1e9, 0.0)
time.sleep(0.3)
print(worker.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("task", ["move", "hang", "gil", "stop"])
def test_the_process_dies_with_the_node_also_when_that_is_killed(task, tmp_path):
    (tmp_path / "test_worker_requests.py").write_text(REQUEST)
    helpers = [entry for entry in sys.path if entry.endswith("helpers")]
    code = PARENT.format(helpers=str(tmp_path), task=task)
    node = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*helpers, *filter(None, [os.environ.get("PYTHONPATH")])])},
    )
    pid = int(node.stdout.readline())
    assert os.path.exists(f"/proc/{pid}")
    node.kill()
    node.wait()
    end = time.monotonic() + PATIENCE_S
    while _alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def _alive(pid):
    """Neither gone nor waiting for whoever inherited it to notice."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


REQUEST = """
import numpy as np
from specprune_ros.types import InferenceRequest, Mode, Observation
def request(task):
    images = (np.zeros((16, 16, 3), np.uint8),) * 2
    return InferenceRequest(1, Observation(5, images, np.zeros(8, np.float32), task, None), None, 0, Mode.FINE, None)
"""


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with exit status 0"),
        (-signal.SIGABRT, "was ended by SIGABRT (Aborted)"),
        (-99, "was ended by signal 99"),
    ],
)
def test_how_a_process_ended(status, text):
    assert how_it_ended(status) == text


def test_patience_follows_the_chunk_timeout_unless_it_is_set():
    config = Config()
    assert patience_s(config) == 5.0
    assert patience_s(config.updated({"control.chunk_timeout": 3.0})) == 15.0
    assert patience_s(config.updated({"policy.inference_timeout": 1.5})) == 1.5
