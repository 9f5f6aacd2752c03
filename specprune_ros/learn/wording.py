"""Other words for the same task, for a share of the training episodes: a policy that has heard one sentence only fails
at the next. What an episode is told depends on its seed alone."""

from specprune_ros.sim.wording import SAME

REWORDED_EVERY = 6


def said(instruction: str, seed: int) -> str:
    """The instruction of a training episode: as it is, or, for every REWORDED_EVERY-th seed, in other words."""
    if seed % REWORDED_EVERY:
        return instruction
    turn = seed // REWORDED_EVERY
    for usual, others in SAME:
        if usual in instruction:
            instruction = instruction.replace(usual, others[turn % len(others)])
    return instruction
