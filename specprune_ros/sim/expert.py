"""A memoryless expert: the action is a pure function of the state, so that a policy without memory can imitate it.

Far from a thing it flies level towards it; near it the height follows a funnel that reaches grasp height only where the
horizontal error is small; there it closes, and what is held goes where the goal wants it, by a funnel of the same kind.
What the fingers and things are doing now says which of these applies: a slip, a push or a grasp of nothing leads back
into the same funnel. Speeds are in action units per 0.05 s.
"""

import numpy as np

from specprune_ros import rotation
from specprune_ros.sim.osc import ACTION_SCALE, PERIOD_S
from specprune_ros.sim.scene import KINDS, PLATE_TOP_M
from specprune_ros.sim.tasks import Goal, Thing, done, lies_on

GRASP_HEIGHT_M = 0.02
TIP_M = 0.0095  # from the TCP down to the finger tips
HOVER_M = 0.12  # above grasp height, while not over the thing
LIFT_M = 0.15
FUNNEL_RADIUS_M, FUNNEL_SLOPE = 0.006, 3.0
ALIGNED_M, LOW_M, ALIGNED_RAD = 0.008, 0.006, 0.12
FAR, NEAR, CARRY, PUSH = 0.6, 0.15, 0.45, 0.2  # speed limits in action units
GAIN, TURN_GAIN, TURN_LIMIT = 0.3, 0.2, 0.12
OPEN_M = 0.034  # finger positions [m] above this count as open,
HELD_M = (0.016, 0.0235)  # these as closed on the faces of a thing, below this one firmly,
FIRM_M = 0.0215
CORNERED_M = 0.029  # and up to this, as closed on its corners: a cube knocked askew that jams between the pads
SHUT_M = 0.010  # below this there is nothing between the pads
CARRY_M = 0.10  # above where it is set down, while not over it
BEHIND_M, BESIDE_M = 0.056, 0.014  # where pushing begins, and how far beside that line it still goes straight on


def expert_action(state, period_s: float = PERIOD_S) -> np.ndarray:
    """(7,) float64 in action units for a ``SimState``: motion in [-1, 1], gripper 1 open, 0 close.

    period_s: the control period [s]. The speed in m/s is the same for every period, so the action grows with it.
    """
    goal = state.goal
    linear, angular, gripper = np.split(DEEDS[goal.verb](state, goal), (3, 6))
    longer = period_s / PERIOD_S
    return np.concatenate([rotation.limited(linear * longer, 1.0), rotation.limited(angular * longer, 1.0), gripper])


def waypoint(state) -> np.ndarray:
    """(3,) [m]: what the expert is heading for now: the thing it wants to grasp, push or press, or where it takes the
    one it holds."""
    goal = state.goal
    thing = state.things[goal.thing]
    if goal.onto and _grasp(state, thing):
        return state.things[goal.onto].position_m
    return thing.position_m


def focus(state) -> str:
    """The name of the thing at `waypoint`."""
    goal = state.goal
    return goal.onto if goal.onto and _grasp(state, state.things[goal.thing]) else goal.thing


def _pick(state, goal: Goal) -> np.ndarray:
    thing = state.things[goal.thing]
    if grasp := _grasp(state, thing):
        up = np.array([0.0, 0.0, max(0.0, GRASP_HEIGHT_M + LIFT_M - state.ee_position_m[2])])
        return _action(state, up, 0.0, grasp)
    return _take(state, thing)


def _put(state, goal: Goal) -> np.ndarray:
    """Take the thing, carry it over where it belongs, lower it, let go, back off."""
    thing, below = state.things[goal.thing], state.things[goal.onto]
    if grasp := _grasp(state, thing):
        return _carry(state, thing, _resting_place(goal, thing, below), goal.verb == "stack", grasp)
    if lies_on(goal, state.things):
        return _back_off(state, 1.0) if _finger(state) > OPEN_M else _action(state, np.zeros(3), 1.0, NEAR)
    return _take(state, thing)


def _push(state, goal: Goal) -> np.ndarray:
    """From behind, with closed fingers, along the table towards +y."""
    if done(goal, state):
        return _back_off(state, 0.0)
    thing = state.things[goal.thing]
    if (action := _freed(state)) is not None:
        return action
    from_it = state.ee_position_m - thing.position_m
    low = state.ee_position_m[2] < 2 * GRASP_HEIGHT_M
    if low and from_it[1] < -0.02 and abs(from_it[0]) < BESIDE_M:
        on = np.array([-2.0 * from_it[0], 0.2, GRASP_HEIGHT_M - state.ee_position_m[2]])
        return _action(state, on, 0.0, PUSH)
    return _approach(state, thing.position_m - (0.0, BEHIND_M, thing.rest_m - GRASP_HEIGHT_M), 0.0, None)


def _press(state, goal: Goal) -> np.ndarray:
    if done(goal, state):
        return _back_off(state, 0.0)
    if (action := _freed(state)) is not None:
        return action
    top = state.things[goal.thing].position_m
    distance = np.hypot(*(top - state.ee_position_m)[:2])
    deep = TIP_M + (0.005 if distance > ALIGNED_M else -0.014)
    return _approach(state, top + (0.0, 0.0, deep), 0.0, None)


DEEDS = {"pick": _pick, "place": _put, "stack": _put, "push": _push, "press": _press}


def _grasp(state, thing: Thing) -> float:
    """How fast a thing between the fingers may be moved, in action units; 0 when it is not held."""
    offset = thing.position_m - state.ee_position_m
    if not _between(offset):
        return 0.0
    finger, above = _finger(state), _above(state, thing)
    lifted = thing.position_m[2] - thing.rest_m > 0.003
    if HELD_M[0] < finger < HELD_M[1] and (lifted or finger < FIRM_M or above > 2 * LOW_M):
        return 0.3
    # Closing fingers pass this range too, and rise a little in it: hence twice as high as where they began to close.
    if HELD_M[0] < finger < CORNERED_M and (above < 2 * LOW_M or lifted):
        return 0.15 if lifted else 0.04
    return 0.0


def _take(state, thing: Thing) -> np.ndarray:
    """Towards the thing, and closing on it where it is between the pads."""
    offset = thing.position_m - state.ee_position_m
    turn, finger, above = _turn(state), _finger(state), _above(state, thing)
    ready = above < LOW_M and np.hypot(offset[0], offset[1]) < ALIGNED_M and np.abs(turn).max() < ALIGNED_RAD
    closing = CORNERED_M <= finger < OPEN_M and above < 2 * LOW_M
    if _between(offset) and (ready or closing):
        return _action(state, np.zeros(3), 0.0, NEAR)
    if finger < OPEN_M:
        up = np.array([0.0, 0.0, max(0.0, 0.02 - 0.2 * max(0.0, state.ee_position_m[2] - 0.05))])
        return _action(state, up, 1.0, NEAR)
    grasp = np.array([thing.position_m[0], thing.position_m[1], _grasp_height(thing)])
    return _approach(state, grasp, 1.0, thing)


def _approach(state, goal_m, gripper: float, wanted: Thing | None) -> np.ndarray:
    """Down the funnel: towards a point, no lower than the horizontal error allows. wanted: what may be between the
    fingers on the way."""
    offset = goal_m - state.ee_position_m
    distance = float(np.hypot(offset[0], offset[1]))
    high = 0.0 if gripper or _finger(state) < SHUT_M else HOVER_M  # down only with the fingers as they are wanted
    wanted_z = goal_m[2] + max(high, float(np.clip(FUNNEL_SLOPE * (distance - FUNNEL_RADIUS_M), 0.0, HOVER_M)))
    z_error = wanted_z - state.ee_position_m[2]
    clearance = float(np.clip(1.0 - (z_error - 0.01) / 0.03, 0.15, 1.0))  # too low: rise before moving sideways
    if z_error > 0.01 and _boxed_in(state, wanted):
        clearance = 0.0
    speed = float(np.clip(NEAR + 4.0 * (np.hypot(distance, z_error) - 0.06), NEAR, FAR))
    return _action(state, np.array([offset[0] * clearance, offset[1] * clearance, z_error]), gripper, speed)


def _carry(state, thing: Thing, goal_m, exactly: bool, grasp: float) -> np.ndarray:
    """What is held, by a funnel to its resting place, and let go there."""
    offset = goal_m - thing.position_m
    distance = float(np.hypot(offset[0], offset[1]))
    radius, near = (0.004, 0.006) if exactly else (0.015, 0.02)
    wanted_z = goal_m[2] + 0.003 + float(np.clip(FUNNEL_SLOPE * (distance - radius), 0.0, CARRY_M))
    z_error = wanted_z - thing.position_m[2]
    if distance < near and abs(offset[2]) < 0.007:
        return _action(state, np.zeros(3), 1.0, NEAR)
    clearance = float(np.clip(1.0 - (z_error - 0.01) / 0.03, 0.0, 1.0))
    speed = float(np.clip(NEAR + 4.0 * (np.hypot(distance, z_error) - 0.06), NEAR, CARRY))
    firm = 1.0 if grasp >= 0.15 else grasp
    motion = np.array([offset[0] * clearance, offset[1] * clearance, z_error])
    return _action(state, motion, 0.0, min(speed, firm))


def _resting_place(goal: Goal, thing: Thing, below: Thing) -> np.ndarray:
    """(3,) where the centre of a thing belongs."""
    top_m = PLATE_TOP_M if goal.verb == "place" else below.position_m[2] + below.rest_m
    return np.array([below.position_m[0], below.position_m[1], top_m + thing.rest_m])


def _back_off(state, gripper: float) -> np.ndarray:
    """Straight up, and stay there."""
    return _action(state, np.array([0.0, 0.0, max(0.0, 0.2 - state.ee_position_m[2])]), gripper, 0.3)


def _freed(state) -> np.ndarray | None:
    """Open and up, while the open fingers are around something; then they may close."""
    if _finger(state) > SHUT_M and _boxed_in(state, None):
        up = np.array([0.0, 0.0, 0.1 if _finger(state) > OPEN_M else 0.0])
        return _action(state, up, 1.0, NEAR)
    return None


def _boxed_in(state, wanted: Thing | None) -> bool:
    """Whether the fingers are down beside or around something else than the wanted thing."""
    for thing in state.things.values():
        if thing is wanted or thing.kind not in KINDS:
            continue
        offset = thing.position_m - state.ee_position_m
        if np.hypot(offset[0], offset[1]) < 0.06 and offset[2] > -(thing.rest_m + TIP_M + 0.005):
            return True
    return False


def _between(offset) -> bool:
    """Whether a thing this far from the TCP is where the pads meet."""
    return bool(np.hypot(offset[0], offset[1]) < 0.015 and abs(offset[2]) < 0.015)


def _grasp_height(thing: Thing) -> float:
    return max(GRASP_HEIGHT_M, float(thing.position_m[2]) - 0.006)


def _above(state, thing: Thing) -> float:
    return float(state.ee_position_m[2]) - _grasp_height(thing)


def _finger(state) -> float:
    return float(state.finger_positions_m.mean())


def _turn(state) -> np.ndarray:
    """(3,) [rad]: back to top-down."""
    return rotation.difference(rotation.TOP_DOWN_XYZW, state.ee_quaternion_xyzw)


def _action(state, motion_m, gripper: float, speed: float) -> np.ndarray:
    """Proportional motion (3,) [m], limited in action units, and the turn back to top-down."""
    linear = rotation.limited(GAIN * motion_m / ACTION_SCALE[:3], speed)
    angular = rotation.limited(TURN_GAIN * _turn(state) / ACTION_SCALE[3:], TURN_LIMIT)
    return np.concatenate([linear, angular, [gripper]])
