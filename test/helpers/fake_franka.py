"""franka_gripper as its source (franka_ros2 v3.4.0, gripper_action_server.cpp) behaves: the widths it refuses, what it
takes for a grasp, and what it answers. Needs control_msgs, and franka_msgs for grasp, move and homing."""

import importlib

from rclpy.action import ActionServer, CancelResponse

BASE = "/franka_gripper"
EPSILON_M = 0.005
"""default_grasp_epsilon of franka_gripper_node.yaml, inside and outside."""


def actions(package):
    """The package's actions; None where it is not installed."""
    try:
        return importlib.import_module(f"{package}.action")
    except ImportError:
        return None


class FakeHand:
    """The hand behind the servers. Widths between the fingers in m."""

    def __init__(self, node, own=True, common=True):
        """own: serves grasp, move and homing; common: serves gripper_action."""
        self.max_width, self.width, self.homed, self.object = 0.0797, 0.03, True, 0.0
        self.hangs = self.refuses = False
        self.goals = []
        """(action, goal) as they came in."""
        self.servers = []
        kinds = actions("franka_msgs") if own else None
        for name, kind in (("grasp", "Grasp"), ("move", "Move"), ("homing", "Homing")):
            if kinds:
                self._serve(node, getattr(kinds, kind), name, getattr(self, f"_{name}"))
        if common and (kinds := actions("control_msgs")):
            self._serve(node, kinds.GripperCommand, "gripper_action", self._command)

    def vanish(self):
        for server in self.servers:
            server.destroy()
        self.servers = []

    def _serve(self, node, kind, name, act):
        async def execute(handle):
            self.goals.append((name, handle.request))
            while self.hangs and not handle.is_cancel_requested:
                await _moment(node)
            if handle.is_cancel_requested:
                handle.canceled()
                return kind.Result()
            result = kind.Result()
            done = act(handle.request, result)
            (handle.succeed if done else handle.abort)()
            return result

        def decide(_):
            from rclpy.action import GoalResponse

            return GoalResponse.REJECT if self.refuses else GoalResponse.ACCEPT

        server = ActionServer(
            node,
            kind,
            f"{BASE}/{name}",
            execute,
            goal_callback=decide,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.servers.append(server)

    def _move(self, goal, result):
        result.success = self.homed and goal.width <= self.max_width
        if result.success:
            self.width = goal.width
        else:
            result.error = "libfranka gripper: Command failed!"
        return result.success

    def _grasp(self, goal, result):
        self.width = max(self.object, 0.0)
        low, high = goal.width - goal.epsilon.inner, goal.width + goal.epsilon.outer
        result.success = self.homed and low < self.width < high
        return result.success

    def _homing(self, goal, result):
        self.homed = result.success = True
        self.width = self.max_width
        return True

    def _command(self, goal, result):
        width = 2 * goal.command.position
        if not self.homed or not 0 <= width <= self.max_width:
            return False  # without a word: the numbers are in the driver's log
        opening = width >= self.width
        self.width = width if opening else max(self.object, width)
        result.reached_goal = opening or abs(self.width - width) < EPSILON_M
        result.position = self.width
        return result.reached_goal


async def _moment(node):
    """Lets others run."""
    from rclpy.task import Future

    future = Future()
    timer = node.create_timer(0.02, lambda: future.set_result(None))
    await future
    node.destroy_timer(timer)
