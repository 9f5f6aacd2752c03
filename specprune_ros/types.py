"""The vocabulary of the package: what flows from camera to command, with shapes, units and frames.

Everything here is plain NumPy, so that the layers above and below (ROS, torch, MuJoCo) share it.
Arrays in frozen records are never written to after construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

NANOSECONDS = 1_000_000_000
"""Per second."""

ACTION_DIMS = 7
"""dx, dy, dz, rotation x, y, z (axis-angle), gripper."""

PROPRIO_DIMS = 8
"""End-effector position x, y, z [m], axis-angle x, y, z [rad], two finger positions [m]."""


class BadInput(ValueError):
    """An input that must not reach the policy: the text names the thing, the value and the remedy."""


class Mode(str, Enum):
    """What decided how hard the last inference pruned."""

    DENSE = "dense"
    COARSE = "coarse"
    FINE = "fine"


@dataclass(frozen=True)
class EndEffector:
    """Measured end-effector pose at one instant, in the robot's base frame (REP-103).

    position_m: (3,) float64 [m]; quaternion_xyzw: (4,) float64, unit length; stamp_ns: time of measurement.
    """

    stamp_ns: int
    position_m: np.ndarray
    quaternion_xyzw: np.ndarray


@dataclass(frozen=True)
class Motion:
    """Mean end-effector movement, in normalised action units per control period (1.0 = full-scale command).

    linear: norm of the translation; angular: norm of the rotation; dz: signed vertical part of the translation.
    """

    linear: float
    angular: float
    dz: float


@dataclass(frozen=True)
class Observation:
    """One synchronised look at the world.

    stamp_ns: time of the images; images: one (H, W, 3) uint8 RGB array per view, in the checkpoint's view order;
    proprio: (P,) float32 in raw units (EE position [m], axis-angle [rad], two finger positions [m]), or None for a policy
    without a proprio token; instruction: the task in words; motion: measured movement, None while unknown.
    """

    stamp_ns: int
    images: tuple[np.ndarray, ...]
    proprio: np.ndarray | None
    instruction: str
    motion: Motion | None


@dataclass(frozen=True)
class ActionChunk:
    """What one inference predicts.

    actions: (T, 7) float64 in action units, as the policy predicts them: 1 of translation and rotation is
    `action.scale_*` in one control period, and values beyond -1..1 are left to `control.limits`, which reports them;
    gripper 0 (close) .. 1 (open).
    stamp_ns: the observation's stamp; actions[i] is meant for stamp + i periods.
    """

    chunk_id: int
    stamp_ns: int
    actions: np.ndarray
    mode: Mode
    instruction: str


STAGES = ("preprocess", "vision", "selection", "decoder", "head")
"""What an inference spends its time on, in order; selection is not part of decoder."""


@dataclass(frozen=True)
class PruningReport:
    """How one inference spent its visual tokens and its time. Per-view tuples follow the view order."""

    mode: Mode
    aggressiveness: float
    tokens_total: int
    tokens_kept: int
    total_per_view: tuple[int, ...]
    kept_static_per_view: tuple[int, ...]
    kept_dynamic_per_view: tuple[int, ...]
    from_global_per_view: tuple[int, ...]
    from_dynamic_per_view: tuple[int, ...]
    from_local_per_view: tuple[int, ...]
    from_fill_per_view: tuple[int, ...]
    frame_offset: int
    reused_global: bool
    stage_ms: dict[str, float]
    """[ms] of every one of `STAGES`, and `total`."""
    layer_lengths: tuple[int, ...]
    """Tokens of all kinds that each decoder layer processed."""
    kept: np.ndarray
    """(n_visual,) uint8 bit mask per visual token in original order: see `prune.static.Source`."""


@dataclass(frozen=True)
class PolicyMemory:
    """What one inference hands to the next: the only backward flow besides measured state.

    salient: the visual tokens that drew most attention in the last pass, opaque outside `infer` and `prune`
    (a tensor that stays on the model's device); instruction: the task it belongs to; stamp_ns: its observation's stamp.
    """

    salient: object
    instruction: str
    stamp_ns: int


@dataclass(frozen=True)
class InferenceRequest:
    """Everything one inference depends on, fixed at the moment it is asked for.

    reference_images: the frame `frame_offset` control periods before the observation, None without history;
    mode: coarse or fine from the action-aware controller; memory: None on the first pass after a reset.
    """

    chunk_id: int
    observation: Observation
    reference_images: tuple[np.ndarray, ...] | None
    frame_offset: int
    mode: Mode
    memory: PolicyMemory | None


@dataclass(frozen=True)
class InferenceResult:
    """What one inference returns."""

    chunk: ActionChunk
    report: PruningReport
    memory: PolicyMemory


@dataclass(frozen=True)
class ChunkStep:
    """The step of a chunk that belongs to the present, as the policy meant it.

    action: (7,) float64 in action units as in ActionChunk; step: index into the chunk; chunk_age: since its observation [s].
    """

    action: np.ndarray
    chunk_id: int
    step: int
    chunk_age: float


@dataclass(frozen=True)
class Displacement:
    """What the end effector is to do within one control period, in the robot's base frame.

    translation_m: (3,) float64 [m]; rotation_rad: (3,) float64 axis-angle [rad]; gripper: wanted opening, 0 closed .. 1 open.
    """

    translation_m: np.ndarray
    rotation_rad: np.ndarray
    gripper: float


@dataclass(frozen=True)
class Command:
    """One control period's motion, after all limits; step and chunk_age as in ChunkStep."""

    displacement: Displacement
    chunk_id: int
    step: int
    chunk_age: float


@dataclass(frozen=True)
class Hold:
    """No action may be commanded in this period, and why."""

    reason: str
