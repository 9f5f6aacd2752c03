"""The launch files with our real nodes, by the real `ros2 launch`. Skipped where launch is not installed."""

import re
import signal
import sys

import pytest
from launched import ROOT, Launched, processes_of, with_launch

pytest.importorskip("rclpy")

from std_msgs.msg import String

from specprune_ros.msg import Action
from specprune_ros.ros import qos

pytestmark = with_launch
MUJOCO = str(ROOT / "launch" / "mujoco.launch.py")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT], ids=lambda number: number.name)
def test_both_nodes_end_when_the_launch_that_started_them_is_ended_alone(graph, tmp_path, number):
    """launch does not pass these signals on: it ends, and what it started would go on."""
    with Launched(sys.prefix, tmp_path, MUJOCO, "auto_activate:=false", domain=graph.domain) as launched:
        wanted = {("policy_node", "/"), ("sim_node", "/")}
        graph.until(lambda: wanted <= set(graph.node.get_node_names_and_namespaces()), what="both nodes")
        launched.popen.send_signal(number)
        launched.popen.wait(30)
        graph.until(lambda: not processes_of(launched.popen.pid), what="the end of both nodes")
        graph.until(lambda: not wanted & set(graph.node.get_node_names_and_namespaces()), what="their goodbye")
    logs = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.log"))
    assert logs.count(f"ends because the launch that started it (process {launched.popen.pid}) did") >= 2, logs


@pytest.mark.slow
def test_mujoco_lifts_the_cube_and_ends_cleanly(graph, tmp_path):
    """Both real nodes by `ros2 launch`; the stop is the last action, and nothing is left behind."""
    pytest.importorskip("torch")
    from specprune_ros.infer.load import BUNDLED

    if not (BUNDLED / "config.json").is_file():
        pytest.skip(f"no bundled weights in {BUNDLED}")
    arguments = [MUJOCO, "use_sim_time:=true", "realtime_factor:=0.3", "seed:=1000"]
    with Launched(sys.prefix, tmp_path, *arguments, domain=graph.domain) as launched:
        verdicts = graph.listen(String, "/sim_node/task", qos.LATCHED)
        actions = graph.listen(Action, "/policy_node/action")
        graph.until(lambda: any(verdict.data == "success" for verdict in verdicts), seconds=300, what="a lifted cube")
        launched.popen.send_signal(signal.SIGINT)
        graph.until(lambda: launched.popen.poll() is not None, what="the end of the launch")
        graph.spin(0.5)
        assert launched.popen.returncode == 0, launched.text()
        assert len(re.findall(r"process has finished cleanly", launched.text())) == 2, launched.text()
        assert not processes_of(launched.popen.pid)
    last = actions[-1]
    still = (*vector(last.translation), *vector(last.rotation))
    assert still == (0.0,) * 6, "the stop is the last action"
    assert any(any(vector(action.translation)) for action in actions)


@pytest.mark.slow
def test_an_arm_in_motion_is_stopped_when_its_launch_is_killed(graph, tmp_path):
    pytest.importorskip("torch")
    arguments = [MUJOCO, "use_sim_time:=true", "realtime_factor:=0.3", "seed:=1000"]
    with Launched(sys.prefix, tmp_path, *arguments, domain=graph.domain) as launched:
        actions = graph.listen(Action, "/policy_node/action")
        graph.until(lambda: sum(any(vector(action.translation)) for action in actions) > 10, what="motion")
        launched.popen.kill()
        graph.until(lambda: not processes_of(launched.popen.pid), what="the end of both nodes")
        graph.spin(0.5)
    assert not any((*vector(actions[-1].translation), *vector(actions[-1].rotation))), "the stop is the last action"


def vector(message):
    return message.x, message.y, message.z
