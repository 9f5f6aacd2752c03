"""Operational-space control of the arm: a target pose in the base frame, tracked by joint torques at the physics rate.

One control period is a whole number of physics steps, each ``mj_step1 -> torque -> mj_step2``. With the 6 x 7 Jacobian
J, the mass matrix M, Lambda = (J M^-1 J^T)^-1 and the bias h (Coriolis and gravity), the torque is

    tau = J^T Lambda (w^2 e + 2 w (v_target - J qd)) + h + (I - J^T Lambda J M^-1) (k (q_posture - q) - d qd)

critically damped with w = STIFFNESS_RADPS, clipped to the joints' limits. Within a period the target moves on a
straight line to its new place, so that the measured motion per step closely follows the commanded one.

Actions are displacements per control period, whatever its length: at 50 Hz an action of 1 moves 0.05 m in 0.02 s, at 20
Hz in 0.05 s.
"""

import math

import numpy as np

from specprune_ros import rotation
from specprune_ros.sim import panda
from specprune_ros.sim.gl import mujoco
from specprune_ros.sim.settings import FULL_STEP_M, FULL_STEP_RAD
from specprune_ros.types import Displacement

#: The control period when none is given: 20 Hz, the rate of the demonstrations.
PERIOD_S = 0.05
#: What an action of +-1 means per control period, as in LIBERO.
ACTION_SCALE = np.array([FULL_STEP_M] * 3 + [FULL_STEP_RAD] * 3)
#: The target never runs further than this from the measured pose: a blocked arm pushes with bounded force and recovers
#: at once.
LEASH_M, LEASH_RAD = 0.08, 0.5
#: Speeds [m/s], [rad/s] at which an absolute target is approached: a full action per period at 20 Hz, at every rate.
POSE_SPEED_MPS, POSE_SPEED_RADPS = 1.0, 10.0
#: TCP positions the target may take, base frame [m]. At the lowest the finger tips are 3 mm above the table.
WORKSPACE_M = np.array([[0.28, -0.35, 0.0125], [0.72, 0.35, 0.55]])
FINGER_SPEED_MPS = 0.1
STIFFNESS_RADPS = 40.0
POSTURE_STIFFNESS, POSTURE_DAMPING = 10.0, 6.0  # [1/s^2], [1/s]; times the mass matrix's order of 1 kg m^2


class OperationalSpaceController:
    """Drives the arm and gripper of one ``MjData``. Poses: TCP in the base frame, position (3,) [m], quaternion (4,)
    xyzw.

    The physics step of ``model`` is shortened, where it must be, so that a whole number of them is one control period.
    """

    def __init__(self, model, data, posture_rad, period_s: float = PERIOD_S):
        """posture_rad (7,): where the null space pulls the joints [rad]."""
        self._model, self._data = model, data
        self._posture = np.array(posture_rad, dtype=float)
        self._site = model.site(panda.TCP).id
        self._dofs = np.array([model.joint(name).dofadr[0] for name in panda.ARM_JOINTS])
        self._arm = np.array([model.actuator(name).id for name in panda.ARM_JOINTS])
        self._fingers = np.array([model.actuator(name).id for name in panda.FINGER_JOINTS])
        self._limits = model.actuator_ctrlrange[self._arm]
        self._jacobian = np.zeros((6, model.nv))
        self._minv_jt = np.zeros((6, model.nv))
        self.period_s = period_s
        self._substeps = math.ceil(period_s / model.opt.timestep - 1e-9)
        model.opt.timestep = period_s / self._substeps
        self.reset()

    def reset(self) -> None:
        """Make the measured pose the target and open the gripper."""
        self._target = self.measured()
        self._goal = self._target
        self._gripper_open = True
        self._finger_target = panda.FINGER_OPEN_M

    def snapshot(self) -> tuple:
        """The controller's own state, for ``restore``."""
        return self._target, self._gripper_open, self._finger_target

    def restore(self, snapshot: tuple) -> None:
        """Go back to a snapshot; the physics is restored by its owner."""
        self._target, self._gripper_open, self._finger_target = snapshot
        self._goal = self._target

    def measured(self) -> tuple:
        """(position (3,), quaternion (4,)) of the TCP now."""
        wxyz = np.empty(4)
        mujoco.mju_mat2Quat(wxyz, self._data.site_xmat[self._site])
        return self._data.site_xpos[self._site].copy(), wxyz[[1, 2, 3, 0]]

    def command_action(self, action) -> None:
        """Move the target by an action (7,): translation, rotation vector (base frame, +-1 = ACTION_SCALE), gripper 1
        open, 0 close."""
        action = checked("action", action, 7, "give [dx, dy, dz, rx, ry, rz, gripper] in action units, |motion| <= 1")
        motion = np.clip(action[:6], -1.0, 1.0) * ACTION_SCALE
        position, quaternion = self._target
        turned = rotation.multiply(rotation.from_rotvec(motion[3:]), quaternion)
        self._set_goal(position + motion[:3], turned)
        self._gripper_open = bool(action[6] > 0.5)

    def command_pose(self, position_m, quaternion_xyzw, gripper_open: bool) -> None:
        """Move the target towards an absolute pose, at no more than POSE_SPEED_MPS and POSE_SPEED_RADPS."""
        position_m = checked("position", position_m, 3, "give x, y, z in metres in the base frame")
        quaternion = checked("quaternion", quaternion_xyzw, 4, "give x, y, z, w of a unit quaternion")
        norm = np.linalg.norm(quaternion)
        if not 0.99 < norm < 1.01:
            raise ValueError(
                f"quaternion {quaternion.tolist()} has length {norm:.4f}; give a unit quaternion (x, y, z, w)"
            )
        position, current = self._target
        step = rotation.limited(position_m - position, POSE_SPEED_MPS * self.period_s)
        turn = rotation.limited(rotation.difference(quaternion / norm, current), POSE_SPEED_RADPS * self.period_s)
        self._set_goal(position + step, rotation.multiply(rotation.from_rotvec(turn), current))
        self._gripper_open = bool(gripper_open)

    def command_hold(self) -> None:
        """Keep the target and the gripper as they are: what to do when no action arrives."""
        self._set_goal(*self._target)

    def advance(self) -> None:
        """Run the physics for one control period towards the commanded target."""
        start_position, start_quaternion = self._target
        goal_position, goal_quaternion = self._goal
        linear = goal_position - start_position
        angular = rotation.difference(goal_quaternion, start_quaternion)
        velocity = np.concatenate([linear, angular]) / self.period_s
        for i in range(1, self._substeps + 1):
            part = i / self._substeps
            self._target = (
                start_position + part * linear,
                rotation.multiply(rotation.from_rotvec(part * angular), start_quaternion),
            )
            mujoco.mj_step1(self._model, self._data)
            self._data.ctrl[self._arm] = np.clip(self._torque(velocity), self._limits[:, 0], self._limits[:, 1])
            self._data.ctrl[self._fingers] = self._next_finger_target()
            mujoco.mj_step2(self._model, self._data)
        update_poses(self._model, self._data)

    def _set_goal(self, position, quaternion) -> None:
        """Leash the goal to the measured pose, clip it to the workspace, keep its quaternion a unit quaternion."""
        measured_position, measured_quaternion = self.measured()
        position = measured_position + rotation.limited(position - measured_position, LEASH_M)
        turn = rotation.limited(rotation.difference(quaternion, measured_quaternion), LEASH_RAD)
        quaternion = rotation.multiply(rotation.from_rotvec(turn), measured_quaternion)
        self._goal = (np.clip(position, *WORKSPACE_M), quaternion / np.linalg.norm(quaternion))

    def _torque(self, target_velocity) -> np.ndarray:
        model, data, dofs = self._model, self._data, self._dofs
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        mujoco.mj_solveM(model, data, self._minv_jt, self._jacobian)
        jacobian, minv_jt = self._jacobian[:, dofs], self._minv_jt[:, dofs]  # (6, 7), (6, 7)
        q, qd = data.qpos[dofs], data.qvel[dofs]  # the arm comes first, so its qpos and dof addresses are the same
        position, quaternion = self.measured()
        error = np.concatenate([self._target[0] - position, rotation.difference(self._target[1], quaternion)])
        wanted = STIFFNESS_RADPS**2 * error + 2 * STIFFNESS_RADPS * (target_velocity - jacobian @ qd)
        posture = POSTURE_STIFFNESS * (self._posture - q) - POSTURE_DAMPING * qd
        # Lambda (wanted - J M^-1 posture): the task force, and the posture torque without its effect on the task.
        force = np.linalg.solve(jacobian @ minv_jt.T + 1e-6 * np.eye(6), wanted - minv_jt @ posture)
        return jacobian.T @ force + posture + data.qfrc_bias[dofs]

    def _next_finger_target(self) -> float:
        goal = panda.FINGER_OPEN_M if self._gripper_open else 0.0
        step = FINGER_SPEED_MPS * self._model.opt.timestep
        self._finger_target += max(-step, min(step, goal - self._finger_target))
        return self._finger_target


def update_poses(model, data) -> None:
    """Bring the poses of bodies, sites, cameras and lights up to date with the joints, which a step leaves one substep
    behind."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def action_units(motion: Displacement) -> np.ndarray:
    """(7,) in the action units of `command_action`."""
    return np.array([*(np.concatenate([motion.translation_m, motion.rotation_rad]) / ACTION_SCALE), motion.gripper])


def checked(name: str, value, size: int, remedy: str) -> np.ndarray:
    """``value`` as a finite float64 array (size,); ValueError names the thing, the value and the remedy."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r} is not numeric; {remedy}") from None
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({size},); {remedy}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} {array.tolist()} has values that are not finite; {remedy}")
    return array
