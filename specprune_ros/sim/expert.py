"""A memoryless expert: the action is a pure function of the state, so that a policy without memory can imitate it.

Far from the named cube it flies level towards it; near the cube the height follows a funnel that reaches grasp height
only where the horizontal error is small; there it closes, and a held cube goes straight up. What the fingers and cubes
are doing now says which of these applies: a slip, a push or a grasp of nothing leads back into the same funnel.
"""

import numpy as np

from specprune_ros import rotation
from specprune_ros.sim.osc import ACTION_SCALE, PERIOD_S
from specprune_ros.sim.scene import CUBE_HALF_M

GRASP_HEIGHT_M = 0.02
HOVER_M = 0.12  # above grasp height, while not over the cube
LIFT_M = 0.15
FUNNEL_RADIUS_M, FUNNEL_SLOPE = 0.006, 3.0
ALIGNED_M, LOW_M, ALIGNED_RAD = 0.008, 0.006, 0.12
FAR, NEAR = 0.6, 0.15  # speed limits in action units
GAIN, TURN_GAIN, TURN_LIMIT = 0.3, 0.2, 0.12
OPEN_M = 0.034  # finger positions [m] above this count as open,
HELD_M = (0.016, 0.0235)  # these as closed on the faces of a cube, below this one firmly,
FIRM_M = 0.0215
CORNERED_M = 0.029  # and up to this, as closed on its corners: a cube knocked askew that jams between the pads


def expert_action(state, period_s: float = PERIOD_S) -> np.ndarray:
    """(7,) float64 in action units for a ``SimState``: motion in [-1, 1], gripper 1 open, 0 close.

    period_s: the control period [s]. The speed in m/s is the same for every period, so the action grows with it.
    """
    linear, angular, gripper = np.split(_at_20_hz(state), (3, 6))
    longer = period_s / PERIOD_S
    return np.concatenate([rotation.limited(linear * longer, 1.0), rotation.limited(angular * longer, 1.0), gripper])


def _at_20_hz(state) -> np.ndarray:
    cube = state.cubes[state.target]
    offset = cube - state.ee_position_m
    distance = float(np.hypot(offset[0], offset[1]))
    turn = rotation.difference(rotation.TOP_DOWN_XYZW, state.ee_quaternion_xyzw)
    finger = float(state.finger_positions_m.mean())
    between = distance < 0.015 and abs(offset[2]) < 0.015  # the cube is where the pads meet

    lifted = cube[2] - CUBE_HALF_M > 0.003
    above = state.ee_position_m[2] - GRASP_HEIGHT_M
    low = above < LOW_M
    if between and HELD_M[0] < finger < HELD_M[1] and (lifted or finger < FIRM_M or above > 2 * LOW_M):
        return _action(_lift(state), turn, gripper=0.0, speed=0.3)
    # Closing fingers pass this range too, and rise a little in it: hence twice as high as where they began to close.
    if between and HELD_M[0] < finger < CORNERED_M and (above < 2 * LOW_M or lifted):
        return _action(_lift(state), turn, gripper=0.0, speed=0.15 if lifted else 0.04)
    closing = CORNERED_M <= finger < OPEN_M and above < 2 * LOW_M
    if between and (closing or (low and distance < ALIGNED_M and np.abs(turn).max() < ALIGNED_RAD)):
        return _action(np.zeros(3), turn, gripper=0.0, speed=NEAR)
    if finger < OPEN_M:
        return _action(
            np.array([0.0, 0.0, max(0.0, 0.02 - 0.2 * max(0.0, state.ee_position_m[2] - 0.05))]), turn, 1.0, NEAR
        )
    return _approach(state, offset, distance, turn)


def _approach(state, offset, distance, turn) -> np.ndarray:
    """Down the funnel: towards the cube, no lower than the horizontal error allows."""
    wanted_z = GRASP_HEIGHT_M + float(np.clip(FUNNEL_SLOPE * (distance - FUNNEL_RADIUS_M), 0.0, HOVER_M))
    z_error = wanted_z - state.ee_position_m[2]
    clearance = float(np.clip(1.0 - (z_error - 0.01) / 0.03, 0.15, 1.0))  # too low: rise before moving sideways
    speed = float(np.clip(NEAR + 4.0 * (np.hypot(distance, z_error) - 0.06), NEAR, FAR))
    return _action(np.array([offset[0] * clearance, offset[1] * clearance, z_error]), turn, gripper=1.0, speed=speed)


def _lift(state) -> np.ndarray:
    return np.array([0.0, 0.0, max(0.0, CUBE_HALF_M + LIFT_M - state.ee_position_m[2])])


def _action(motion_m, turn_rad, gripper, speed) -> np.ndarray:
    """Proportional motion (3,) [m] and turn (3,) [rad], limited in action units."""
    linear = rotation.limited(GAIN * motion_m / ACTION_SCALE[:3], speed)
    angular = rotation.limited(TURN_GAIN * turn_rad / ACTION_SCALE[3:], TURN_LIMIT)
    return np.concatenate([linear, angular, [gripper]])
