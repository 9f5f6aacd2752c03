"""The vocabulary of the package: what flows from camera to command, with shapes, units and frames.

Everything here is plain NumPy, so that the layers above and below (ROS, torch, MuJoCo) share it.
Arrays in frozen records are never written to after construction: those that are handed on from here are read-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag

import numpy as np

from specprune_ros.config import Pruning

NANOSECONDS = 1_000_000_000
"""Per second."""

ACTION_DIMS = 7
"""dx, dy, dz, rotation x, y, z (axis-angle), gripper."""

ACTION_LOW, ACTION_HIGH = np.array([-1.0] * 6 + [0.0]), np.ones(ACTION_DIMS)
"""(7,) float64: range of an action, in action units."""

PROPRIO_DIMS = 8
"""End-effector position x, y, z [m], axis-angle x, y, z [rad], two finger positions [m]."""


class BadInput(ValueError):
    """An input that must not reach the policy: the text names the thing, the value and the remedy."""


class Mode(str, Enum):
    """How an inference prunes: not at all, harder during coarse motion, more carefully during fine motion."""

    DENSE = "dense"
    COARSE = "coarse"
    FINE = "fine"


class Source(IntFlag):
    """Why a visual token is there, and how far it came (the bits of `PruningReport.kept`)."""

    GLOBAL = 1
    DYNAMIC = 2
    LOCAL = 4
    FILL = 8
    AFTER_STATIC = 16
    LAST_LAYER = 32


def _read_only(*arrays: np.ndarray) -> None:
    for array in arrays:
        array.setflags(write=False)


_read_only(ACTION_LOW, ACTION_HIGH)


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
    """Everything that one inference sees: images, robot state and instruction of one moment.

    stamp_ns: time of the images; images: one (H, W, 3) uint8 RGB array per view, in the checkpoint's view order;
    proprio: (P,) float32 in raw units (EE position [m], axis-angle [rad], two finger positions [m]), or None for a
    policy without a proprio token; instruction: the task in words; motion: measured movement, None while unknown.
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

    def __post_init__(self) -> None:
        _read_only(self.actions)


STAGES = ("preprocess", "vision", "selection", "decoder", "head")
"""The stages of an inference that are timed, in order. The time of selection is not counted in decoder as well."""


@dataclass(frozen=True)
class PruningReport:
    """How many visual tokens one inference kept, and where its time went. Per-view tuples follow the view order."""

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
    used_last_attention: bool
    stage_ms: dict[str, float]
    """[ms] of every one of `STAGES`, and `total`."""
    layer_lengths: tuple[int, ...]
    """Tokens of all kinds that each decoder layer processed."""
    kept: np.ndarray
    """(n_visual,) uint8 bit mask per visual token in original order: see `Source`."""

    def __post_init__(self) -> None:
        _read_only(self.kept)


@dataclass(frozen=True)
class PolicyMemory:
    """What one inference hands to the next: the only backward flow besides measured state.

    last_attention: the visual tokens that drew most attention in the last pass, opaque outside `infer` and `prune`: a
    tensor that stays on the model's device, or the number by which the process of the model knows that tensor;
    instruction: the task it belongs to; stamp_ns: its observation's stamp."""

    last_attention: object
    instruction: str
    stamp_ns: int


@dataclass(frozen=True)
class InferenceRequest:
    """Everything one inference depends on, fixed at the moment it is asked for.

    reference_images: the frame `frame_offset` control periods before the observation, None without history;
    mode: coarse or fine from the action-aware controller; memory: None on the first pass after a reset;
    pruning: the settings in force; misses_before: deadlines that had been missed when this was asked for.
    """

    chunk_id: int
    observation: Observation
    reference_images: tuple[np.ndarray, ...] | None
    frame_offset: int
    mode: Mode
    memory: PolicyMemory | None
    pruning: Pruning
    misses_before: int = 0


@dataclass(frozen=True)
class InferenceResult:
    """What one inference returns, with what it was asked."""

    request: InferenceRequest
    chunk: ActionChunk
    report: PruningReport
    memory: PolicyMemory


@dataclass(frozen=True)
class PolicyFacts:
    """What is fixed about a loaded policy, and all that control needs to know of it.

    view_count: cameras; chunk_steps: actions in a chunk; proprio_dims: values of the proprio token, 0 without one;
    patch_grid: (rows, columns) of visual tokens in a view.
    """

    name: str
    view_count: int
    chunk_steps: int
    proprio_dims: int
    patch_grid: tuple[int, int]


@dataclass(frozen=True)
class EngineState:
    """How a policy runs its inferences now.

    name: "eager", "graph" or "openvino"; pending: kinds of inference that are still to be captured, which stops
    inferences: wait before moving; making: kinds that are made fast beside the inferences, and are slower until then;
    trouble: why some stay slower for good, empty while nothing went wrong.
    """

    name: str = ""
    pending: int = 0
    making: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class ChunkStep:
    """The step of a chunk that belongs to the present, as the policy meant it.

    action: (7,) float64 in action units as in ActionChunk; step: index into the chunk; chunk_age: since its
    observation [s].
    """

    action: np.ndarray
    chunk_id: int
    step: int
    chunk_age: float


@dataclass(frozen=True)
class Displacement:
    """What the end effector is to do within one control period, in the robot's base frame.

    translation_m: (3,) float64 [m]; rotation_rad: (3,) float64 axis-angle [rad]; gripper: wanted opening, 0 closed ..
    1 open.
    """

    translation_m: np.ndarray
    rotation_rad: np.ndarray
    gripper: float

    def __post_init__(self) -> None:
        _read_only(self.translation_m, self.rotation_rad)


@dataclass(frozen=True)
class Command:
    """One control period's motion, after all limits.

    step and chunk_age as in ChunkStep; target: where the end effector is commanded to be at the end of the period,
    integrated from the pose at which the arm was armed, None while nobody has armed it.
    """

    displacement: Displacement
    chunk_id: int
    step: int
    chunk_age: float
    target: EndEffector | None = None


@dataclass(frozen=True)
class Hold:
    """The policy's motion must not go on in this period, and why.

    braking: what is still to be commanded on the way to rest, as a stop within the limits takes a few periods; None at
    rest.
    """

    reason: str
    braking: Command | None = None
