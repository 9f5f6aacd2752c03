"""The policy node around a real network: a small random one, a damaged one, and the bundled one in closed loop."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("torch")

from ros_helpers import SIMULATED, Robot
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.infer.load import BUNDLED
from specprune_ros.msg import Action, NodeStatus, PruningStatus
from specprune_ros.ros import convert, qos
from specprune_ros.srv import ResetSim

POLICY = ("-m", "specprune_ros.ros.policy_node")
SIM = ("-m", "specprune_ros.ros.sim_node")
NODE = "/policy_node"
TASK = "pick up the red cube"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_a_live_aggressiveness_changes_the_tokens_kept_in_the_next_status(graph, checkpoint):
    statuses = graph.listen(PruningStatus, f"{NODE}/status")
    pictures = graph.listen(Image, f"{NODE}/debug_image", qos.SENSOR_IN)
    Robot(graph)
    # A slow control rate leaves time between two frames: a busy machine is no reason to forget the history.
    slow = {"control__rate": 4.0, "control__observation_timeout": 5.0, "control__chunk_timeout": 10.0}
    slow |= {"control__execute_steps": 1, "control__lead_steps": 0}  # but infer in every period
    node = graph.start(
        *POLICY, policy__checkpoint=checkpoint, policy__threads=1, policy__engine="eager", instruction=TASK, **slow
    )

    def next_pruned(aggressiveness):
        """The next status under this setting with a history; the first pass after a start or a gap is dense."""
        return graph.until(
            lambda: next((s for s in statuses if s.used_last_attention and s.aggressiveness == aggressiveness), None),
            what=f"a pruned inference at {aggressiveness}",
        )

    kept = {0.5: next_pruned(0.5).tokens_kept}
    for aggressiveness in (1.0, 0.25):
        assert graph.set(NODE, "pruning.aggressiveness", aggressiveness).successful
        kept[aggressiveness] = next_pruned(aggressiveness).tokens_kept
    assert kept[1.0] < kept[0.5] < kept[0.25] < 512
    assert graph.set(NODE, "pruning.aggressiveness", 0.0).successful
    dense = graph.until(lambda: next((s for s in statuses if s.aggressiveness == 0.0), None), what="a dense inference")
    assert dense.mode == "dense" and dense.tokens_kept == 512
    assert convert.rgb(pictures[-1], "").std() > 5
    said = graph.listen(NodeStatus, f"{NODE}/node_status", qos.LATCHED)
    model = graph.until(lambda: said and said[-1].ready and said[-1].model, what="the node's status")
    assert (model.engine, model.policy) == ("eager", checkpoint.name)
    assert loads_torch(model.pid) and not loads_torch(node.popen.pid), "the model's process has it, control has not"


def loads_torch(pid):
    with open(f"/proc/{pid}/maps") as file:
        return "libtorch" in file.read()


def test_damaged_weights_end_the_start_with_one_clear_line(graph, checkpoint, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for part in checkpoint.iterdir():
        content = part.read_bytes()
        if part.suffix == ".safetensors":
            content = content[: len(content) // 2]
        (damaged / part.name).write_bytes(content)
    cut = graph.start(*POLICY, policy__checkpoint=damaged)
    gone = graph.start(*POLICY, policy__checkpoint=tmp_path / "nowhere")
    assert cut.wait() == 1 and gone.wait() == 1
    for process, text in ((cut, "model-00001-of-00001.safetensors"), (gone, "nowhere: no such folder")):
        [line] = [line for line in process.text().splitlines() if line.startswith("error: ")]
        assert "the policy cannot be loaded: " in line and text in line
        assert "Traceback" not in process.text()


@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason=f"no bundled weights in {BUNDLED}")
def test_simulator_and_policy_lift_the_named_cube(graph):
    """Two node processes and nothing else: cameras -> pruned policy -> actions -> arm.

    In the simulator's time, slowed down: the verdict must not depend on how busy the machine is.
    """
    tasks = graph.listen(String, "/sim_node/task", qos.LATCHED)
    actions, statuses = graph.listen(Action, f"{NODE}/action"), graph.listen(PruningStatus, f"{NODE}/status")
    graph.start(*SIM, publish_clock=True, realtime_factor=0.2)
    graph.start(*POLICY, topics__instruction="/sim_node/instruction", use_sim_time=True, **SIMULATED)
    graph.until(lambda: statuses, what="the first inference")
    verdicts = []
    for seed in range(1000, 1005):  # a good policy fails now and then
        assert graph.call(ResetSim, "/sim_node/reset", ResetSim.Request(seed=seed)).success
        tasks.clear()
        graph.until(lambda: tasks, what="a verdict on the episode")
        verdicts.append(tasks[0].data)
        if verdicts[-1] == "success":
            break
    assert "success" in verdicts, verdicts
    assert len(actions) > 20 and min(status.tokens_kept for status in statuses) < 512
