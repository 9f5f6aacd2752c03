"""What the simulated arm may do: nobody stands beside it, and its policy was trained on full-scale commands."""

from specprune_ros.config import Config, ConfigError

FULL_STEP_M, FULL_STEP_RAD = 0.05, 0.5
"""The most that the simulated arm moves along or about one axis in one control period, as in LIBERO."""

SUITE_NAMES = ("pick", "object", "spatial", "goal", "long")
"""The keys of suites.SUITES, for those who must not import MuJoCo."""

PERTURBATIONS = ("camera", "light", "noise", "texture", "distractors", "start", "wording")
"""What an episode may differ in from those of training; see perturb.py."""
STRENGTHS = (1, 2, 3)

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


def check_steps(config: Config) -> None:
    """ConfigError where the policy could ask for more than the simulated arm does in one control period: the simulator
    would cut it off, and the result would be that of another scale."""
    scale, limits, rate_hz = config.action, config.limits, config.control.rate
    for name, asked, step, speed, most, unit in (
        ("translation", scale.scale_translation, limits.step_translation, limits.linear_speed, FULL_STEP_M, "m"),
        ("rotation", scale.scale_rotation, limits.step_rotation, limits.angular_speed, FULL_STEP_RAD, "rad"),
    ):
        reach = min(asked, step, speed / rate_hz)
        if reach > most * (1.0 + 1e-6):
            raise ConfigError(
                f"action.scale_{name}: up to {reach:g} {unit} could be asked for in one control period, and the "
                f"simulator moves at most {most:g} {unit}; set action.scale_{name} or limits.step_{name} to that"
            )
