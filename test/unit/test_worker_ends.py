"""The model's process: what goes wrong while it loads, and how it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
import worker_rig
from processes import alive
from worker_rig import PATIENCE_S

from specprune_ros.config import Config
from specprune_ros.infer.worker import (
    PolicyUnavailable,
    WorkerState,
    patience_s,
)
from specprune_ros.infer.worker_process import how_it_ended
from specprune_ros.types import (
    InferenceResult,
)

make, supervised = worker_rig.make, worker_rig.supervised

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
    assert supervised.until_state(WorkerState.FAILED) == []
    with pytest.raises(PolicyUnavailable) as error:
        supervised.worker.policy()
    assert str(error.value).endswith(text) and "\n" not in str(error.value)
    assert ("Traceback" in caplog.text) == (how == "raise"), (
        "where in the code helps only with what nobody has thought of"
    )


def test_a_factory_that_does_not_exist_is_named(make):
    supervised = make("no_such_module:load")
    supervised.until_state(WorkerState.FAILED)
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
    [lost] = supervised.until_state(WorkerState.WAITING)
    assert "the policy cannot be loaded again: model.safetensors: checksum does not match" in str(lost)
    assert "again in 2 s (2 of 3)" in str(lost)
    how.write_text("")
    supervised.now_s += 2.0
    supervised.until_state(WorkerState.READY)
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
    [lost] = supervised.until_state(WorkerState.FAILED)
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
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


REQUEST = """
import numpy as np
from specprune_ros.config import Pruning
from specprune_ros.types import InferenceRequest, Mode, Observation
def request(task):
    images = (np.zeros((16, 16, 3), np.uint8),) * 2
    observation = Observation(5, images, np.zeros(8, np.float32), task, None)
    return InferenceRequest(1, observation, None, 0, Mode.FINE, None, Pruning())
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
