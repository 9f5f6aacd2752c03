"""The simulated tabletop: ``reset(seed)`` gives an instruction, ``step(action)`` moves the robot for one control
period, cameras render.

What there is to do comes in suites (suites.py). Everything an episode draws comes from its seed. Positions and
rotations are in the base frame ``fr3_link0`` (see scene.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import ConfigError
from specprune_ros.sim import scene
from specprune_ros.sim.gl import mujoco
from specprune_ros.sim.osc import PERIOD_S, update_poses
from specprune_ros.sim.perturb import PLAIN, Perturbation
from specprune_ros.sim.suites import SUITES
from specprune_ros.sim.tasks import Goal, Thing, done
from specprune_ros.sim.world import World

CAMERAS = scene.CAMERAS
COLOURS = scene.COLOURS
#: Control rates [Hz] that the simulated arm can be driven at; demonstrations and the bundled policy are of the default.
CONTROL_RATES_HZ = (5.0, 100.0)
DEFAULT_RATE_HZ = 1.0 / PERIOD_S
#: How long [s] everything that an instruction asks for must be true.
HELD_S = 0.25

EE_START_M, EE_START_SPREAD_M = np.array([0.45, 0.0, 0.30]), np.array([0.08, 0.12, 0.05])
SCATTER_M = np.array([[0.35, -0.25, 0.02], [0.68, 0.25, 0.33]])
CLEAR_M, CLEAR_HEIGHT_M = 0.075, 0.06
EE_YAW_RAD, EE_TILT_RAD = 0.4, 0.1


@dataclass(frozen=True)
class SimState:
    """What is true after a step. Vectors are float64 in the base frame."""

    time_s: float
    ee_position_m: np.ndarray  # (3,) of fr3_hand_tcp
    ee_quaternion_xyzw: np.ndarray  # (4,)
    joint_positions_rad: np.ndarray  # (7,)
    joint_velocities: np.ndarray  # (7,) [rad/s]
    finger_positions_m: np.ndarray  # (2,) each 0 (closed) .. 0.04 (open)
    things: Mapping[str, Thing]  # by name: "red cube", "other red cube", "plate"
    goals: tuple[Goal, ...]  # what the instruction asks for, in order
    pressed: bool = False  # whether the button was pressed in this episode

    @property
    def goal(self) -> Goal:
        """What is to be done now: the first goal that is not reached, or the last."""
        return next((goal for goal in self.goals if not done(goal, self)), self.goals[-1])


class TabletopEnv:
    """One Franka and things on a table. With ``render=True`` use it from the thread that made it."""

    CAMERAS = CAMERAS

    def __init__(
        self,
        image_size: int = 224,
        render: bool = True,
        control_rate: float = DEFAULT_RATE_HZ,
        perturbation: Perturbation = PLAIN,
    ):
        """control_rate [Hz]: how often ``step`` is called in a second of simulated time; perturbation: what is
        otherwise than in the episodes that were trained on.

        ConfigError for a rate that is out of range.
        """
        low, high = CONTROL_RATES_HZ
        if not low <= control_rate <= high:  # NaN is not, either
            raise ConfigError(
                f"control rate: {control_rate:g} Hz is out of range; "
                f"the simulator can be driven at {low:g} .. {high:g} Hz"
            )
        self.control_rate = control_rate
        self.period_s = 1.0 / control_rate
        self.success_steps = max(1, round(HELD_S * control_rate))
        self.max_steps = round(SUITES["pick"].episode_s * control_rate)
        self.image_size = image_size
        self.perturbation = perturbation
        self._seed = 0
        self._render = render
        self._worlds: dict[str, World] = {}
        self._world = self._world_of("pick")
        self._goals: tuple[Goal, ...] = ()
        self._held_steps = 0

    def reset(self, seed: int, scattered: bool = False, suite: str = "pick") -> str:
        """Start the episode of ``seed`` in a suite of SUITES and return its instruction, e.g. "pick up the red cube".

        ``scattered`` starts the arm anywhere over the table, also low and beside the things: states that an expert
        never reaches but an imitator does. Sets ``max_steps``. ConfigError for a suite that there is not.
        """
        if suite not in SUITES:
            raise ConfigError(f"suite: {suite!r} is not known; use one of {', '.join(SUITES)}")
        rng = np.random.default_rng(seed)
        drawn = SUITES[suite].draw(rng)
        self._world = world = self._world_of(SUITES[suite].scene)
        world.begin(drawn)
        world.vary_light(rng)
        world.place_arm(*self.perturbation.start(seed, *_start(rng, drawn.things, scattered)))
        self.perturbation.change(seed, world, drawn)
        self._seed = seed
        mujoco.mj_forward(world.model, world.data)
        world.controller.reset()
        self._goals, self._held_steps = drawn.goals, 0
        self.max_steps = round(SUITES[suite].episode_s * self.control_rate)
        return self.perturbation.instruction(seed, drawn.instruction)

    def step(self, action) -> SimState:
        """Run one control period with an action (7,) in action units; see osc.py. ValueError for a malformed action."""
        self._world.controller.command_action(action)
        return self._advance()

    def step_pose(self, position_m, quaternion_xyzw, gripper_open: bool) -> SimState:
        """Run one control period towards an absolute TCP pose, at a speed of at most 1 m/s and 10 rad/s."""
        self._world.controller.command_pose(position_m, quaternion_xyzw, gripper_open)
        return self._advance()

    def hold(self) -> SimState:
        """Run one control period without a command: the arm and gripper keep their targets."""
        self._world.controller.command_hold()
        return self._advance()

    def state(self) -> SimState:
        """The present state."""
        world = self._world
        position, quaternion = world.controller.measured()
        return SimState(
            time_s=float(world.data.time),
            ee_position_m=position,
            ee_quaternion_xyzw=quaternion,
            joint_positions_rad=world.data.qpos[world.arm].copy(),
            joint_velocities=world.data.qvel[world.arm].copy(),
            finger_positions_m=world.data.qpos[world.finger].copy(),
            things=MappingProxyType(world.things()),
            goals=self._goals,
            pressed=world.pressed,
        )

    def snapshot(self) -> tuple:
        """Everything that ``restore`` needs to continue this episode from here; opaque."""
        world = self._world
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(world.model, kind))
        mujoco.mj_getState(world.model, world.data, physics, kind)
        return physics, world.controller.snapshot(), world.pressed, self._held_steps

    def restore(self, snapshot: tuple) -> SimState:
        """Go back to a snapshot of the same episode."""
        world = self._world
        physics, controller, world.pressed, self._held_steps = snapshot
        mujoco.mj_setState(world.model, world.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        update_poses(world.model, world.data)
        world.controller.restore(controller)
        return self.state()

    def configuration(self) -> np.ndarray:
        """(q,) float32: the positions of all joints of the scene, things included; what ``show`` takes."""
        return self._world.data.qpos.astype(np.float32)

    def show(self, configuration: np.ndarray, pressed: bool) -> None:
        """Put everything where it was when ``configuration`` gave this, in an episode of the same seed and suite, to
        look at it: nothing moves, and no stepping may follow."""
        world = self._world
        world.data.qpos[:] = configuration
        world.pressed = pressed
        mujoco.mj_forward(world.model, world.data)

    def proprio(self) -> np.ndarray:
        """(8,) float32: TCP x, y, z [m]; rotation vector with x >= 0 [rad]; left finger and minus right finger [m], as
        in LIBERO.

        The rotation vector is continuous around the top-down pose; see ``rotation.to_rotvec_x_positive``.
        """
        world = self._world
        position, quaternion = world.controller.measured()
        left, right = world.data.qpos[world.finger]
        return np.concatenate([position, rotation.to_rotvec_x_positive(quaternion), [left, -right]]).astype(np.float32)

    def render(self, camera: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of "third_person" or "wrist"."""
        renderer = self._renderer_for(camera)
        renderer.disable_segmentation_rendering()
        picture = renderer.render()
        return self.perturbation.picture(self._seed, self._world.data.time, CAMERAS.index(camera), picture)

    def render_cover(self, camera: str, patch: int = 14) -> np.ndarray:
        """(patches, things) uint8: the share (0..255) of each ``patch`` x ``patch`` square, row by row, that each thing
        of ``state().things`` covers."""
        if self.image_size % patch:
            raise ValueError(
                f"patch {patch} does not divide the image size {self.image_size}; use one of its divisors, "
                "e.g. 14 for 224"
            )
        renderer = self._renderer_for(camera)
        renderer.enable_segmentation_rendering()
        seen = renderer.render()[:, :, 0]
        side, shown = self.image_size // patch, self._world.geoms()
        column = np.zeros(self._world.model.ngeom + 1, np.intp)  # of a geom's id; the last is -1, the background
        for number, geoms in enumerate(shown.values(), start=1):
            column[list(geoms)] = number
        of_patch = np.arange(self.image_size) // patch
        cell = (of_patch[:, None] * side + of_patch) * (len(shown) + 1) + column[seen]
        pixels = np.bincount(cell.ravel(), minlength=side * side * (len(shown) + 1)).reshape(side * side, -1)
        return np.rint(255 * pixels[:, 1:] / patch**2).astype(np.uint8)

    def success(self) -> bool:
        """Whether everything that was asked for has been true for ``success_steps`` steps in a row."""
        return self._held_steps >= self.success_steps

    def close(self) -> None:
        """Free the OpenGL contexts; call it from the thread that made the environment."""
        self._render = False
        for world in self._worlds.values():
            if world.renderer:
                world.renderer.close()
                world.renderer = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _world_of(self, name: str) -> World:
        """The world of a scene, compiled when it is first needed."""
        if name not in self._worlds:
            self._worlds[name] = World(
                name, self.image_size, self._render, self.period_s, **self.perturbation.additions
            )
        return self._worlds[name]

    def _advance(self) -> SimState:
        if not self._goals:
            raise RuntimeError("the episode has not started; call reset(seed) before stepping")
        self._world.advance()
        state = self.state()
        self._held_steps = self._held_steps + 1 if all(done(goal, state) for goal in self._goals) else 0
        return state

    def _renderer_for(self, camera: str):
        renderer = self._world.renderer
        if renderer is None:
            raise RuntimeError("this environment does not render; make it with render=True, and not after close()")
        if camera not in CAMERAS:
            raise ValueError(f"camera {camera!r} is not known; use one of {', '.join(CAMERAS)}")
        renderer.update_scene(self._world.data, camera)
        return renderer


def _start(rng, things: Mapping[str, Thing], scattered: bool) -> tuple[np.ndarray, np.ndarray]:
    """The TCP pose that an episode begins with: position (3,) [m], quaternion (4,) xyzw."""
    position = EE_START_M + rng.uniform(-1, 1, 3) * EE_START_SPREAD_M
    if scattered:
        position = _scattered_start(rng, things)
    yaw = rotation.from_rotvec((0, 0, rng.uniform(-EE_YAW_RAD, EE_YAW_RAD)))
    tilt = rotation.from_rotvec((*rng.uniform(-EE_TILT_RAD, EE_TILT_RAD, 2), 0))
    return position, rotation.multiply(tilt, rotation.multiply(yaw, rotation.TOP_DOWN_XYZW))


def _scattered_start(rng, things: Mapping[str, Thing]) -> np.ndarray:
    """TCP position (3,) anywhere in SCATTER_M, mostly low, with room for the hand between it and everything."""
    places = np.array([thing.position_m[:2] for thing in things.values()])
    while True:
        low, high = SCATTER_M
        position = low + (high - low) * rng.random(3) ** (1, 1, 2)
        gap = np.linalg.norm(places - position[:2], axis=1).min()
        if position[2] > CLEAR_HEIGHT_M or gap > CLEAR_M:
            return position


__all__ = ["CAMERAS", "COLOURS", "PERIOD_S", "Goal", "SimState", "TabletopEnv", "Thing"]
