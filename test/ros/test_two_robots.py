"""Two robots side by side in one domain, each in its namespace as the launch files set it up: simulator, cameras, clock
and policy of one have nothing to do with those of the other."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("torch")
pytest.importorskip("mujoco")

from ros_helpers import SIMULATED
from std_msgs.msg import String

from specprune_ros.config import Topics
from specprune_ros.infer.load import BUNDLED
from specprune_ros.ros import launching, qos
from specprune_ros.srv import ResetSim

pytestmark = pytest.mark.slow

SEEDS = {"left": (1000, 1002, 1004), "right": (1001, 1003, 1005)}
"""Episodes that are tried until one succeeds."""


def names(namespace):
    """ROS arguments of a node in a namespace with a clock of its own (ros/launching.py, launch/mujoco.launch.py)."""
    return "--ros-args", "-r", f"__ns:=/{namespace}", "-r", "/clock:=clock", "--"


def started(graph, side):
    slow = {"publish_clock": True, "realtime_factor": 0.1, "relative_topics": True}
    graph.start("-m", "specprune_ros.ros.sim_node", *names(side), seed=SEEDS[side][0], **slow)
    moved = {name.replace(".", "__"): value for name, value in launching.relative_topics({}).items()}
    parameters = SIMULATED | moved | {"topics__instruction": "sim_node/instruction", "policy__threads": 1}
    graph.start("-m", "specprune_ros.ros.policy_node", *names(side), use_sim_time=True, **parameters)


@pytest.mark.skipif(not (BUNDLED / "config.json").is_file(), reason=f"no bundled weights in {BUNDLED}")
def test_each_of_two_robots_lifts_its_own_cube(graph):
    tasks = {side: graph.listen(String, f"/{side}/sim_node/task", qos.LATCHED) for side in SEEDS}
    for side in SEEDS:
        started(graph, side)
    tried = dict.fromkeys(SEEDS, 0)

    def lifted():
        for side, heard in tasks.items():
            if heard and heard[-1].data == "timeout":
                tried[side] += 1
                assert tried[side] < len(SEEDS[side]), f"{side} lifted none of {tried[side]} cubes"
                request = ResetSim.Request(seed=SEEDS[side][tried[side]])
                heard.clear()
                assert graph.call(ResetSim, f"/{side}/sim_node/reset", request).success
        return all(any(task.data == "success" for task in heard) for heard in tasks.values())

    graph.until(lifted, seconds=400, what=f"two lifted cubes: {tasks}")
    topics, count = Topics(), graph.node.count_publishers
    for topic in (*topics.images, topics.joint_states, topics.ee_pose, "/policy_node/action", "/clock"):
        assert [count(topic), count(f"/left{topic}"), count(f"/right{topic}")] == [0, 1, 1], topic
