"""What a node counts, from its start on, also over several activations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """What happened since the start."""

    ticks: int = 0
    commands: int = 0
    """periods with a command; the safety gate may still keep it back"""
    holds: int = 0
    requests: int = 0
    """also the number of the newest chunk"""
    accepted: int = 0
    ignored: int = 0
    """results for an old instruction or from before a reset"""
    failures: int = 0
    """inferences that raised or returned an unusable chunk"""
    deadline_misses: int = 0
    """ticks that ran out of chunk while an inference was outstanding"""
    replans: int = 0
    """chunks dropped on a coarse -> fine switch"""
    resets: int = 0
    bad_inputs: int = 0
    dropped_steps: int = 0
    """steps of accepted chunks that passed during inference"""
    limited: int = 0
    """commands that a limit changed"""
