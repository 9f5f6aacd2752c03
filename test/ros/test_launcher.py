"""A moving arm whose launch is gone: the node stops it and ends. Without launch itself: see test_launch_real.py."""

import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from ros_helpers import PATIENCE_S, STUB, Graph
from ros_rig import Rig

LAUNCH_LIKE = Path(__file__).parents[1] / "helpers" / "launch_like.py"


def test_a_node_stops_the_arm_and_ends_when_its_launch_is_killed(tmp_path):
    with Graph(tmp_path) as graph:
        rig = Rig(graph, command=(str(LAUNCH_LIKE), str(STUB)), instruction="move")
        rig.arm()
        rig.until_moving()
        rig.process.signal(signal.SIGKILL)
        rig.process.wait()
        end = time.monotonic() + PATIENCE_S
        while "policy_node" in graph.node.get_node_names() and time.monotonic() < end:
            graph.spin(0.1)
        assert "policy_node" not in graph.node.get_node_names(), rig.process.text()
        assert rig.watch.assert_at_rest() >= 3, "the stop was said"
        assert "ends because the launch that started it (process " in rig.process.text()
