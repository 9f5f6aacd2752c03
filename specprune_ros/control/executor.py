"""Time-indexed execution of action chunks: step i of a chunk belongs to the chunk's stamp + i periods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specprune_ros.config import Control
from specprune_ros.types import ACTION_DIMS, NANOSECONDS, ActionChunk, BadInput, ChunkStep, Hold

_GRIPPER = 6


@dataclass
class _Plan:
    """A chunk on the tick grid.

    actions: (T, 7), the chunk with its seam blended in; start_ns: the tick of step 0; end: first step at which the next
    chunk should be there; next_step: first step not commanded yet.
    """

    chunk: ActionChunk
    actions: np.ndarray
    start_ns: int
    end: int
    next_step: int = 0


class ChunkExecutor:
    """Commands the step of the newest chunk that belongs to the present.

    The stamp of a chunk falls anywhere between two ticks. It is snapped once to the nearest tick, when the chunk takes
    over; from then on jitter of the timer below half a period neither skips nor repeats a step.
    """

    def __init__(self, period_ns: int):
        self._period_ns = period_ns
        self._plan: _Plan | None = None
        self._waiting: ActionChunk | None = None
        self.clear()

    @property
    def has_chunk(self) -> bool:
        """A chunk is held, though it may have run out."""
        return self._plan is not None or self._waiting is not None

    def accept(self, chunk: ActionChunk, now_ns: int) -> int:
        """Take over a new chunk at the next command; returns how many of its steps have passed already.

        BadInput when the actions are not finite or not (T, 7).
        """
        check_chunk(chunk)
        self._waiting = chunk
        return min(self._nearest_step(now_ns - chunk.stamp_ns), len(chunk.actions))

    def command(self, now_ns: int, control: Control) -> ChunkStep | Hold:
        """What to do in the period that starts now."""
        if self._waiting is not None:
            self._plan = self._begin(self._waiting, now_ns, control)
            self._waiting = None
        plan = self._plan
        if plan is None:
            return Hold(self._why_empty)
        age_s = (now_ns - plan.chunk.stamp_ns) / NANOSECONDS
        if age_s > control.chunk_timeout:
            return Hold(
                f"action chunk {plan.chunk.chunk_id} is {age_s:.2f} s old (limit {control.chunk_timeout:.2f} s); "
                "check that inference keeps up, or raise control.chunk_timeout"
            )
        step = self._step(plan, now_ns)
        if step >= len(plan.actions):
            return Hold(
                f"action chunk {plan.chunk.chunk_id} ran out: it has {len(plan.actions)} steps and "
                f"step {step + 1} is due, {age_s:.2f} s after its observation; raise control.lead_steps "
                f"({control.lead_steps}) or pruning.aggressiveness"
            )
        plan.next_step = step + 1
        return ChunkStep(plan.actions[step], plan.chunk.chunk_id, step, age_s)

    def remaining_steps(self, now_ns: int, control: Control) -> int:
        """Steps still to be commanded, from now on, before the next chunk should be there."""
        if self._waiting is not None:
            first = self._nearest_step(now_ns - self._waiting.stamp_ns)
            return max(0, self._end(self._waiting, first, control) - first)
        if self._plan is None:
            return 0
        return max(0, self._plan.end - max(self._step(self._plan, now_ns), self._plan.next_step))

    def drop(self) -> None:
        """Give up the rest of the running chunk because a better one is asked for; one that just arrived is kept."""
        self._plan = None
        self._why_empty = "replanning: the arm slowed down into fine mode; waiting for the next inference"

    def clear(self) -> None:
        """Forget everything: the past says nothing about what to do now."""
        self._plan = None
        self._waiting = None
        self._why_empty = "no action chunk yet; waiting for the first inference"

    def _begin(self, chunk: ActionChunk, now_ns: int, control: Control) -> _Plan:
        first = self._nearest_step(now_ns - chunk.stamp_ns)
        actions = self._blended(chunk.actions, first, now_ns, control)
        start_ns = now_ns - first * self._period_ns
        return _Plan(chunk, actions, start_ns, self._end(chunk, first, control))

    def _blended(self, actions: np.ndarray, first: int, now_ns: int, control: Control) -> np.ndarray:
        """The new actions, whose first steps are blended with the remaining steps of the old chunk. Only the arm's
        motion is blended: the gripper's values are those of the new chunk."""
        old = self._plan
        if old is None or (now_ns - old.chunk.stamp_ns) / NANOSECONDS > control.chunk_timeout:
            return actions
        old_first = self._step(old, now_ns)
        count = min(control.blend_steps, len(old.actions) - old_first, len(actions) - first)
        if count <= 0:
            return actions
        weight = np.arange(1, count + 1)[:, None] / (count + 1)
        blended = actions.copy()
        arm = blended[first : first + count, :_GRIPPER]
        arm *= weight
        arm += (1.0 - weight) * old.actions[old_first : old_first + count, :_GRIPPER]
        return blended

    def _end(self, chunk: ActionChunk, first: int, control: Control) -> int:
        """The step at which the next chunk should be there: enough executed, none left, or too old."""
        in_time = int(control.chunk_timeout * NANOSECONDS) // self._period_ns + 1
        return min(len(chunk.actions), first + control.execute_steps, in_time)

    def _step(self, plan: _Plan, now_ns: int) -> int:
        return self._nearest_step(now_ns - plan.start_ns)

    def _nearest_step(self, elapsed_ns: int) -> int:
        return max(0, (elapsed_ns + self._period_ns // 2) // self._period_ns)


def check_chunk(chunk: ActionChunk) -> None:
    """BadInput unless the actions are finite and (T, 7)."""
    actions = chunk.actions
    if actions.ndim != 2 or actions.shape[0] < 1 or actions.shape[1] != ACTION_DIMS:
        raise BadInput(
            f"action chunk {chunk.chunk_id} has shape {actions.shape}, expected (T, {ACTION_DIMS}); check the policy's "
            "action head"
        )
    if not np.isfinite(actions).all():
        count = int(np.count_nonzero(~np.isfinite(actions)))
        raise BadInput(
            f"action chunk {chunk.chunk_id} has {count} values that are not finite; check the policy's weights "
            "and inputs"
        )
