"""Whatever happens to the model's process, on a live graph: the arm comes to rest, the reason is told, the process is
started again, and nothing moves before somebody arms again. Every command is judged by ros_rig.Watch."""

import os
import re
import signal
import time

import pytest
from processes import alive

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_helpers import PATIENCE_S, Graph
from ros_rig import NODE, PERIOD_S, Rig

from specprune_ros.msg import ModelStatus, NodeStatus
from specprune_ros.ros import convert, qos

pytestmark = pytest.mark.slow

CHUNK_TIMEOUT_S = 1.0


class ModelRig(Rig):
    """A node whose model is quickly given up, and what it says of itself."""

    def __init__(self, graph, **parameters):
        self.said = graph.listen(NodeStatus, f"{NODE}/node_status", qos.LATCHED)
        quick = {"policy__inference_timeout": 1.5, "control__chunk_timeout": CHUNK_TIMEOUT_S}
        super().__init__(graph, **quick | parameters)

    def until_said(self, condition, what):
        """The first status, from now on, for which the condition holds."""
        self.said.clear()
        return self.graph.until(lambda: next(filter(condition, self.said), None), what=what)

    def until_model(self, state):
        return self.until_said(lambda status: status.model.state == state, f"the state {state} of the model")

    def until_ready(self):
        return self.until_said(lambda status: status.ready, "a policy that answers")

    def change(self, transition):
        """Whether the transition was made, and the state after it."""
        request = ChangeState.Request(transition=Transition(id=transition))
        made = self.graph.call(ChangeState, f"{NODE}/change_state", request).success
        return made, self.graph.call(GetState, f"{NODE}/get_state", GetState.Request()).current_state.id


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Graph(tmp_path_factory.mktemp("ros")) as graph:
        yield ModelRig(graph)


@pytest.fixture
def rig(shared):
    """The shared node, armed and moving; its model is a new one where the last one had to be started again."""
    shared.begin_again()
    shared.say("move")
    if shared.until_said(lambda status: True, "a status").model.restarts:
        for transition in ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE"):
            assert shared.change(getattr(Transition, f"TRANSITION_{transition}"))[0]
    shared.arm()
    shared.until_moving()
    return shared


def assert_no_motion_outlived_its_chunk(rig):
    """Two periods after a chunk is void at the latest, as the stamps say."""
    stamps = {chunk.chunk_id: convert.stamp_ns(chunk.header, "") for chunk in rig.chunks}
    for stamp_ns, _, message in rig.watch.moves():
        if message.chunk_id in stamps:
            age_s = 1e-9 * (stamp_ns - stamps[message.chunk_id])
            assert age_s <= CHUNK_TIMEOUT_S + 2 * PERIOD_S, f"step {message.step} of {message.chunk_id} after {age_s} s"


def children(pid):
    """(pid, state) of the children of a process."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                state, parent = file.read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid:
            found.append((int(entry), state))
    return found


HANGS = r"inference \d+ had no answer for 1\.[5-9] s \(limit 1\.5 s, policy\.inference_timeout\): the policy hangs"
REASONS = {
    "hang": HANGS,
    "gil": HANGS,
    "stop": HANGS,
    "segv": r"\(pid \d+\) was ended by SIGSEGV \(Segmentation fault\) during inference \d+",
    "exit": r"\(pid \d+\) ended with exit status 3 during inference \d+",
    "kill": r"\(pid \d+\) was ended by SIGKILL "
    r"\(Killed by somebody, or by the kernel because memory ran out: see dmesg\)",
}


@pytest.mark.parametrize("task", REASONS)
def test_a_model_that_breaks_stops_the_arm_and_comes_back(rig, task):
    before = rig.until_ready().model
    rig.chunks.clear()
    rig.watch.seen.clear()
    rig.say(task)
    rig.until_state("call ~/arm when the policy answers again")
    rig.watch.forbid()
    assert rig.safety[-1].data.startswith("disarmed: ") and re.search(REASONS[task], rig.safety[-1].data)
    rig.say("move")
    told = rig.graph.until(
        lambda: next((status for status in rig.said if re.search(REASONS[task], status.model.trouble)), None),
        what="the trouble in the status",
    )
    assert re.search(r"it is started again in 1 s \(1 of 3\)$", told.model.trouble) and not told.ready
    rig.assert_silence()
    success, why = rig.trigger("arm")
    assert success is False and re.search(REASONS[task], why), why
    after = rig.until_ready()
    assert after.model.pid not in (0, before.pid) and after.model.restarts == 1
    assert not alive(before.pid) and after.model.trouble == ""
    assert [state for _, state in children(rig.process.popen.pid)].count("Z") == 0
    rig.chunks.clear()
    rig.graph.until(lambda: len(rig.chunks) > 1, what="chunks of the new process")
    rig.assert_silence()
    assert after.safety == "disarmed"
    assert_no_motion_outlived_its_chunk(rig)
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_process_that_somebody_else_stops_or_kills(rig, number):
    pid = rig.until_ready().model.pid
    os.kill(pid, number)
    rig.until_state("disarmed: ")
    rig.watch.forbid()
    rig.until_said(lambda status: status.model.trouble, "the trouble")
    named = "the policy hangs" if number == signal.SIGSTOP else f"was ended by {signal.Signals(number).name}"
    assert named in rig.said[-1].model.trouble and not rig.said[-1].ready
    assert rig.said[-1].hold_reason.startswith(rig.said[-1].model.trouble)
    rig.until_ready()
    rig.assert_silence()
    rig.arm()
    rig.until_moving()


def test_a_model_that_only_raises_is_held_and_then_started_again(rig):
    rig.say("raise")
    rig.until_held_because("the model broke")
    rig.until_state("disarmed: 10 inferences in a row failed, the last one with: RuntimeError: the model broke")
    rig.watch.forbid()
    rig.say("move")
    rig.until_ready()
    rig.assert_silence()
    assert rig.process.text().count("Traceback") == 1, "the same traceback is said once"
    assert "in misbehave" in rig.process.text()
    rig.arm()
    rig.until_moving()


def test_the_counters_of_the_node_count_on_over_activations(rig):
    rig.say("slow")
    rig.until_said(lambda status: status.deadline_misses > 0, "a chunk that runs out")
    rig.say("move")
    rig.until_moving()
    before = rig.until_ready()
    chunk_id = rig.chunks[-1].chunk_id
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        assert rig.change(transition)[0]
    rig.watch.forbid()
    rig.chunks.clear()
    rig.graph.until(lambda: rig.chunks, what="a chunk")
    assert rig.chunks[0].chunk_id > chunk_id
    after = rig.until_ready()
    assert after.requests > before.requests and after.deadline_misses >= before.deadline_misses > 0
    assert after.control.periods < before.control.periods, "steadiness is that of this activation"


def test_deactivating_while_an_inference_runs(rig):
    rig.say("slow")
    rig.graph.until(lambda: "has been running" in rig.value("hold reason"), what="a slow inference")
    assert rig.change(Transition.TRANSITION_DEACTIVATE) == (True, State.PRIMARY_STATE_INACTIVE)
    rig.watch.forbid()
    rig.say("move")
    assert rig.change(Transition.TRANSITION_ACTIVATE) == (True, State.PRIMARY_STATE_ACTIVE)
    rig.chunks.clear()
    rig.graph.until(lambda: len(rig.chunks) > 2, what="chunks")
    assert {chunk.instruction for chunk in rig.chunks} == {"move"}, "what was asked for before is not used"
    rig.assert_silence()
    rig.arm()
    rig.until_moving()


def test_a_hanging_model_can_be_cleaned_up_and_configured_again(rig):
    """The last case of the shared node: its process is watched to the end."""
    old = rig.until_ready().model.pid
    rig.say("gil")
    rig.graph.until(lambda: "has been running" in rig.value("hold reason"), what="a hanging inference")
    assert rig.change(Transition.TRANSITION_DEACTIVATE) == (True, State.PRIMARY_STATE_INACTIVE)
    rig.watch.forbid()
    assert rig.change(Transition.TRANSITION_CLEANUP) == (True, State.PRIMARY_STATE_UNCONFIGURED)
    assert not alive(old)
    none = rig.until_said(lambda status: status.state == NodeStatus.UNCONFIGURED, "the state")
    assert (none.model.state, none.model.pid) == (ModelStatus.NONE, 0)
    rig.say("move")
    assert rig.change(Transition.TRANSITION_CONFIGURE) == (True, State.PRIMARY_STATE_INACTIVE)
    assert rig.change(Transition.TRANSITION_ACTIVATE) == (True, State.PRIMARY_STATE_ACTIVE)
    rig.arm()
    rig.until_moving()
    pid = rig.until_ready().model.pid
    rig.process.signal()
    assert rig.process.wait() == 0 and not alive(pid)
    rig.graph.until(lambda: not rig.watch.seen[-1][1].any(), what="a stop")


def test_a_model_that_keeps_dying_is_given_up_and_the_node_says_so(graph):
    rig = ModelRig(graph, policy__restarts=1, instruction="exit")
    failed = rig.until_model(ModelStatus.FAILED)
    assert "ended with exit status 3" in failed.model.trouble and not failed.ready
    assert "given up after 1 new starts in a row (policy.restarts): mend it" in failed.model.trouble
    rig.say("move")
    rig.until_held_because("given up after 1 new starts")
    success, why = rig.trigger("arm")
    assert not success and "given up after 1 new starts" in why
    rig.assert_silence()
    assert rig.change(Transition.TRANSITION_DEACTIVATE)[0]
    assert rig.change(Transition.TRANSITION_ACTIVATE) == (False, State.PRIMARY_STATE_INACTIVE)
    assert "cannot activate: " in rig.process.text() and "clean up and configure the node" in rig.process.text()
    for transition in (
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        assert rig.change(transition)[0]
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize("task", ["move", "hang", "gil", "stop"])
def test_the_model_dies_with_the_node_also_when_that_is_killed(graph, task):
    rig = ModelRig(graph, instruction="move", policy__inference_timeout=100.0)
    pid = rig.until_ready().model.pid
    rig.say(task)
    rig.graph.until(lambda: task == "move" or "has been running" in rig.value("hold reason"), what="the task")
    shared_memory = set(os.listdir("/dev/shm"))
    rig.process.signal(signal.SIGKILL)
    rig.process.wait()
    graph.processes.remove(rig.process)
    end = time.monotonic() + PATIENCE_S
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not [name for name in shared_memory if "specprune" in name], (
        "the frames' memory has no name to be left behind"
    )


# Loading.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("manager", [False, True])
def test_ending_while_the_policy_loads(graph, monkeypatch, number, manager):
    """manager: `configure` was called, and waits for it."""
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", "hang")
    rig = ModelRig(graph, auto_activate=not manager)
    if manager:
        client = graph.node.create_client(ChangeState, f"{NODE}/change_state")
        graph.until(client.service_is_ready, what="the service")
        client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    pids = graph.until(lambda: children(rig.process.popen.pid), what="the process of the model")
    graph.spin(0.5)
    rig.process.signal(number)
    assert rig.process.wait() == 0
    assert not any(alive(pid) for pid, _ in pids)
    assert "Traceback" not in rig.process.text()


def test_shutting_down_while_the_policy_loads(graph, monkeypatch):
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", "hang")
    rig = ModelRig(graph)
    loading = rig.until_model(ModelStatus.LOADING)
    assert loading.state == NodeStatus.UNCONFIGURED and not loading.ready and "policy is loading" in loading.hold_reason
    assert rig.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == (True, State.PRIMARY_STATE_FINALIZED)
    assert not alive(loading.model.pid)
    rig.assert_silence()
    rig.process.signal()
    assert rig.process.wait() == 0


def test_configuring_fails_twice_and_then_works(graph, monkeypatch, tmp_path):
    how = tmp_path / "how"
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", str(how))
    rig = ModelRig(graph, auto_activate=False, instruction="move")
    for word, reason in (
        ("refuse", "checksum does not match"),
        ("segv", "was ended by SIGSEGV (Segmentation fault) while"),
    ):
        how.write_text(word)
        assert rig.change(Transition.TRANSITION_CONFIGURE) == (False, State.PRIMARY_STATE_UNCONFIGURED)
        graph.until(lambda: reason in rig.process.text(), what=reason)  # noqa: B023
        assert rig.until_said(lambda status: True, "a status").model.state == ModelStatus.NONE
        success, why = rig.trigger("arm")
        assert not success and why == "unconfigured; configure the node"
    how.write_text("")
    assert rig.change(Transition.TRANSITION_CONFIGURE) == (True, State.PRIMARY_STATE_INACTIVE)
    assert rig.change(Transition.TRANSITION_ACTIVATE) == (True, State.PRIMARY_STATE_ACTIVE)
    rig.arm()
    rig.until_moving()


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("torch", "error: the policy cannot be loaded: No module named 'no_such_torch'"),
        ("refuse", "error: the policy cannot be loaded: model.safetensors: checksum does not match"),
        ("segv", "was ended by SIGSEGV (Segmentation fault) while it was loading"),
    ],
)
def test_a_policy_that_cannot_be_loaded_ends_the_start_with_one_line(graph, monkeypatch, how, line):
    monkeypatch.setenv("SPECPRUNE_SCRIPTED_LOAD", how)
    process = graph.start_stub()
    assert process.wait() == 1
    [error] = [text for text in process.text().splitlines() if text.startswith("error: ")]
    assert line in error and "Traceback" not in process.text()
