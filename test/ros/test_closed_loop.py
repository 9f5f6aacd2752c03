"""Real networks in the node: the bundled one lifts a cube by every interface; a checkpoint that changes on disk while
it runs."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from ros_helpers import SIMULATED
from ros_rig import NODE, Rig, Watch
from std_msgs.msg import String
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.infer.load import BUNDLED
from specprune_ros.msg import PruningStatus
from specprune_ros.ros import qos
from specprune_ros.srv import ResetSim

pytestmark = pytest.mark.slow

POLICY = ("-m", "specprune_ros.ros.policy_node")


@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason=f"no bundled weights in {BUNDLED}")
@pytest.mark.parametrize("interface", ["servo_twist", "target_pose"])
def test_simulator_and_policy_lift_the_named_cube(graph, interface):
    """The bundled policy in closed loop, in the simulator's time, slowed down: how busy the machine is must not
    decide."""
    tasks, statuses = graph.listen(String, "/sim_node/task", qos.LATCHED), graph.listen(PruningStatus, f"{NODE}/status")
    slow = {"publish_clock": True, "realtime_factor": 0.2}
    graph.start("-m", "specprune_ros.ros.sim_node", command_interface=interface, seed=1000, **slow)
    parameters = SIMULATED | {"topics__instruction": "/sim_node/instruction", "output__interface": interface}
    graph.start("-m", "specprune_ros.ros.policy_node", use_sim_time=True, **parameters)
    verdicts = []
    for seed in (1000, 1001, 1002):
        graph.until(lambda: statuses, what="the first inference")
        if verdicts:  # the first episode began when the simulator started, and its time with the first command
            assert graph.call(ResetSim, "/sim_node/reset", ResetSim.Request(seed=seed)).success
            tasks.clear()
        graph.until(lambda: tasks and tasks[-1].data != "running", what="a verdict on the episode")
        verdicts.append(tasks[-1].data)
        if verdicts[-1] == "success":
            break
    assert verdicts[-1] == "success", verdicts


def test_a_checkpoint_that_is_damaged_on_disk_matters_at_the_next_start_only(graph, tmp_path):
    checkpoint = write_tiny_checkpoint(tmp_path / "checkpoint")
    slow = {"control__rate": 4.0, "control__observation_timeout": 5.0, "control__chunk_timeout": 10.0}
    parameters = {"policy__checkpoint": checkpoint, "policy__threads": 1, "instruction": "pick up the red cube"}
    parameters |= slow | {"control__execute_steps": 1, "control__lead_steps": 0, "safety__auto_arm": True}
    rig = Rig(graph, command=POLICY, watch=lambda graph, robot: Watch(graph, robot, period_s=0.25), **parameters)
    rig.watch.allow()
    rig.until_moving()
    for part in checkpoint.iterdir():
        content = part.read_bytes()
        part.write_bytes(content[: len(content) // 2])  # in place: the worst way
    rig.chunks.clear()
    graph.until(lambda: len(rig.chunks) > 3, what="chunks of the network that was loaded")
    rig.until_moving()
    rig.process.signal()
    assert rig.process.wait() == 0
    graph.until(lambda: not rig.watch.seen[-1][1].any(), what="a stop")
    rig.start()
    assert rig.process.wait() == 1
    [line] = [line for line in rig.process.text().splitlines() if line.startswith("error: ")]
    assert "the policy cannot be loaded: " in line and "Traceback" not in rig.process.text()
    rig.assert_silence()
