"""What a checkpoint must satisfy, cheap demands first; each stands here once.

The node's loading raises the first demand that is not met, before it reads a weight (`require`); `checkpoint verify`
and `checkpoint inspect` list them all (`examine`). What then only the weights can tell, checksums and finite values, is
demanded by `load_checkpoint` and checked by `model.verify` with the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from specprune_ros.config import Config, ConfigError, check_views
from specprune_ros.model.checkpoint import Opened, open_checkpoint
from specprune_ros.model.checksums import read_listing
from specprune_ros.model.config import ModelConfig
from specprune_ros.model.errors import Unfit
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.statistics import Statistics, datasets, read_statistics, statistics_table
from specprune_ros.model.units import meaning
from specprune_ros.types import ACTION_DIMS, PROPRIO_DIMS, BadInput

ACTIONS = "actions"
"""The demand whose finding says what the policy's actions mean."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    ok: None when it could not be made; detail: what was seen, or what is wrong and the remedy; unfit: the files are in
    order, only the node does not run them with these parameters; doubt: what deserves a look although the demand is
    met.
    """

    check: str
    ok: bool | None
    detail: str
    unfit: bool = False
    doubt: str = ""


@dataclass
class Candidate:
    """A checkpoint under examination, and what has been read of it so far."""

    folder: Path
    config: Config
    opened: Opened | None = None
    statistics: Statistics | None = None
    prompt: PromptEncoder | None = None


@dataclass(frozen=True)
class Seen:
    """What a demand that is met has to tell."""

    detail: str
    doubt: str = ""


def examine(folder: Path, config: Config) -> Iterator[Finding]:
    """Every demand in turn; a demand that needs what an unmet one would have read is not checked (ok None)."""
    candidate = Candidate(folder, config)
    for check, needs, demand in DEMANDS:
        if any(getattr(candidate, name) is None for name in needs):
            yield Finding(check, None, f"not checked: needs {' and '.join(NEEDS[name] for name in needs)} in order")
        else:
            yield finding(check, lambda demand=demand: demand(candidate))


def require(folder: Path, config: Config) -> list[Finding]:
    """The findings when every demand is met; CheckpointError or ConfigError of the first that is not."""
    candidate, findings = Candidate(folder, config), []
    for check, _, demand in DEMANDS:
        seen = demand(candidate)
        findings.append(Finding(check, True, seen.detail, doubt=seen.doubt))
    return findings


def finding(check: str, look: Callable[[], Seen]) -> Finding:
    """Run one check: `look` returns what it saw, or raises."""
    try:
        seen = look()
    except (BadInput, ConfigError) as error:
        return Finding(check, False, str(error), unfit=isinstance(error, (Unfit, ConfigError)))
    return Finding(check, True, seen.detail, doubt=seen.doubt)


def check_dimensions(model: ModelConfig, folder: Path) -> None:
    """Unfit unless the policy predicts what this node commands, from what it measures."""
    if model.action_dims != ACTION_DIMS:
        raise Unfit(
            f"{folder}: predicts {model.action_dims} action dimensions; this node commands {ACTION_DIMS} (translation, "
            "rotation, gripper); give a policy for one arm with end-effector actions"
        )
    if model.proprio_dims not in (0, PROPRIO_DIMS):
        raise Unfit(
            f"{folder}: the policy wants {model.proprio_dims} proprio values; this node measures {PROPRIO_DIMS} "
            "(position, axis-angle rotation, two fingers); give a policy that takes these, or none"
        )


def _files(candidate: Candidate) -> Seen:
    listed = read_listing(candidate.folder)
    candidate.opened = opened = open_checkpoint(candidate.folder, candidate.config.policy)
    count = len({opened.stored.entries[piece.stored].file for piece in opened.plan})
    sums = f", {len(listed)} files listed with checksums" if listed else ""
    return Seen(f"{len(opened.plan)} tensors in {count} files{sums}")


def _dimensions(candidate: Candidate) -> Seen:
    model = candidate.opened.config
    check_dimensions(model, candidate.folder)
    return Seen(f"{model.action_dims} action dimensions, {model.proprio_dims or 'no'} proprio values")


def _views(candidate: Candidate) -> Seen:
    model = candidate.opened.config
    check_views(candidate.config.topics, model.views)
    return Seen(f"{model.views} views for {len(candidate.config.topics.images)} topics")


def _statistics(candidate: Candidate) -> Seen:
    """Of the dataset that is used; what is wrong with others is only a doubt."""
    c, key = candidate.opened.config, candidate.config.policy.unnorm_key
    where, table = statistics_table(candidate.folder)

    def read(name: str) -> Statistics:
        return read_statistics(candidate.folder, name, c.normalisation, c.action_dims, c.proprio_dims)

    candidate.statistics = read(key)
    others = [name for name in datasets(table) if name != candidate.statistics.key]
    broken = [f for name in others if not (f := finding(name, lambda name=name: Seen(read(name).key))).ok]
    among = f" of {len(others) + 1} datasets" if others else ""
    return Seen(
        f"{candidate.statistics.key}{among}, {c.normalisation}",
        f"another dataset cannot be used: {broken[0].detail}" if broken else "",
    )


def _tokenizer(candidate: Candidate) -> Seen:
    candidate.prompt = encoder = PromptEncoder.read(candidate.folder, candidate.opened.config)
    words = encoder.known_instruction()
    prompt = encoder.encode(words)
    return Seen(f"{words!r} is {len(prompt.ids)} tokens, {prompt.task[1] - prompt.task[0]} of them its words")


def _instruction(candidate: Candidate) -> Seen:
    """The instruction that the parameters bring along; others come later, and are judged one by one."""
    instruction = candidate.config.instruction
    if not instruction.strip():
        return Seen("none given; it comes by topic or parameter")
    try:
        candidate.prompt.encode(instruction)
    except BadInput as error:
        raise Unfit(f"the parameter instruction cannot be used: {error}") from error
    return Seen(f"{instruction!r} is understood")


def _actions(candidate: Candidate) -> Seen:
    config = candidate.config
    means = meaning(candidate.statistics, config.action, candidate.opened.config.action_units, config.control.rate)
    return Seen(means.text, means.doubt)


NEEDS = {"opened": "files and shapes", "statistics": "statistics", "prompt": "tokenizer"}
"""What of a candidate is read by which demand."""
DEMANDS: tuple[tuple[str, tuple[str, ...], Callable[[Candidate], Seen]], ...] = (
    ("files and shapes", (), _files),
    ("dimensions", ("opened",), _dimensions),
    ("views", ("opened",), _views),
    ("statistics", ("opened",), _statistics),
    (ACTIONS, ("statistics",), _actions),
    ("tokenizer", ("opened",), _tokenizer),
    ("instruction", ("prompt",), _instruction),
)
