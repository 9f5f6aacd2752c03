"""What a Franka's own state says against moving it."""

import pytest

from specprune_ros.control.franka_mode import MODES, SILENT_S, obstacle

TOPIC = "/franka_robot_state_broadcaster/robot_state"


@pytest.mark.parametrize("mode", MODES)
def test_only_an_idle_or_moving_robot_may_be_moved(mode):
    text = obstacle(TOPIC, mode, [], 0.0)
    if MODES[mode][0] in ("IDLE", "MOVE"):
        assert text is None
    else:
        assert text == f"the robot is in mode {MODES[mode][0]}; {MODES[mode][1]}"


def test_a_reflex_is_said_with_its_cause_and_the_steps_of_the_recovery_in_order():
    text = obstacle(TOPIC, 4, ["joint_reflex", "power_limit_violation"], 0.0)
    assert text.startswith("the robot is in mode REFLEX (joint_reflex, power_limit_violation); remove the cause")
    steps = [
        text.index(step) for step in ("error_recovery", "set_hardware_component_state", "activate its controllers")
    ]
    assert steps == sorted(steps)


def test_a_mode_that_nobody_knows_is_no_permission():
    assert "unknown mode 7" in obstacle(TOPIC, 7, [], 0.0)


def test_a_driver_that_went_silent_is_an_obstacle_whatever_it_said_last():
    assert obstacle(TOPIC, 2, [], 0.9 * SILENT_S) is None
    text = obstacle(TOPIC, 2, [], 3.14)
    assert text.startswith(
        f"{TOPIC} has said nothing for 3.1 s (bound 1 s), last that the robot is in mode MOVE; after"
    )
