"""The suites of tasks: what an episode of a seed looks like and what it asks for. LIBERO's four kinds, and the pick
task.

pick      "pick up the red cube": two to four cubes of different colours
object    "pick up the red ball": which thing, by colour and shape, among up to six others
spatial   "pick up the red cube left of the blue can": one of two that look the same, by where it is
goal      the same kind of scene, another verb: pick up, put on the plate, stack, push to the edge, press the button
long      two goals in one instruction, in order

Everything is drawn from the generator that it is given. Positions in the base frame, in m.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from specprune_ros.sim.scene import BUTTON_TOP_M, COLOURS, CUBES, EACH, KINDS, PLATE_TOP_M
from specprune_ros.sim.tasks import Goal, Thing, words

X_M, Y_M, APART_M, YAW_RAD = (0.40, 0.65), (-0.20, 0.20), 0.10, 0.25
"""Where things lie in the pick task, how far from each other at least, and how far they are turned at most."""
WIDE_APART_M = 0.112
"""The same in the other suites, where more lies around and the hand comes down between it."""
BESIDE_EDGE_Y_M = (-0.20, 0.11)
"""Where things lie when there is a strip at the edge to push them to."""
PLATE_APART_M, BUTTON_APART_M = 0.135, 0.105
"""From the centre of the plate or the button to anything else."""
CLEARLY_M = 0.05
"""By how much a relation holds for the thing that is meant, and fails for its twin."""
TWIN = "other "
"""Begins the name of a second thing that looks the same."""


@dataclass(frozen=True)
class Scene:
    """What an episode begins with. things: name -> Thing at its place; yaw_rad: of every thing; edge: whether the strip
    is there."""

    things: Mapping[str, Thing]
    yaw_rad: Mapping[str, float]
    goals: tuple[Goal, ...]
    instruction: str
    edge: bool = False


@dataclass(frozen=True)
class Suite:
    """How episodes are drawn, in which scene of scene.py they are played, and how long they may take [s]."""

    draw: Callable[[np.random.Generator], Scene]
    scene: str
    episode_s: float


def draw_pick(rng) -> Scene:
    """Two to four cubes; the first is meant."""
    count = int(rng.integers(2, CUBES + 1))
    colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))[:count]]
    yaws = rng.uniform(-YAW_RAD, YAW_RAD, count)
    things = {}
    for colour, (x, y) in zip(colours, _whole_set(rng, count), strict=True):
        things[f"{colour} cube"] = Thing("cube", colour, np.array([x, y, KINDS["cube"].rest_m]))
    goal = Goal("pick", next(iter(things)))
    return Scene(things, dict(zip(things, yaws, strict=True)), (goal,), words(goal, things))


def draw_object(rng) -> Scene:
    """The named thing, one of its colour and one of its shape, and up to four more."""
    looks = [(kind, colour) for kind in KINDS for colour in COLOURS]
    kind, colour = looks[rng.integers(len(looks))]
    same_kind = [look for look in looks if look[0] == kind and look[1] != colour]
    same_colour = [look for look in looks if look[1] == colour and look[0] != kind]
    chosen = [(kind, colour), _one(rng, same_kind), _one(rng, same_colour)]
    others = [look for look in looks if look not in chosen]
    chosen += [others[i] for i in rng.permutation(len(others))[: int(rng.integers(0, 5))]]
    things = _spread(rng, {f"{c} {k}": (k, c) for k, c in _as_many_as_there_are(chosen)})
    goal = Goal("pick", next(iter(things)))
    return _scene(rng, things, (goal,), words(goal, things))


def draw_spatial(rng) -> Scene:
    """Two that look the same, one thing to tell them apart by, and up to two more that look otherwise."""
    looks = [(kind, colour) for kind in KINDS for colour in COLOURS]
    order = rng.permutation(len(looks))
    twin, landmark, *more = [looks[i] for i in order[: 2 + int(rng.integers(0, 3))]]
    relation = RELATIONS[rng.integers(len(RELATIONS))]
    name, at = f"{twin[1]} {twin[0]}", f"{landmark[1]} {landmark[0]}"
    more = _as_many_as_there_are([twin, twin, landmark, *more])[3:]
    wanted = {name: twin, TWIN + name: twin, at: landmark, **{f"{c} {k}": (k, c) for k, c in more}}
    while True:
        things = _spread(rng, wanted)
        if _related(relation, *(things[n].position_m for n in (name, TWIN + name, at))):
            break
    goal = Goal("pick", name, near=at)
    return _scene(rng, things, (goal,), words(goal, things, f"{relation} the {at}"))


def draw_goal(rng) -> Scene:
    """Two cubes, a can or a ball, a plate, a button and the strip: the verb decides."""
    verb = VERBS[rng.integers(len(VERBS))]
    things = _kitchen(rng, to_push=verb == "push")
    cube, other, third = list(things)[:3]
    thing = (cube, third)[rng.integers(2)]
    goal = {
        "pick": Goal("pick", thing),
        "place": Goal("place", thing, "plate"),
        "stack": Goal("stack", cube, other),
        "push": Goal("push", cube),
        "press": Goal("press", "button"),
    }[verb]
    return _scene(rng, things, (goal,), words(goal, things), edge=True)


def draw_long(rng) -> Scene:
    """Two goals in the scene of `draw_goal`, the second after the first."""
    verbs = PAIRS[rng.integers(len(PAIRS))]
    things = _kitchen(rng, to_push="push" in verbs)
    cube, other, third = list(things)[:3]
    goals = {
        ("place", "press"): (Goal("place", third, "plate"), Goal("press", "button")),
        ("press", "pick"): (Goal("press", "button"), Goal("pick", third)),
        ("place", "pick"): (Goal("place", cube, "plate"), Goal("pick", other)),
        ("stack", "press"): (Goal("stack", cube, other), Goal("press", "button")),
        ("push", "place"): (Goal("push", cube), Goal("place", other, "plate")),
        ("press", "stack"): (Goal("press", "button"), Goal("stack", cube, other)),
    }[verbs]
    return _scene(rng, things, goals, " and ".join(words(goal, things) for goal in goals), edge=True)


VERBS = ("pick", "place", "stack", "push", "press")
PAIRS = (
    ("place", "press"),
    ("press", "pick"),
    ("place", "pick"),
    ("stack", "press"),
    ("push", "place"),
    ("press", "stack"),
)
RELATIONS = ("left of", "right of", "behind", "in front of", "nearest to")

SUITES = {
    "pick": Suite(draw_pick, "pick", 7.5),
    "object": Suite(draw_object, "suites", 7.5),
    "spatial": Suite(draw_spatial, "suites", 7.5),
    "goal": Suite(draw_goal, "suites", 10.0),
    "long": Suite(draw_long, "suites", 15.0),
}


def _related(relation: str, meant: np.ndarray, twin: np.ndarray, landmark: np.ndarray) -> bool:
    """Whether the relation to the landmark holds clearly for the one that is meant, and clearly not for its twin."""
    if relation == "nearest to":
        near, far = (np.linalg.norm((p - landmark)[:2]) for p in (meant, twin))
        return bool(far - near > CLEARLY_M)
    axis, sign = {"left of": (1, -1), "right of": (1, 1), "behind": (0, -1), "in front of": (0, 1)}[relation]
    along = [sign * (p[axis] - landmark[axis]) for p in (meant, twin)]
    return bool(along[0] > CLEARLY_M and along[1] < -CLEARLY_M)


def _kitchen(rng, to_push: bool) -> dict[str, Thing]:
    """Two cubes, a third thing, a plate and a button, in that order. to_push: the way of the first cube to the edge is
    free."""
    colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))[:3]]
    third = ("can", "ball")[rng.integers(2)]
    looks = [("cube", colours[0]), ("cube", colours[1]), (third, colours[2])]
    wanted = {f"{c} {k}": (k, c) for k, c in looks} | {"plate": ("plate", ""), "button": ("button", "")}
    while True:
        things = _spread(rng, wanted, BESIDE_EDGE_Y_M)
        if not to_push or way_is_free(things, next(iter(things))):
            return things


def way_is_free(things: Mapping[str, Thing], name: str) -> bool:
    """Whether nothing stands where the hand comes down behind the thing, nor between it and the edge."""
    at = things[name].position_m
    for other in (thing for key, thing in things.items() if key != name):
        beside, ahead = np.abs(other.position_m[0] - at[0]), other.position_m[1] - at[1]
        room = ROOM_M.get(other.kind, WIDE_APART_M)
        if beside < room - 0.02 and ahead > -room - 0.03:
            return False
    return True


def _scene(rng, things: dict[str, Thing], goals: tuple[Goal, ...], instruction: str, edge: bool = False) -> Scene:
    yaws = {name: float(rng.uniform(-YAW_RAD, YAW_RAD)) for name in things}
    return Scene(things, yaws, goals, instruction, edge)


def _one(rng, items: list):
    return items[rng.integers(len(items))]


def _as_many_as_there_are(looks: list) -> list:
    """The looks in their order, without those that would need more bodies of a kind than the scene has."""
    kept: list[tuple[str, str]] = []
    for kind, colour in looks:
        if sum(k == kind for k, _ in kept) < EACH:
            kept.append((kind, colour))
    return kept


HEIGHTS_M = {"plate": PLATE_TOP_M, "button": BUTTON_TOP_M} | {kind: shape.rest_m for kind, shape in KINDS.items()}
ROOM_M = {"plate": PLATE_APART_M, "button": BUTTON_APART_M}


def _spread(rng, wanted: Mapping[str, tuple[str, str]], y_m: tuple[float, float] = Y_M) -> dict[str, Thing]:
    """Things of (kind, colour) at random places with room between them, the bulky ones drawn first."""
    order = sorted(wanted, key=lambda name: -ROOM_M.get(wanted[name][0], 0.0))
    while True:
        places: dict[str, np.ndarray] = {}
        for name in order:
            room = ROOM_M.get(wanted[name][0], WIDE_APART_M)
            for _ in range(40):
                place = np.array([rng.uniform(*X_M), rng.uniform(*y_m)])
                gaps = [(np.linalg.norm(place - p), ROOM_M.get(wanted[n][0], 0.0)) for n, p in places.items()]
                if all(gap >= max(room, other) for gap, other in gaps):
                    places[name] = place
                    break
            else:
                break
        if len(places) == len(wanted):
            return {
                name: Thing(kind, colour, np.array([*places[name], HEIGHTS_M[kind]]))
                for name, (kind, colour) in wanted.items()
            }


def _whole_set(rng, count: int) -> np.ndarray:
    """(count, 2) table points at least APART_M from each other, by rejection of whole sets."""
    while True:
        points = np.column_stack([rng.uniform(*X_M, count), rng.uniform(*Y_M, count)])
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(count)
        if gaps.min() >= APART_M:
            return points
