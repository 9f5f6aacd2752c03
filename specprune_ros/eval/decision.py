"""Is pruning as good as dense? Paired non-inferiority, with a margin that is declared before the first episode.

The difference is success of the variant minus success of the reference, on the same seeds. Three verdicts:

    proven       the variant loses less than the margin
    worse        the variant loses more than the margin
    not proven   the episodes do not decide it

`fixed` judges a number of pairs that was chosen beforehand. `Sequential` judges after every pair and may stop at any
time, without its error growing with the number of looks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from specprune_ros.eval.exact import exact_p

MARGIN, ALPHA = 0.02, 0.05
"""Two points, one-sided five per cent: what is used where nothing else is declared."""

FIXED_METHOD = "exact unconditional test of a paired difference, ordered by the score of Tango 1998"
SEQUENTIAL_METHOD = "betting martingale on a bounded mean (Waudby-Smith and Ramdas 2023), anytime-valid"


class Verdict(str, Enum):
    PROVEN = "proven"
    WORSE = "worse"
    NOT_PROVEN = "not proven"


@dataclass(frozen=True)
class Decision:
    """A verdict and what it rests on.

    evidence_for, evidence_against: p-values (one-sided) that the variant loses the margin or more, and at most the
    margin."""

    verdict: Verdict
    margin: float
    alpha: float
    pairs: int
    evidence_for: float
    evidence_against: float
    method: str


def fixed(only_variant: int, only_reference: int, pairs: int, margin: float = MARGIN, alpha: float = ALPHA) -> Decision:
    """The verdict of the exact test (exact.py) on `pairs` pairs, of which so many were won by one of the two alone.

    ValueError for counts that cannot be, or a margin or alpha out of range."""
    check(margin, alpha)
    if pairs < 1 or only_variant < 0 or only_reference < 0 or only_variant + only_reference > pairs:
        raise ValueError(
            f"fixed: {only_variant} and {only_reference} discordant of {pairs} pairs; need 0 <= their sum <= pairs"
        )
    better = exact_p(only_variant, only_reference, pairs, -margin)
    worse = exact_p(only_reference, only_variant, pairs, margin)
    verdict = Verdict.PROVEN if better <= alpha else Verdict.WORSE if worse <= alpha else Verdict.NOT_PROVEN
    return Decision(verdict, margin, alpha, pairs, better, worse, FIXED_METHOD)


class Sequential:
    """A wealth that grows while the pairs speak against "the variant loses the margin or more", and one for the
    opposite.

    Each pair's difference x is -1, 0 or 1. Under the hypothesis that its mean is at most -margin, the wealth prod(1 +
    bet (x + margin)) is a supermartingale for any bets that look only at the past and keep it positive, so by Ville's
    inequality it exceeds 1 / alpha with a probability of at most alpha, ever (Ville 1939; Waudby-Smith and Ramdas
    2023, "Estimating means of bounded random variables by betting"). The bets are their aGRAPA: of the past mean and
    variance, cut so that no pair can take all."""

    def __init__(self, margin: float = MARGIN, alpha: float = ALPHA):
        check(margin, alpha)
        self.margin, self.alpha = margin, alpha
        self.pairs = 0
        self._made = Verdict.NOT_PROVEN
        self._log_for = self._log_against = 0.0
        self._most_for = self._most_against = 0.0
        # A prior of one half-discordant pair: the first bets are careful.
        self._sum, self._squares, self._weight = 0.0, 0.25, 1.0

    def add(self, variant: bool, reference: bool) -> Decision:
        """One more pair, in the order of the seeds; the decision so far. It never changes once it is made."""
        x = float(variant) - float(reference)
        edge = x + self.margin
        bet_for, bet_against = self._bets()
        self._log_for += math.log1p(bet_for * edge)
        self._log_against += math.log1p(-bet_against * edge)
        self._most_for = max(self._most_for, self._log_for)
        self._most_against = max(self._most_against, self._log_against)
        self._sum, self._squares, self._weight = self._sum + x, self._squares + x * x, self._weight + 1.0
        self.pairs += 1
        return self.decision()

    def decision(self) -> Decision:
        better, worse = math.exp(-self._most_for), math.exp(-self._most_against)
        if self._made is Verdict.NOT_PROVEN and min(better, worse) <= self.alpha:
            self._made = Verdict.PROVEN if better <= self.alpha else Verdict.WORSE
        return Decision(self._made, self.margin, self.alpha, self.pairs, better, worse, SEQUENTIAL_METHOD)

    def _bets(self) -> tuple[float, float]:
        """Growth-optimal for the past mean and variance, and never so much that one pair could take all."""
        mean = self._sum / self._weight
        variance = max(self._squares / self._weight - mean * mean, 1e-4)
        edge = mean + self.margin
        best = edge / (variance + edge * edge)
        return (
            min(max(best, 0.0), 0.9 / (1.0 - self.margin)),
            min(max(-best, 0.0), 0.9 / (1.0 + self.margin)),
        )


def sequential(outcomes: Iterable[tuple[bool, bool]], margin: float = MARGIN, alpha: float = ALPHA) -> Decision:
    """The decision after (variant, reference) pairs in their order, at the pair that decides, else after all of
    them."""
    test = Sequential(margin, alpha)
    for variant, reference in outcomes:
        if (decision := test.add(variant, reference)).verdict is not Verdict.NOT_PROVEN:
            return decision
    return test.decision()


def check(margin: float, alpha: float) -> None:
    """ValueError unless 0 < margin < 1 and 0 < alpha < 0.5."""
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin is {margin}; give a share of the episodes between 0 and 1, for example 0.02")
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; give an error probability between 0 and 0.5, for example 0.05")
