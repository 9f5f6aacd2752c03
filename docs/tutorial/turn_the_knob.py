"""Starts a new episode of the simulated tabletop and changes how hard the policy node prunes while the arm moves.

Part of docs/tutorial/first_pick.md, which says how to start the two nodes.
"""

import time

import rclpy
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from specprune_ros.msg import PruningStatus
from specprune_ros.srv import ResetSim

SEED = 7
PATIENCE_S = 120.0

rclpy.init()
node = rclpy.create_node("turn_the_knob")
statuses: list[PruningStatus] = []
tasks: list[str] = []
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(PruningStatus, "/policy_node/status", statuses.append, 10)
node.create_subscription(String, "/sim_node/task", lambda message: tasks.append(message.data), latched)
reset = node.create_client(ResetSim, "/sim_node/reset")
parameters = AsyncParameterClient(node, "policy_node")


def wait_until(condition, what):
    """Handle messages until the condition holds."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"no {what} within {PATIENCE_S:g} s; do both nodes run, with the same ROS_DOMAIN_ID?")
        rclpy.spin_once(node, timeout_sec=0.1)


def answer(future):
    """What a service answered."""
    wait_until(future.done, "answer")
    return future.result()


def show(count):
    """Print the next inferences: the mode, the aggressiveness in force, and what was kept."""
    statuses.clear()
    wait_until(lambda: len(statuses) >= count, "status of the policy node")
    for s in statuses[:count]:
        print(f"{s.mode:6} {s.aggressiveness:.2f}: {s.tokens_kept} of {s.tokens_total} visual tokens kept")


def turn(value):
    """Set pruning.aggressiveness on the running node."""
    result = answer(parameters.set_parameters([Parameter("pruning.aggressiveness", value=value)])).results[0]
    print(f"pruning.aggressiveness := {value} -> {'accepted' if result.successful else 'refused: ' + result.reason}")


wait_until(reset.service_is_ready, "simulator")
wait_until(parameters.services_are_ready, "policy node")
tasks.clear()
print(f"episode of seed {SEED}: {answer(reset.call_async(ResetSim.Request(seed=SEED))).instruction}")
show(3)
turn(0.9)
show(3)
turn(1.9)
wait_until(lambda: tasks and tasks[-1] != "running", "end of the task")
print(f"the task ended with: {tasks[-1]}")
turn(0.5)
rclpy.shutdown()
