"""What the policy's numbers mean on this robot, what may be commanded, and when the node disarms."""

from __future__ import annotations

from dataclasses import dataclass

from specprune_ros.settings.declaration import param


@dataclass(frozen=True)
class ActionScale:
    """What the policy's numbers mean on this robot (`model.units`)."""

    units: str = param(
        "auto",
        "Numbers that the policy was trained on: normalised (1 is one action unit), or metres and radians in one "
        "control period (Bridge, Fractal); auto: as the checkpoint says, else normalised, and refused where its "
        "statistics look like metres",
        choices=("auto", "normalised", "metres"),
        live=False,
    )
    scale_translation: float = param(
        0.05,
        "Translation of one action unit per control period, the most that one action may ask for",
        unit="m",
        bounds=(1e-4, 1.0),
        live=False,
    )
    scale_rotation: float = param(
        0.5,
        "Rotation of one action unit per control period, the most that one action may ask for",
        unit="rad",
        bounds=(1e-3, 3.2),
        live=False,
    )
    frame: str = param(
        "base",
        "Frame of translation and rotation: the robot's base, or the end effector at the moment of the command",
        choices=("base", "ee"),
        live=False,
    )
    rotation: str = param(
        "axis_angle",
        "Rotation dimensions: axis-angle vector, or roll, pitch, yaw about fixed axes",
        choices=("axis_angle", "rpy"),
        live=False,
    )
    gripper: str = param(
        "open_is_one",
        "Gripper dimension: 0 closed .. 1 open, or 0 open .. 1 closed",
        choices=("open_is_one", "open_is_zero"),
        live=False,
    )


@dataclass(frozen=True)
class Limits:
    """What may be commanded, in the order in which it is applied. The defaults are for a first day on a real arm."""

    step_translation: float = param(0.05, "Longest translation in one control period", unit="m", bounds=(0.0, 0.2))
    step_rotation: float = param(0.5, "Largest rotation in one control period", unit="rad", bounds=(0.0, 3.2))
    linear_speed: float = param(0.1, "Highest translational speed", unit="m/s", bounds=(0.0, 3.0))
    angular_speed: float = param(0.5, "Highest rotational speed", unit="rad/s", bounds=(0.0, 20.0))
    linear_acceleration: float = param(
        2.0, "Largest change of the translational velocity", unit="m/s^2", bounds=(0.01, 1000.0)
    )
    angular_acceleration: float = param(
        10.0, "Largest change of the rotational velocity", unit="rad/s^2", bounds=(0.01, 10000.0)
    )
    linear_jerk: float = param(
        40.0,
        "Largest change of the translational acceleration, between chunks as well",
        unit="m/s^3",
        bounds=(0.01, 1e6),
    )
    angular_jerk: float = param(
        200.0,
        "Largest change of the rotational acceleration, between chunks as well",
        unit="rad/s^3",
        bounds=(0.01, 1e7),
    )
    workspace_min: tuple = param(
        (0.2, -0.5, 0.0), "Lowest x, y, z of the end effector in the base frame", unit="m", bounds=(-5.0, 5.0)
    )
    workspace_max: tuple = param(
        (0.8, 0.5, 0.8), "Highest x, y, z of the end effector in the base frame", unit="m", bounds=(-5.0, 5.0)
    )


@dataclass(frozen=True)
class Safety:
    """Arming, and what happens when commands stop."""

    auto_arm: bool = param(
        False, "Arm without being asked, as soon as nothing speaks against it: for simulations only", live=False
    )
    hold_timeout: float = param(
        2.0, "Holding longer than this while armed disarms; 0: never", unit="s", bounds=(0.0, 3600.0)
    )
    stop_cycles: int = param(
        3,
        "Messages of no motion that are sent when commands stop, before silence",
        unit="periods",
        bounds=(1, 100),
        live=False,
    )


@dataclass(frozen=True)
class Supervision:
    """What must be true of an armed arm: it follows its commands, and moves only by them. Otherwise the node
    disarms."""

    enabled: bool = param(True, "Compare commanded and measured motion while armed, and disarm when they disagree")
    delay: float = param(0.1, "Time that the arm may take before it answers a command", unit="s", bounds=(0.0, 2.0))
    follow_translation: float = param(
        0.01,
        "Commanded translation that must show in the measured pose, apart from that of the last `delay`",
        unit="m",
        bounds=(0.001, 1.0),
    )
    follow_rotation: float = param(
        0.1,
        "Commanded rotation that must show in the measured pose, apart from that of the last `delay`",
        unit="rad",
        bounds=(0.01, 6.0),
    )
    drift_translation: float = param(
        0.025, "Measured translation that no command explains", unit="m", bounds=(0.001, 1.0)
    )
    drift_rotation: float = param(0.15, "Measured rotation that no command explains", unit="rad", bounds=(0.01, 6.0))
    error_translation: float = param(
        0.05, "With target_pose: distance of the measured pose from the target", unit="m", bounds=(0.001, 0.5)
    )
    error_rotation: float = param(
        0.3, "With target_pose: angle between the measured pose and the target", unit="rad", bounds=(0.01, 3.1)
    )
