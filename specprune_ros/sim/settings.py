"""What the simulated arm may do: nobody stands beside it, and its policy was trained on full-scale commands."""

SIMULATION = {
    "limits.step_translation": 0.1,
    "limits.step_rotation": 1.0,
    "limits.linear_speed": 2.0,
    "limits.angular_speed": 20.0,
    "limits.linear_acceleration": 1000.0,
    "limits.angular_acceleration": 10000.0,
    "limits.linear_jerk": 1e5,
    "limits.angular_jerk": 1e6,
    "supervision.delay": 0.3,
    "supervision.follow_translation": 0.05,
    "supervision.follow_rotation": 0.5,
    "supervision.drift_translation": 0.1,
    "supervision.drift_rotation": 1.0,
    "supervision.error_translation": 0.3,
    "supervision.error_rotation": 1.5,
    "safety.auto_arm": True,
    "safety.hold_timeout": 0.0,
    "output.switch_servo": False,
}
"""Parameters of everything that runs on the simulator: evaluation, benchmark, demo, and config/mujoco.yaml."""
