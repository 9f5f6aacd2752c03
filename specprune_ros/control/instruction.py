"""Which instruction is in force: the last word, whichever way it came."""

from __future__ import annotations


class Instruction:
    """The one rule: whoever speaks last is obeyed.

    It does not matter how something was said (topic or parameter), when (active, inactive, before the policy was
    loaded), or what: an empty text means "stop", and stays in force until somebody says something else. A publisher
    that repeats itself speaks each time. Repeating what is in force changes nothing; repeating an older word after
    somebody else has spoken is a new word and wins, and the change is reported with both sides, so that it is never
    silent. A publisher that only wants to reach late listeners is better latched (transient local) than repeated."""

    def __init__(self, text: str, source: str):
        """source: who says it, for people."""
        self.text = text.strip()
        self.source = source

    def say(self, text: str, source: str) -> str | None:
        """Somebody speaks: a report in one line when that changes what is in force, else None."""
        before, spoken_by = self.text, self.source
        self.text, self.source = text.strip(), source
        if self.text == before:
            return None
        if not self.text:
            return f"instruction: none, {source} emptied it (before: {before!r} from {spoken_by})"
        if not before:
            return f"instruction: {self.text!r} from {source}"
        return f"instruction: {self.text!r} from {source} (before: {before!r} from {spoken_by})"
