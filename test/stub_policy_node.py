"""The real policy node around a policy without a model: starts at once and does what the instruction says.

"move": a small motion; "nan", "raise", "hang": what a broken model does. Run as a script.
"""

import sys
import time

import numpy as np

from specprune_ros.ros import policy_node
from specprune_ros.types import ActionChunk, InferenceResult, PolicyMemory, PruningReport

MOTION = (0.2, 0.0, -0.1, 0.0, 0.0, 0.3)
GRIPPER = 0.25


class StubPolicy:
    name = "stub"
    view_count = 2
    proprio_dims = 8
    chunk_steps = 8
    patch_grid = (16, 16)

    def idle(self):
        return False

    def infer(self, request, config):
        task = request.observation.instruction
        if task == "raise":
            raise RuntimeError("the model broke")
        if task == "hang":
            time.sleep(3600)
        value = float("nan") if task == "nan" else GRIPPER
        actions = np.tile([*MOTION, value], (self.chunk_steps, 1))
        stamp_ns = request.observation.stamp_ns
        chunk = ActionChunk(request.chunk_id, stamp_ns, actions, request.mode, task)
        return InferenceResult(chunk, self._report(request, config), PolicyMemory("seen", task, stamp_ns))

    def _report(self, request, config):
        kept = np.zeros(512, np.uint8)
        count = round(512 * (1.0 - 0.5 * config.pruning.aggressiveness))
        kept[:count] = 16 | 32 | 4
        per_view = (min(count, 256), max(count - 256, 0))
        return PruningReport(
            mode=request.mode,
            aggressiveness=config.pruning.aggressiveness,
            tokens_total=512,
            tokens_kept=count,
            total_per_view=(256, 256),
            kept_static_per_view=per_view,
            kept_dynamic_per_view=per_view,
            from_global_per_view=(0, 0),
            from_dynamic_per_view=(0, 0),
            from_local_per_view=per_view,
            from_fill_per_view=(0, 0),
            frame_offset=request.frame_offset,
            reused_global=request.memory is not None,
            stage_ms={"total": 1.0},
            layer_lengths=(),
            kept=kept,
        )


if __name__ == "__main__":
    policy_node.load = lambda config: StubPolicy()
    sys.exit(policy_node.main())
