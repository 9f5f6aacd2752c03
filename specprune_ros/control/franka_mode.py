"""What a Franka says of its own state, and which of that speaks against moving it.

Modes and errors are those of franka_msgs/msg/FrankaRobotState (franka_ros2 3.4.0; test/facts/franka_ros2.yaml). The
steps of a recovery are franka_hardware's: after a reflex it deactivates itself and its controllers. No ROS here."""

from __future__ import annotations

from collections.abc import Sequence

RECOVER = (
    "remove the cause, then recover it: ros2 action send_goal /action_server/error_recovery "
    "franka_msgs/action/ErrorRecovery {}; ros2 control set_hardware_component_state FrankaHardwareInterface active; "
    "and activate its controllers again"
)
MODES = {
    0: ("OTHER", "unlock its joints and activate FCI in Franka Desk"),
    1: ("IDLE", None),
    2: ("MOVE", None),
    3: ("GUIDING", "let go of its guiding buttons"),
    4: ("REFLEX", RECOVER),
    5: ("USER_STOPPED", "release its stop button (external activation device), then activate its controllers again"),
    6: ("AUTOMATIC_ERROR_RECOVERY", "wait until it has recovered"),
}
"""Number -> (name, what helps; None where the arm may be moved)."""

SILENT_S = 1.0
"""The state comes 1000 times a second, unless the broadcaster was deactivated."""


def obstacle(topic: str, mode: int, errors: Sequence[str], age_s: float) -> str | None:
    """What speaks against moving the arm now. errors: names of the flags that are set; age_s: of this state."""
    name, remedy = MODES.get(mode, (f"unknown mode {mode}", "check it in Franka Desk"))
    why = f" ({', '.join(errors)})" if errors else ""
    if age_s > SILENT_S:
        return (
            f"{topic} has said nothing for {age_s:.1f} s (bound {SILENT_S:g} s), last that the robot is in mode "
            f"{name}{why}; after an error its driver deactivates itself: {RECOVER}"
        )
    return None if remedy is None else f"the robot is in mode {name}{why}; {remedy}"
