"""The tabletop pick task: ``reset(seed)`` gives an instruction, ``step(action)`` moves the robot for one period,
cameras render.

Everything an episode draws comes from its seed. Positions and rotations are in the base frame ``fr3_link0`` (see
scene.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import ConfigError
from specprune_ros.sim import panda, scene
from specprune_ros.sim.gl import mujoco
from specprune_ros.sim.osc import PERIOD_S, OperationalSpaceController, update_poses

CAMERAS = scene.CAMERAS
COLOURS = scene.COLOURS
LIFTED_M = 0.06
#: Control rates [Hz] that the simulated arm can be driven at; demonstrations and the bundled policy are of the default.
CONTROL_RATES_HZ = (5.0, 100.0)
DEFAULT_RATE_HZ = 1.0 / PERIOD_S
#: How long [s] an episode may take, and how long the cube must be held up.
EPISODE_S, HELD_S = 7.5, 0.25
#: Joint angles [rad] near the middle of the task, where the null space and the inverse kinematics start.
POSTURE_RAD = (0.0, 0.06, 0.0, -2.29, 0.0, 2.35, np.pi / 4)

CUBE_X_M, CUBE_Y_M, CUBE_APART_M, CUBE_YAW_RAD = (0.40, 0.65), (-0.20, 0.20), 0.10, 0.25
EE_START_M, EE_START_SPREAD_M = np.array([0.45, 0.0, 0.30]), np.array([0.08, 0.12, 0.05])
SCATTER_M = np.array([[0.35, -0.25, 0.02], [0.68, 0.25, 0.33]])
CLEAR_M, CLEAR_HEIGHT_M = 0.075, 0.06
EE_YAW_RAD, EE_TILT_RAD = 0.4, 0.1


@dataclass(frozen=True)
class SimState:
    """What is true after a step. Vectors are float64 in the base frame; ``cubes`` maps colour to position (3,) [m]."""

    time_s: float
    ee_position_m: np.ndarray  # (3,) of fr3_hand_tcp
    ee_quaternion_xyzw: np.ndarray  # (4,)
    joint_positions_rad: np.ndarray  # (7,)
    joint_velocities: np.ndarray  # (7,) [rad/s]
    finger_positions_m: np.ndarray  # (2,) each 0 (closed) .. 0.04 (open)
    cubes: Mapping[str, np.ndarray]
    target: str  # the colour the instruction names


class TabletopEnv:
    """One Franka and two to four coloured cubes. With ``render=True`` use it from the thread that made it."""

    CAMERAS = CAMERAS

    def __init__(self, image_size: int = 224, render: bool = True, control_rate: float = DEFAULT_RATE_HZ):
        """control_rate [Hz]: how often ``step`` is called in a second of simulated time. ConfigError for one out of
        range."""
        low, high = CONTROL_RATES_HZ
        if not low <= control_rate <= high:  # NaN is not, either
            raise ConfigError(
                f"control rate: {control_rate:g} Hz is out of range; the simulator can be driven at {low:g} .. {high:g} Hz"
            )
        self.control_rate = control_rate
        self.period_s = 1.0 / control_rate
        self.max_steps = round(EPISODE_S * control_rate)
        self.success_steps = max(1, round(HELD_S * control_rate))
        self.image_size = image_size
        self._model = scene.compile_scene(image_size)
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, image_size, image_size) if render else None
        if self._renderer:
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._renderer.scene.flags[flag] = False
        self._arm = np.array([self._model.joint(name).qposadr[0] for name in panda.ARM_JOINTS])
        self._finger = np.array([self._model.joint(name).qposadr[0] for name in panda.FINGER_JOINTS])
        self._cube_q = [self._model.joint(f"cube{i}").qposadr[0] for i in range(scene.CUBES)]
        self._cube_geom = [self._model.geom(f"cube{i}").id for i in range(scene.CUBES)]
        self._light = (
            self._model.light_diffuse.copy(),
            self._model.light_dir.copy(),
            self._model.vis.headlight.ambient.copy(),
        )
        self._controller = OperationalSpaceController(self._model, self._data, POSTURE_RAD, self.period_s)
        self._colours: tuple = ()
        self._target = ""
        self._held_steps = 0

    def reset(self, seed: int, scattered: bool = False) -> str:
        """Start the episode of ``seed`` and return its instruction, "pick up the <colour> cube".

        ``scattered`` starts the arm anywhere over the table, also low and beside the cubes: states that an expert never
        reaches but an imitator does.
        """
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self._model, self._data)
        self._place_cubes(rng)
        self._vary_light(rng)
        self._place_arm(rng, scattered)
        mujoco.mj_forward(self._model, self._data)
        self._controller.reset()
        self._held_steps = 0
        return f"pick up the {self._target} cube"

    def step(self, action) -> SimState:
        """Run one control period with an action (7,) in action units; see osc.py. ValueError for a malformed action."""
        self._controller.command_action(action)
        return self._advance()

    def step_pose(self, position_m, quaternion_xyzw, gripper_open: bool) -> SimState:
        """Run one control period towards an absolute TCP pose, at a speed of at most 1 m/s and 10 rad/s."""
        self._controller.command_pose(position_m, quaternion_xyzw, gripper_open)
        return self._advance()

    def hold(self) -> SimState:
        """Run one control period without a command: the arm and gripper keep their targets."""
        self._controller.command_hold()
        return self._advance()

    def state(self) -> SimState:
        """The present state."""
        position, quaternion = self._controller.measured()
        cubes = {c: self._data.qpos[a : a + 3].copy() for c, a in zip(self._colours, self._cube_q, strict=False)}
        return SimState(
            time_s=float(self._data.time),
            ee_position_m=position,
            ee_quaternion_xyzw=quaternion,
            joint_positions_rad=self._data.qpos[self._arm].copy(),
            joint_velocities=self._data.qvel[self._arm].copy(),
            finger_positions_m=self._data.qpos[self._finger].copy(),
            cubes=MappingProxyType(cubes),
            target=self._target,
        )

    def snapshot(self) -> tuple:
        """Everything that ``restore`` needs to continue this episode from here; opaque."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, self._data, physics, kind)
        return physics, self._controller.snapshot(), self._held_steps

    def restore(self, snapshot: tuple) -> SimState:
        """Go back to a snapshot of the same episode."""
        physics, controller, self._held_steps = snapshot
        mujoco.mj_setState(self._model, self._data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        update_poses(self._model, self._data)
        self._controller.restore(controller)
        return self.state()

    def proprio(self) -> np.ndarray:
        """(8,) float32: TCP x, y, z [m]; rotation vector with x >= 0 [rad]; left finger and minus right finger [m], as
        in LIBERO.

        The rotation vector is continuous around the top-down pose; see ``rotation.to_rotvec_x_positive``.
        """
        position, quaternion = self._controller.measured()
        left, right = self._data.qpos[self._finger]
        return np.concatenate([position, rotation.to_rotvec_x_positive(quaternion), [left, -right]]).astype(np.float32)

    def render(self, camera: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of "third_person" or "wrist"."""
        renderer = self._renderer_for(camera)
        renderer.disable_segmentation_rendering()
        return renderer.render()

    def render_cover(self, camera: str, patch: int = 14) -> np.ndarray:
        """(patches, 6) uint8: the share (0..255) of each ``patch`` x ``patch`` square, row by row, that each colour's
        cube covers."""
        if self.image_size % patch:
            raise ValueError(
                f"patch {patch} does not divide the image size {self.image_size}; use one of its divisors, e.g. 14 for 224"
            )
        renderer = self._renderer_for(camera)
        renderer.enable_segmentation_rendering()
        geoms = renderer.render()[:, :, 0]
        side = self.image_size // patch
        cover = np.zeros((side * side, len(COLOURS)), np.uint8)
        for colour, geom in zip(self._colours, self._cube_geom, strict=False):
            share = (geoms == geom).reshape(side, patch, side, patch).mean(axis=(1, 3))
            cover[:, COLOURS.index(colour)] = np.rint(255 * share).reshape(-1)
        return cover

    def success(self) -> bool:
        """Whether the named cube alone has been LIFTED_M above its rest height for ``success_steps`` steps in a row."""
        return self._held_steps >= self.success_steps

    def close(self) -> None:
        """Free the OpenGL context; call it from the thread that made the environment."""
        if self._renderer:
            self._renderer.close()
            self._renderer = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _advance(self) -> SimState:
        if not self._target:
            raise RuntimeError("the episode has not started; call reset(seed) before stepping")
        self._controller.advance()
        state = self.state()
        lifted = {colour for colour, position in state.cubes.items() if position[2] > scene.CUBE_HALF_M + LIFTED_M}
        self._held_steps = self._held_steps + 1 if lifted == {self._target} else 0
        return state

    def _renderer_for(self, camera: str):
        if self._renderer is None:
            raise RuntimeError("this environment does not render; make it with render=True, and not after close()")
        if camera not in CAMERAS:
            raise ValueError(f"camera {camera!r} is not known; use one of {', '.join(CAMERAS)}")
        self._renderer.update_scene(self._data, camera)
        return self._renderer

    def _place_cubes(self, rng) -> None:
        count = int(rng.integers(2, scene.CUBES + 1))
        self._colours = tuple(COLOURS[i] for i in rng.permutation(len(COLOURS))[:count])
        self._target = self._colours[0]
        yaws = rng.uniform(-CUBE_YAW_RAD, CUBE_YAW_RAD, count)
        for i, (x, y) in enumerate(_spread_points(rng, count)):
            address = self._cube_q[i]
            self._data.qpos[address : address + 7] = (
                x,
                y,
                scene.CUBE_HALF_M,
                np.cos(yaws[i] / 2),
                0,
                0,
                np.sin(yaws[i] / 2),
            )
        for i, geom in enumerate(self._cube_geom):  # a cube not in use stays behind the robot, unseen
            self._model.geom_rgba[geom] = scene.RGBA[self._colours[i]] if i < count else (0, 0, 0, 0)

    def _vary_light(self, rng) -> None:
        diffuse, direction, ambient = self._light
        self._model.light_diffuse[:] = diffuse * rng.uniform(0.8, 1.2)
        self._model.light_dir[:] = direction + rng.uniform(-0.15, 0.15, 3) * (1, 1, 0)
        self._model.vis.headlight.ambient[:] = ambient * rng.uniform(0.85, 1.15)

    def _place_arm(self, rng, scattered: bool) -> None:
        position = EE_START_M + rng.uniform(-1, 1, 3) * EE_START_SPREAD_M
        if scattered:
            position = self._scattered_start(rng)
        yaw = rotation.from_rotvec((0, 0, rng.uniform(-EE_YAW_RAD, EE_YAW_RAD)))
        tilt = rotation.from_rotvec((*rng.uniform(-EE_TILT_RAD, EE_TILT_RAD, 2), 0))
        self._data.qpos[self._arm] = POSTURE_RAD
        self._data.qpos[self._finger] = panda.FINGER_OPEN_M
        self._solve_pose(position, rotation.multiply(tilt, rotation.multiply(yaw, rotation.TOP_DOWN_XYZW)))

    def _scattered_start(self, rng) -> np.ndarray:
        """TCP position (3,) anywhere in SCATTER_M, mostly low, with room for the hand between it and every cube."""
        cubes = np.array([self._data.qpos[a : a + 2] for _, a in zip(self._colours, self._cube_q, strict=False)])
        while True:
            low, high = SCATTER_M
            position = low + (high - low) * rng.random(3) ** (1, 1, 2)
            gap = np.linalg.norm(cubes - position[:2], axis=1).min()
            if position[2] > CLEAR_HEIGHT_M or gap > CLEAR_M:
                return position

    def _solve_pose(self, position, quaternion) -> None:
        """Put the arm at a TCP pose by damped least squares, from where its joints are."""
        jacobian = np.zeros((6, self._model.nv))
        site = self._model.site(panda.TCP).id
        dofs = self._arm  # the arm comes first: qpos and dof addresses agree
        for _ in range(100):
            update_poses(self._model, self._data)
            at, facing = self._controller.measured()
            error = np.concatenate([position - at, rotation.difference(quaternion, facing)])
            if np.abs(error).max() < 1e-6:
                return
            mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], site)
            arm = jacobian[:, dofs]
            self._data.qpos[dofs] += arm.T @ np.linalg.solve(arm @ arm.T + 1e-5 * np.eye(6), error)
        raise RuntimeError(
            f"no joint angles reach {np.round(position, 3).tolist()}; the error left is {error.round(5).tolist()}"
        )


def _spread_points(rng, count: int) -> np.ndarray:
    """(count, 2) table points [m] at least CUBE_APART_M from each other, by rejection of whole sets."""
    while True:
        points = np.column_stack([rng.uniform(*CUBE_X_M, count), rng.uniform(*CUBE_Y_M, count)])
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(count)
        if gaps.min() >= CUBE_APART_M:
            return points


__all__ = ["CAMERAS", "COLOURS", "PERIOD_S", "SimState", "TabletopEnv"]
