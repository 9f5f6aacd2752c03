"""The real policy node around a policy without a model: starts at once and does what the instruction says.

"move": a small motion, "back": the opposite one, "still": none, "open": with an open gripper; "wild": numbers far out of range, different in every step; "slow": takes 1.5 s; "nan", "raise",
"hang", "short": what a broken model does; "crash": the node itself fails, in a control period. Run as a script.
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
    proprio_dims = 8
    chunk_steps = 8
    pending = 0
    engine_state = "stub"
    patch_grid = (16, 16)

    def __init__(self, view_count):
        self.view_count = view_count

    def idle(self):
        return False

    def infer(self, request, config):
        task = request.observation.instruction
        if task == "raise":
            raise RuntimeError("the model broke")
        if task == "hang":
            time.sleep(3600)
        if task == "slow":
            time.sleep(1.5)
        actions = self._actions(task, request.chunk_id, request.observation.proprio[0])
        stamp_ns = request.observation.stamp_ns
        chunk = ActionChunk(request.chunk_id, stamp_ns, actions, request.mode, task)
        return InferenceResult(chunk, self._report(request, config), PolicyMemory("seen", task, stamp_ns))

    def _actions(self, task, seed, x):
        """x: where the arm is [m]; it turns round before it reaches a wall of the box."""
        if task == "still":
            return np.tile([*[0.0] * 6, GRIPPER], (self.chunk_steps, 1))
        if task == "wild":
            return np.random.default_rng(seed).normal(0.0, 20.0, (self.chunk_steps, 7))
        sign = (-1 if x > 0.3 else 1) if task == "back" else (1 if x < 0.65 else -1)
        motion = sign * np.array(MOTION)
        value = {"nan": float("nan"), "open": 1.0}.get(task, GRIPPER)
        return np.tile([*motion, value], (self.chunk_steps - (task == "short"), 1))

    def _report(self, request, config):
        views, total = self.view_count, 256 * self.view_count
        kept = np.zeros(total, np.uint8)
        count = round(total * (1.0 - 0.5 * config.pruning.aggressiveness))
        kept[:count] = 16 | 32 | 4
        per_view = tuple(np.count_nonzero(kept.reshape(views, 256), axis=1).tolist())
        none = (0,) * views
        return PruningReport(
            mode=request.mode,
            aggressiveness=config.pruning.aggressiveness,
            tokens_total=total,
            tokens_kept=count,
            total_per_view=(256,) * views,
            kept_static_per_view=per_view,
            kept_dynamic_per_view=per_view,
            from_global_per_view=none,
            from_dynamic_per_view=none,
            from_local_per_view=per_view,
            from_fill_per_view=none,
            frame_offset=request.frame_offset,
            reused_global=request.memory is not None,
            stage_ms={"total": 1.0},
            layer_lengths=(),
            kept=kept,
        )


class CrashingNode(policy_node.PolicyNode):
    def _decide(self, now_ns):
        if self._loop.instruction == "crash":
            raise RuntimeError("what nobody has thought of")
        return super()._decide(now_ns)


if __name__ == "__main__":
    policy_node.PolicyNode = CrashingNode
    policy_node.load = lambda config: StubPolicy(config.policy.views or 2)
    sys.exit(policy_node.main())
