"""The one inference that is under way, and what the last one left."""

from __future__ import annotations

from specprune_ros.types import BadInput, InferenceRequest, InferenceResult, PolicyMemory


class Asked:
    """At most one request is outstanding. One that was asked for before a reset is obsolete: its answer is put aside,
    but until then it occupies the policy."""

    def __init__(self, chunk_steps: int):
        """chunk_steps: actions in a chunk, as the policy promises."""
        self._chunk_steps = chunk_steps
        self.chunk_id: int | None = None
        """Of the request that is under way; None while there is none."""
        self._obsolete = False
        self._since_ns = 0
        self.forget()

    def forget(self) -> None:
        """What was inferred up to now must not move the arm."""
        self.memory: PolicyMemory | None = None
        self.inferred_ns: int | None = None
        """Stamp of the newest observation that was handed to the policy."""
        self.error: str | None = None
        """Why the newest inference was of no use; None after a good one."""
        self._obsolete = self.chunk_id is not None

    def begin(self, request: InferenceRequest, now_ns: int) -> None:
        self.chunk_id, self._since_ns, self._obsolete = request.chunk_id, now_ns, False
        self.inferred_ns = request.observation.stamp_ns

    def explained(self, reason: str, now_ns: int, newest_ns: int | None) -> str:
        """Why there is no step of a chunk: `reason`, and what is known about the next chunk.

        newest_ns: stamp of the newest frame, None where there was no chunk yet."""
        if self.chunk_id is not None:
            reason += f"; inference {self.chunk_id} has been running for {(now_ns - self._since_ns) * 1e-9:.2f} s"
        elif newest_ns is not None and self.inferred_ns is not None and newest_ns <= self.inferred_ns:
            reason = (
                f"waiting for a new image: the newest is {(now_ns - newest_ns) * 1e-9:.2f} s old, the policy has seen "
                "it, and the chunk that came of it ran out; raise the rate of the slowest camera"
            )
        return f"{self.error}; {reason}" if self.error else reason

    def answered(self, result: InferenceResult, instruction: str) -> bool:
        """Whether this is the answer to the request, and still of use for the task that is in force."""
        if result.chunk.chunk_id != self.chunk_id:
            return False
        self.chunk_id = None
        return not self._obsolete and result.chunk.instruction == instruction

    def check_length(self, result: InferenceResult) -> None:
        """BadInput when a chunk has other than the promised steps."""
        shape = result.chunk.actions.shape
        if shape[:1] != (self._chunk_steps,):
            raise BadInput(f"action chunk has shape {shape}, the policy promised {self._chunk_steps} steps")

    def good(self, memory: PolicyMemory) -> None:
        self.memory, self.error = memory, None

    def bad(self, chunk_id: int | None, error: Exception) -> None:
        """An inference failed, or its answer cannot be used."""
        if chunk_id is not None and not self._obsolete:
            self.error = f"inference {chunk_id} failed: {error}"
        self.chunk_id = None
