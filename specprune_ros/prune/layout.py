"""The one object that knows where every token of the sequence stands.

`[BOS] [view 1: N patches] ... [view V: N patches] [proprio]? [rest of prompt] [placeholders] [stop]`
(docs/reference/openvla_oft.md). Visual tokens are contiguous, and everything after them (the tail) is protected, so
positions in the tail are counted from the end and stay valid whatever leaves from the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

TASK, READOUT, PLACEHOLDERS = "task", "readout", "placeholders"
"""Names of rows that may be asked what they attend to: the instruction's words, the rows whose states are read, and the
action placeholders."""


@dataclass(frozen=True)
class Layout:
    """Spans of one sequence. `task` = (first, last + 1) of the instruction's own words within the prompt after BOS."""

    views: int
    patches: int
    proprio: int
    prompt: int
    task: tuple[int, int]
    placeholders: int

    FIRST_VISUAL = 1
    STOP = 1

    @property
    def visual(self) -> int:
        """Visual tokens of all views."""
        return self.views * self.patches

    @property
    def tail(self) -> int:
        """Tokens after the visual ones."""
        return self.proprio + self.prompt + self.placeholders + self.STOP

    @property
    def length(self) -> int:
        """Tokens of the whole sequence, before anything is pruned."""
        return self.FIRST_VISUAL + self.visual + self.tail

    def task_rows(self, length: int) -> slice:
        """Rows of the instruction's words in a sequence of which `length` tokens are left."""
        first = length - self.tail + self.proprio
        return slice(first + self.task[0], first + self.task[1])

    def readout_rows(self, length: int) -> slice:
        """Rows whose states are read: as many as placeholders, starting ONE BEFORE the first placeholder."""
        end = length - self.STOP - 1
        return slice(end - self.placeholders, end)

    def rows(self, name: str, length: int) -> slice:
        """Rows of one of the names above, likewise; KeyError for another name."""
        if name == PLACEHOLDERS:
            return slice(length - self.STOP - self.placeholders, length - self.STOP)
        return {TASK: self.task_rows, READOUT: self.readout_rows}[name](length)

    def visual_present(self, length: int) -> int:
        """How many visual tokens a sequence of `length` tokens still has."""
        return length - self.FIRST_VISUAL - self.tail
