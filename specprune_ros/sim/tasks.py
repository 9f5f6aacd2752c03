"""What there is to do and when it is done: goals in words, and as a test of the state. No physics here.

Directions are those of the third-person picture, because that is what people look at: left is -y, behind is -x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from specprune_ros.sim.scene import EDGE_Y_M, KINDS, PLATE_TOP_M

LIFTED_M = 0.06
"""A thing is picked up when it is this far above its rest height, and nothing else is."""
ON_PLATE_M, ON_TOP_M = 0.05, 0.02
"""Largest horizontal distance from the centre of the plate, and of the cube below."""
HEIGHT_M = 0.012
"""How far a thing's height may be from that of lying there."""
OPEN_M = 0.030
"""Fingers this far open hold nothing."""
PUSHED_Y_M = EDGE_Y_M[0] + 0.012
"""The centre of a thing that was pushed to the edge is beyond this."""


@dataclass(frozen=True)
class Thing:
    """Something on the table. kind: a key of KINDS, "plate" or "button"; colour: "" for those two.

    position_m (3,): the centre, for plate and button the middle of the top, in the base frame."""

    kind: str
    colour: str
    position_m: np.ndarray

    @property
    def noun(self) -> str:
        """As an instruction names it: "red cube", "plate"."""
        return f"{self.colour} {self.kind}".strip()

    @property
    def rest_m(self) -> float:
        """Height of the centre when it lies on the table."""
        return KINDS[self.kind].rest_m

    def at(self, position_m: np.ndarray) -> Thing:
        """The same thing somewhere else."""
        return replace(self, position_m=position_m)


@dataclass(frozen=True)
class Goal:
    """One thing to do. verb: pick, place, stack, push or press; thing: the name of what is moved or pressed; onto: the
    name of what it ends on, for place and stack; near: the name of what tells it from a thing that looks the same."""

    verb: str
    thing: str
    onto: str = ""
    near: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that the words of this goal name."""
        return tuple(name for name in (self.thing, self.onto, self.near) if name)


def words(goal: Goal, things: Mapping[str, Thing], which: str = "") -> str:
    """The goal in plain English. which: what tells the thing from its twin, e.g. "left of the blue can"."""
    noun = " ".join(part for part in (f"the {things[goal.thing].noun}", which) if part)
    if goal.verb == "pick":
        return f"pick up {noun}"
    if goal.verb == "push":
        return f"push {noun} to the edge"
    if goal.verb == "press":
        return f"press {noun}"
    verb = {"place": "put", "stack": "stack"}[goal.verb]
    return f"{verb} {noun} on the {things[goal.onto].noun}"


def done(goal: Goal, state) -> bool:
    """Whether a ``SimState`` is one in which the goal is reached; a plain test of the state, without memory."""
    if goal.verb == "press":
        return state.pressed
    thing = state.things[goal.thing]
    if goal.verb == "pick":
        return lifted(state.things) == {goal.thing}
    if goal.verb == "push":
        return bool(thing.position_m[1] > PUSHED_Y_M and abs(thing.position_m[2] - thing.rest_m) < HEIGHT_M)
    return lies_on(goal, state.things) and _let_go(state, thing)


def lies_on(goal: Goal, things: Mapping[str, Thing]) -> bool:
    """Whether the thing of a place or stack goal is where it belongs, whoever holds it."""
    thing, below = things[goal.thing], things[goal.onto]
    offset = thing.position_m - below.position_m
    if goal.verb == "place":
        near, height = ON_PLATE_M, PLATE_TOP_M - below.position_m[2] + thing.rest_m
    else:
        near, height = ON_TOP_M, below.rest_m + thing.rest_m
    return bool(np.hypot(offset[0], offset[1]) < near and abs(offset[2] - height) < HEIGHT_M)


def lifted(things: Mapping[str, Thing]) -> set[str]:
    """Names of the things in the air."""
    return {
        name for name, thing in things.items() if thing.kind in KINDS and thing.position_m[2] > thing.rest_m + LIFTED_M
    }


def _let_go(state, thing: Thing) -> bool:
    """Whether the fingers hold it no more: open, or away from it."""
    away = np.linalg.norm(thing.position_m - state.ee_position_m) > 0.035
    return bool(away or state.finger_positions_m.mean() > OPEN_M)
