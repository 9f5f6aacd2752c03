"""The one rule for what breaks a stream: after a gap, and after a jump back of its clock, nothing that was derived from
earlier measurements is used any more."""

from __future__ import annotations

from specprune_ros.types import NANOSECONDS


def clock_jumped_back(previous_ns: int | None, stamp_ns: int, period_ns: int) -> bool:
    """Whether a stream's stamp went back by a period or more; less is jitter or reordering."""
    return previous_ns is not None and stamp_ns <= previous_ns - period_ns


def interruption(previous_ns: int | None, stamp_ns: int, period_ns: int, timeout_s: float) -> str | None:
    """Why what was measured up to `previous_ns` says nothing about `stamp_ns`; None while the stream goes on.

    A gap is a pause of more than `timeout_s`, which is `control.observation_timeout`: then the older measurement had
    become too old to act on before the newer one was taken. So a slow camera has no gaps as long as its images may be
    acted on. period_ns: one control period.
    """
    if previous_ns is None:
        return None
    if clock_jumped_back(previous_ns, stamp_ns, period_ns):
        return f"the stamps went back by {(previous_ns - stamp_ns) / NANOSECONDS:.2f} s"
    pause_ns = stamp_ns - previous_ns
    if pause_ns > timeout_s * NANOSECONDS:
        return f"a gap of {pause_ns / NANOSECONDS:.2f} s (control.observation_timeout {timeout_s:.2f} s)"
    return None
