"""Episodes that differ from those of training in one way or several: what a policy can bear.

    camera       both cameras are elsewhere: the third-person one around the table, the one on the hand a little
    light        brightness, direction and colour of the light
    noise        Gaussian noise on every pixel of every picture
    texture      the table has a pattern and another colour
    distractors  things that no instruction names lie around
    start        the arm begins elsewhere, turned and tilted
    wording      the instruction is said in other words

Each has a strength from 1 to 3, and at 0 the episode is the plain one, bit for bit. Every axis draws from a generator
of the seed and its own name: it changes what it says and nothing else, whatever other axes there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import ConfigError
from specprune_ros.sim import scene, suites
from specprune_ros.sim.osc import WORKSPACE_M
from specprune_ros.sim.settings import PERTURBATIONS, STRENGTHS
from specprune_ros.sim.suites import Scene
from specprune_ros.sim.tasks import Thing
from specprune_ros.sim.wording import reworded
from specprune_ros.sim.world import World

# What strengths 1, 2 and 3 mean; each is the most that is drawn.
ORBIT_RAD, FARTHER = (0.06, 0.13, 0.24), (0.03, 0.06, 0.10)
PIVOT_M = np.array([0.50, 0.0, 0.05])
"""The third-person camera turns around this point, mostly sideways, and moves away from it by a share."""
ORBIT_SHARES = (0.25, 0.5, 1.0)
"""About x (roll), y (up and down) and z (sideways)."""
HAND_M, HAND_RAD = (0.003, 0.006, 0.012), (0.017, 0.035, 0.07)
DARKER, DIRECTION, TINT = (0.25, 0.5, 0.8), (0.2, 0.45, 0.8), (0.04, 0.08, 0.14)
"""Of the light: natural logarithms of factors, and an offset across its direction, which points down by 1."""
BRIGHTER = (0.07, 0.13, 0.2)
"""As DARKER. With more light than this the white plate is lost on the table."""
NOISE = (6.0, 14.0, 28.0)
"""Standard deviation [grey levels of 255]."""
CONTRAST, SHIFT = (0.08, 0.18, 0.32), (0.05, 0.12, 0.22)
"""Of the pattern on the table, and of its colour, in shares of full scale."""
COUNT, BESIDE_M, TRIES = (1, 2, 4), 0.10, 60
"""Distractors, how far they lie from anything else at least, and how often a place is drawn before one is left out."""
AROUND_M = np.array([[0.36, -0.26], [0.70, 0.26]])
START_M, START_RAD = (0.03, 0.06, 0.10), (0.12, 0.25, 0.45)
LOWEST_M = 0.20
"""How low the arm may begin, above everything."""


@dataclass(frozen=True)
class Perturbation:
    """axes: of PERTURBATIONS; strength: 0 .. 3; known: whether the policy knows the words of an instruction.

    ConfigError for an axis or a strength that there is not."""

    axes: tuple[str, ...] = ()
    strength: int = 0
    known: Callable[[str], bool] = lambda instruction: True

    def __post_init__(self) -> None:
        for axis in self.axes:
            if axis not in PERTURBATIONS:
                raise ConfigError(f"--perturb: {axis!r} is not one of {', '.join(PERTURBATIONS)}")
        if self.strength not in (0, *STRENGTHS):
            raise ConfigError(f"--strength: {self.strength} is not one of {', '.join(map(str, STRENGTHS))}")

    @property
    def additions(self) -> dict[str, bool]:
        """What the scene needs besides the plain one, as compile_scene takes it."""
        return {"cloth": self.has("texture"), "distractors": self.has("distractors")}

    def has(self, axis: str) -> bool:
        return self.strength > 0 and axis in self.axes

    def start(self, seed: int, position_m, quaternion_xyzw) -> tuple[np.ndarray, np.ndarray]:
        """The TCP pose that the episode begins with."""
        if not self.has("start"):
            return position_m, quaternion_xyzw
        rng = _generator(seed, "start")
        low, high = WORKSPACE_M + [[0.02, 0.02, 0.0], [-0.02, -0.02, -0.02]]
        moved = np.asarray(position_m) + self._most(START_M) * _direction(rng) * rng.uniform(0.5, 1.0)
        moved = np.clip(moved, (*low[:2], LOWEST_M), high)
        turn = self._most(START_RAD) * rng.uniform(-1, 1, 3) * (0.5, 0.5, 1.0)
        return moved, rotation.multiply(rotation.from_rotvec(turn), quaternion_xyzw)

    def instruction(self, seed: int, plain: str) -> str:
        if not self.has("wording"):
            return plain
        return reworded(plain, _generator(seed, "wording"), self.strength, self.known)

    def change(self, seed: int, world: World, drawn: Scene) -> None:
        """What is otherwise in the scene, after the plain episode was set up in it."""
        changes = {"camera": _cameras, "light": _light, "texture": _cloth, "distractors": _distractors}
        for axis, change in changes.items():
            if self.has(axis):
                change(_generator(seed, axis), world, drawn, self.strength - 1)

    def picture(self, seed: int, time_s: float, camera: int, plain: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: what the camera gives at a time; the same whenever it is asked."""
        if not self.has("noise"):
            return plain
        rng = _generator(seed, "noise", camera, round(1e4 * time_s))
        noise = rng.standard_normal(plain.shape, dtype=np.float32)
        return np.clip(np.rint(plain + self._most(NOISE) * noise), 0, 255).astype(np.uint8)

    def _most(self, by_strength: tuple[float, ...]) -> float:
        return by_strength[self.strength - 1]


PLAIN = Perturbation()


def _generator(seed: int, axis: str, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(axis.encode()), *more])


def _direction(rng) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _cameras(rng, world: World, _: Scene, level: int) -> None:
    model, plain = world.model, world.plain
    turn = rotation.from_rotvec(ORBIT_RAD[level] * rng.uniform(-1, 1, 3) * ORBIT_SHARES)
    farther = 1.0 + FARTHER[level] * rng.random()
    third, wrist = (model.camera(name).id for name in scene.CAMERAS)
    model.cam_pos[third] = PIVOT_M + farther * rotation.rotate(turn, plain.camera_m[third] - PIVOT_M)
    model.cam_quat[third] = _turned(turn, plain.camera_wxyz[third])
    model.cam_pos[wrist] = plain.camera_m[wrist] + HAND_M[level] * rng.uniform(-1, 1, 3)
    turn = rotation.from_rotvec(HAND_RAD[level] * rng.uniform(-1, 1, 3))
    model.cam_quat[wrist] = _turned(turn, plain.camera_wxyz[wrist])


def _turned(turn_xyzw, wxyz: np.ndarray) -> np.ndarray:
    """(4,) wxyz of a camera that is turned in its parent's frame."""
    return np.roll(rotation.multiply(turn_xyzw, np.roll(wxyz, -1)), 1)


def _light(rng, world: World, _: Scene, level: int) -> None:
    """On top of what every episode varies."""
    model, headlight = world.model, world.model.vis.headlight
    brightness = np.exp(rng.uniform(-DARKER[level], BRIGHTER[level]))
    colour = np.exp(TINT[level] * rng.uniform(-1, 1, 3))
    model.light_diffuse[:] *= brightness * colour
    headlight.ambient[:] *= np.sqrt(brightness) * colour
    headlight.diffuse[:] = world.plain.headlight * brightness * colour
    model.light_dir[:] += DIRECTION[level] * rng.uniform(-1, 1, 3) * (1, 1, 0)


def _cloth(rng, world: World, _: Scene, level: int) -> None:
    """Stripes, checks or clouds in two shades of a colour near the table's own."""
    model = world.model
    side = scene.CLOTH_PIXELS
    table = model.geom("table")
    base = world.plain.table[:3] * 0.92 + SHIFT[level] * rng.uniform(-1, 1, 3)
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    period = rng.integers(8, 25)
    pattern = (
        lambda: np.sign(np.sin(2 * np.pi * (across * rng.integers(0, 2) + down) / period)),
        lambda: np.sign(np.sin(2 * np.pi * across / period) * np.sin(2 * np.pi * down / period)),
        lambda: _clouds(rng, side),
    )[rng.integers(3)]()
    shade = base + CONTRAST[level] / 2 * pattern[:, :, None] * rng.uniform(0.5, 1.0, 3)
    texture = model.texture("cloth")
    start = model.tex_adr[texture.id]
    pixels = np.rint(255 * np.clip(shade, 0, 1)).astype(np.uint8)
    model.tex_data[start : start + pixels.size] = pixels.ravel()
    table.rgba[:] = 1.0
    if world.renderer:
        world.upload_texture(texture.id)


def _clouds(rng, side: int) -> np.ndarray:
    """(side, side) in -1 .. 1: smooth noise of a few waves."""
    across, down = np.meshgrid(np.arange(side) / side, np.arange(side) / side)
    waves = sum(
        np.sin(2 * np.pi * (x * across + y * down + phase))
        for x, y, phase in rng.uniform((-4, -4, 0), (4, 4, 1), (6, 3))
    )
    return waves / np.abs(waves).max()


def _distractors(rng, world: World, drawn: Scene, level: int) -> None:
    """On free places of the table: not where the hand comes down beside a thing, nor on the way to the edge."""
    things = dict(drawn.things)
    pushed = [goal.thing for goal in drawn.goals if goal.verb == "push"]
    shapes = rng.permutation(len(scene.DISTRACTORS))[: COUNT[level]]
    world.hide_distractors()
    for number in shapes:
        for _ in range(TRIES):
            place, turn = rng.uniform(*AROUND_M), rng.uniform(-np.pi, np.pi)
            lies = Thing("distractor", "", np.array([*place, scene.DISTRACTORS[number].rest_m]))
            if _is_free(lies, things, drawn.edge) and all(
                suites.way_is_free({**things, "distractor": lies}, name) for name in pushed
            ):
                things[f"distractor {number}"] = lies
                world.show_distractor(number, lies.position_m, turn)
                break


def _is_free(lies: Thing, things: dict[str, Thing], edge: bool) -> bool:
    if edge and lies.position_m[1] > scene.EDGE_Y_M[0] - 0.04:
        return False
    gaps = (
        np.linalg.norm((lies.position_m - thing.position_m)[:2]) - max(BESIDE_M, suites.ROOM_M.get(thing.kind, 0.0))
        for thing in things.values()
    )
    return all(gap >= 0.0 for gap in gaps)
