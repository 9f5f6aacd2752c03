"""Other words for the same task, which training hears and evaluation asks for."""

from __future__ import annotations

from collections.abc import Callable

SAME = (
    # (as the simulator says it, other ways)
    ("pick up the", ("lift the", "grab the", "take the")),
    ("put the", ("place the", "move the")),
    ("push the", ("move the",)),  # before the next line, whose words it would change
    ("press the button", ("push the button",)),
    (" and ", (" then ",)),
)
FRAMES = ("the robot should {}", "robot {}", "take action to {}")
"""Sentences around an instruction; no training hears them."""


def reworded(instruction: str, rng, strength: int, known: Callable[[str], bool]) -> str:
    """The instruction in other words, of those that are known. Strength 1: words that training hears as well; 2: a
    sentence around it that training never hears; 3: both. As it is where no other words are known."""
    if strength != 2:
        instruction = _one_of(_synonyms(instruction), rng, known) or instruction
    if strength >= 2:
        instruction = _one_of([frame.format(instruction) for frame in FRAMES], rng, known) or instruction
    return instruction


def _synonyms(instruction: str) -> list[str]:
    """Every way to say some parts of the instruction otherwise."""
    ways = [instruction]
    for usual, others in SAME:
        ways += [way.replace(usual, other) for way in ways if usual in instruction and usual in way for other in others]
    return ways[1:]


def _one_of(ways: list[str], rng, known: Callable[[str], bool]) -> str | None:
    ways = [way for way in ways if known(way)]
    return ways[rng.integers(len(ways))] if ways else None
