"""How far two ways to run one policy are apart: in actions, on the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specprune_ros.config import Config
from specprune_ros.types import InferenceRequest, Mode, Observation, PolicyMemory, Source

FRAME_OFFSET = 1


@dataclass(frozen=True)
class ActionError:
    """Differences of actions in the policy's units, in which most policies move at full speed by 1.

    tokens: share of the visual tokens kept by the one that the other kept as well, 1 where all are the same.
    """

    largest: float
    mean: float
    tokens: float
    inferences: int


def action_error(reference, other, observations: Sequence[Observation], config: Config, mode: Mode) -> ActionError:
    """Both `Policy`s see all observations in turn, each remembering its own past, under `config.pruning`."""
    differences, shared = [], []
    memories: list[PolicyMemory | None] = [None, None]
    before = observations[0]
    for now in observations:
        results = [
            policy.infer(InferenceRequest(0, now, before.images, FRAME_OFFSET, mode, memory, config.pruning))
            for policy, memory in zip((reference, other), memories, strict=True)
        ]
        memories, before = [result.memory for result in results], now
        ours, theirs = (result.chunk.actions for result in results)
        differences.append(np.abs(ours - theirs))
        kept, also = ((result.report.kept & int(Source.LAST_LAYER)) > 0 for result in results)
        shared.append((kept & also).sum() / kept.sum())
    errors = np.stack(differences)
    return ActionError(float(errors.max()), float(errors.mean()), float(np.mean(shared)), len(errors))
