"""A simulator and a policy that do what a test says."""

import numpy as np
import torch

from specprune_ros.config import Config
from specprune_ros.sim.env import SimState
from specprune_ros.sim.settings import SIMULATION
from specprune_ros.types import STAGES, ActionChunk, InferenceResult, Mode, PolicyMemory, PruningReport

CHUNK_STEPS = 8


class Silent:
    """A progress display for nobody."""

    def advance(self, note=""):
        pass


class StubEnv:
    """Does what it is told and writes it down; success after `success_at` steps."""

    CAMERAS = ("third_person", "wrist")
    max_steps = 30
    control_rate = 20.0

    def __init__(self, success_at=None):
        self.success_at = success_at

    def reset(self, seed, suite="pick"):
        self.done = []
        return f"{suite} up cube {seed}"

    def step(self, action):
        self.done.append(np.array(action))

    def hold(self):
        self.done.append(None)

    def render(self, camera):
        return np.zeros((8, 8, 3), np.uint8)

    def state(self):
        return SimState(
            time_s=0.05 * len(self.done),
            ee_position_m=np.zeros(3),
            ee_quaternion_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
            joint_positions_rad=np.zeros(7),
            joint_velocities=np.zeros(7),
            finger_positions_m=np.full(2, 0.04),
            things={},
            goals=(),
        )

    def proprio(self):
        return np.zeros(8, np.float32)

    def success(self):
        return self.success_at is not None and len(self.done) >= self.success_at


def report(mode=Mode.FINE, kept=200, ms=None):
    ms = ms or dict.fromkeys((*STAGES, "total"), 1.0)
    per_view = [(256, 256)] + [(kept // 2, kept // 2)] * 2 + [(0, 0)] * 4
    return PruningReport(mode, 0.5, 512, kept, *per_view, 0, False, ms, (600,) * 12, np.zeros(512, np.uint8))


class StubPolicy:
    """Step i of chunk c moves by (i / 10, c / 100): what was executed can be read off the action."""

    view_count, chunk_steps, proprio_dims, image_size = 2, CHUNK_STEPS, 8, 224
    device, dtype = torch.device("cpu"), torch.float32
    ran = "eager"

    def knows(self, instruction):
        return True

    def __init__(self, act=None):
        self.act = act or self.numbered
        self.requests, self.levels_ahead = [], ()

    def settle(self):
        return True

    def numbered(self, request):
        actions = np.zeros((CHUNK_STEPS, 7))
        actions[:, 0], actions[:, 1] = np.arange(CHUNK_STEPS) / 10, request.chunk_id / 100
        return actions

    def warm_up(self, config):
        pass

    def infer(self, request):
        self.requests.append(request)
        seen = request.observation
        dense = request.pruning.aggressiveness == 0.0
        mode = Mode.DENSE if dense else request.mode
        chunk = ActionChunk(request.chunk_id, seen.stamp_ns, self.act(request), mode, seen.instruction)
        memory = PolicyMemory(len(self.requests), seen.instruction, seen.stamp_ns)
        return InferenceResult(request, chunk, report(mode, 512 if dense else 200), memory)

    def gflop(self, pruning):
        return pruning.tokens_kept / 100


PLAIN = Config().updated(SIMULATION | {"control.blend_steps": 0, "control.lead_steps": 2})
