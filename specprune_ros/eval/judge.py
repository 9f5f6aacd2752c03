"""Verdicts of an evaluation: each mode against the reference, by what was declared before the first episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from specprune_ros.eval import decision
from specprune_ros.eval.decision import ALPHA, MARGIN, Decision, Verdict
from specprune_ros.eval.exact import lower_limit
from specprune_ros.eval.record import Job, Record


@dataclass(frozen=True)
class Declared:
    """What is fixed before the first episode. margin: the loss of success [share] that is accepted; episodes, seed0:
    how many pairs of each suite are played, from which seed on."""

    episodes: int
    seed0: int = 0
    margin: float = MARGIN
    alpha: float = ALPHA
    sequential: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def verdict(pairs: Sequence[tuple[bool, bool]], planned: int, declared: Declared, as_declared: bool) -> dict:
    """The keys that a comparison with the reference gets. pairs: (mode, reference) in the order of the seeds.

    The fixed test may look once, so before all planned pairs are there nothing is proven. as_declared: whether the
    number of pairs is still the declared one; if it was changed after a look, the error is larger than alpha."""
    margin, alpha = declared.margin, declared.alpha
    keys: dict[str, object] = {"margin": margin, "alpha": alpha}
    if declared.sequential:
        made = decision.sequential(pairs, margin, alpha)
        return {**keys, "verdict": made.verdict.value, "pairs_judged": made.pairs, "method": made.method}
    only_mode = sum(mode and not reference for mode, reference in pairs)
    only_reference = sum(reference and not mode for mode, reference in pairs)
    made = decision.fixed(only_mode, only_reference, len(pairs), margin, alpha)
    complete = len(pairs) >= planned
    return {
        **keys,
        "verdict": made.verdict.value if complete else Verdict.NOT_PROVEN.value,
        "pairs_judged": len(pairs),
        "pairs_planned": planned,
        "as_declared": as_declared,
        "lower_limit": lower_limit(only_mode, only_reference, len(pairs), alpha),
        "method": made.method,
    }


def in_order(record: Record, suite: str, mode: str, reference: str, seeds: Sequence[int]) -> list[tuple[bool, bool]]:
    """(mode, reference) of the seeds from the first on, up to the first that lacks one of the two: workers finish out
    of order, and a test that took what comes first would prefer short episodes."""
    pairs = []
    for seed in seeds:
        jobs = Job(suite, mode, seed), Job(suite, reference, seed)
        if any(job not in record for job in jobs):
            break
        pairs.append((record[jobs[0]].success, record[jobs[1]].success))
    return pairs


class Stopper:
    """Which episodes a sequential evaluation still needs."""

    def __init__(self, record: Record, names: Sequence[str], reference: str, seeds: Sequence[int], declared: Declared):
        self._record, self._reference, self._seeds, self._declared = record, reference, seeds, declared
        self._others = [name for name in names if name != reference]
        self._made: dict[tuple[str, str], Decision] = {}

    def wants(self, job: Job) -> bool:
        """Whether the comparison that this episode belongs to is open; for the reference, whether any is."""
        modes = self._others if job.mode == self._reference else [job.mode]
        return any(not self._decided(job.suite, mode) for mode in modes)

    def _decided(self, suite: str, mode: str) -> bool:
        if (suite, mode) not in self._made:
            pairs = in_order(self._record, suite, mode, self._reference, self._seeds)
            made = decision.sequential(pairs, self._declared.margin, self._declared.alpha)
            if made.verdict is Verdict.NOT_PROVEN:
                return False
            self._made[suite, mode] = made
        return True
