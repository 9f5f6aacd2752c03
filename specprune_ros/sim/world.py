"""One compiled scene with its physics, its controller and, where pictures are wanted, its renderer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specprune_ros import rotation
from specprune_ros.sim import panda, scene
from specprune_ros.sim.gl import mujoco
from specprune_ros.sim.osc import OperationalSpaceController, update_poses
from specprune_ros.sim.suites import Scene
from specprune_ros.sim.tasks import Thing

#: Joint angles [rad] near the middle of the task, where the null space and the inverse kinematics start.
POSTURE_RAD = (0.0, 0.06, 0.0, -2.29, 0.0, 2.35, np.pi / 4)
PRESSED_M = 0.6 * scene.BUTTON_TRAVEL_M
"""A button's cap this far down counts as pressed, and stays lit."""
FIXTURES = ("plate", "button")


@dataclass(frozen=True)
class Plain:
    """What perturbations start from. camera_m (cameras, 3), camera_wxyz (cameras, 4) in their parents' frames;
    headlight (3,): its diffuse light; table (4,): its RGBA."""

    camera_m: np.ndarray
    camera_wxyz: np.ndarray
    headlight: np.ndarray
    table: np.ndarray


class World:
    """A scene of scene.py. An episode assigns its things to bodies; what it does not need is out of sight."""

    def __init__(self, name: str, image_size: int, render: bool, period_s: float, **more: bool):
        """more: what compile_scene adds to the scene."""
        self.model = scene.compile_scene(image_size, name, **more)
        self.data = mujoco.MjData(self.model)
        self.renderer = mujoco.Renderer(self.model, image_size, image_size) if render else None
        if self.renderer:
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self.renderer.scene.flags[flag] = False
        self.arm = np.array([self.model.joint(name).qposadr[0] for name in panda.ARM_JOINTS])
        self.finger = np.array([self.model.joint(name).qposadr[0] for name in panda.FINGER_JOINTS])
        self.controller = OperationalSpaceController(self.model, self.data, POSTURE_RAD, period_s)
        bodies = [self.model.body(i).name for i in range(self.model.nbody)]
        self._pool = {kind: [b for b in bodies if b.rstrip("0123456789") == kind and b != kind] for kind in scene.KINDS}
        self._has_fixtures = "plate" in bodies
        self._light = (
            self.model.light_diffuse.copy(),
            self.model.light_dir.copy(),
            self.model.vis.headlight.ambient.copy(),
        )
        self.plain = Plain(
            self.model.cam_pos.copy(),
            self.model.cam_quat.copy(),
            self.model.vis.headlight.diffuse.copy(),
            self.model.geom("table").rgba.copy(),
        )
        self._looks: dict[str, Thing] = {}
        self._body: dict[str, str] = {}
        self._at: dict[str, int] = {}

    def begin(self, drawn: Scene) -> None:
        """Put the things of an episode in their places, everything else out of sight."""
        mujoco.mj_resetData(self.model, self.data)
        self._looks = dict(drawn.things)
        self._at = {}
        free = {kind: list(bodies) for kind, bodies in self._pool.items()}
        self._body = {
            name: thing.kind if thing.kind in FIXTURES else free[thing.kind].pop(0)
            for name, thing in drawn.things.items()
        }
        for name, thing in drawn.things.items():
            if thing.kind in FIXTURES:
                self.model.body(thing.kind).pos[:2] = thing.position_m[:2]
            else:
                half = drawn.yaw_rad[name] / 2
                at = self._at[name] = self.model.joint(self._body[name]).qposadr[0]
                self.data.qpos[at : at + 7] = (*thing.position_m, np.cos(half), 0, 0, np.sin(half))
                self._show(self._body[name], scene.RGBA[thing.colour])
        for body in (body for bodies in free.values() for body in bodies):
            self._show(body, None)
        if self._has_fixtures:
            for kind in set(FIXTURES) - set(self._body.values()):
                self.model.body(kind).pos[:2] = (-3, -1)
            self.model.geom("edge").rgba[3] = float(drawn.edge)
        self.pressed = False

    @property
    def pressed(self) -> bool:
        """Whether the button was pressed in this episode; it shows."""
        return self._pressed

    @pressed.setter
    def pressed(self, value: bool) -> None:
        self._pressed = value
        if self._has_fixtures:
            self.model.geom("button").rgba[:] = scene.LIT if value else scene.UNLIT

    def advance(self) -> None:
        """One control period."""
        self.controller.advance()
        if self._has_fixtures and not self.pressed and self.data.joint("button").qpos[0] < -PRESSED_M:
            self.pressed = True

    def things(self) -> dict[str, Thing]:
        """The things of the episode where they are now."""
        return {
            name: look.at(self.data.qpos[at : at + 3].copy() if (at := self._at.get(name)) else look.position_m.copy())
            for name, look in self._looks.items()
        }

    def geoms(self) -> dict[str, tuple[int, ...]]:
        """The ids of the geoms that show each thing of the episode."""
        shown = {"plate": ("plate", "plate_inside"), "button": ("button", "button_base")}
        return {
            name: tuple(self.model.geom(geom).id for geom in shown.get(body, (body,)))
            for name, body in self._body.items()
        }

    def vary_light(self, rng) -> None:
        """Brightness and direction of the light, a little different in every episode."""
        diffuse, direction, ambient = self._light
        self.model.light_diffuse[:] = diffuse * rng.uniform(0.8, 1.2)
        self.model.light_dir[:] = direction + rng.uniform(-0.15, 0.15, 3) * (1, 1, 0)
        self.model.vis.headlight.ambient[:] = ambient * rng.uniform(0.85, 1.15)

    def upload_texture(self, texture: int) -> None:
        """Hand a texture of the model that was changed to the renderer."""
        self.renderer._gl_context.make_current()
        mujoco.mjr_uploadTexture(self.model, self.renderer._mjr_context, texture)

    def hide_distractors(self) -> None:
        """All of them invisible, where they were compiled to lie."""
        for number in range(len(scene.DISTRACTORS)):
            self.model.geom(f"distractor{number}").rgba[:] = 0

    def show_distractor(self, number: int, position_m: np.ndarray, yaw_rad: float) -> None:
        """Put one of scene.DISTRACTORS on the table: centre (3,) [m], turned about z."""
        name = f"distractor{number}"
        at = self.model.joint(name).qposadr[0]
        self.data.qpos[at : at + 7] = (*position_m, np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2))
        self.model.geom(name).rgba[:] = scene.DISTRACTORS[number].rgba

    def place_arm(self, position_m, quaternion_xyzw) -> None:
        """Put the arm at a TCP pose, the gripper open, by damped least squares. RuntimeError where it cannot reach."""
        data = self.data
        data.qpos[self.arm] = POSTURE_RAD
        data.qpos[self.finger] = panda.FINGER_OPEN_M
        jacobian = np.zeros((6, self.model.nv))
        site = self.model.site(panda.TCP).id
        dofs = self.arm  # the arm comes first: qpos and dof addresses agree
        for _ in range(100):
            update_poses(self.model, data)
            at, facing = self.controller.measured()
            error = np.concatenate([position_m - at, rotation.difference(quaternion_xyzw, facing)])
            if np.abs(error).max() < 1e-6:
                return
            mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], site)
            arm = jacobian[:, dofs]
            data.qpos[dofs] += arm.T @ np.linalg.solve(arm @ arm.T + 1e-5 * np.eye(6), error)
        raise RuntimeError(
            f"no joint angles reach {np.round(position_m, 3).tolist()}; the error left is {error.round(5).tolist()}"
        )

    def _show(self, body: str, rgba) -> None:
        """Colour a body, or hide it. In the scene of the suites a hidden one neither touches anything nor falls."""
        geom = self.model.geom(body)
        geom.rgba[:] = rgba or (0, 0, 0, 0)
        if self._has_fixtures:
            geom.contype[:] = geom.conaffinity[:] = int(rgba is not None)
            self.model.body_gravcomp[self.model.body(body).id] = float(rgba is None)
