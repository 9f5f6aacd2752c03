"""What a checkpoint must satisfy, cheap demands first; each stands here once.

The node's loading raises the first demand that is not met, before it reads a weight (`require`); `checkpoint verify`
and `checkpoint inspect` list them all (`examine`). What then only the weights can tell, checksums and finite values, is
demanded by `load_checkpoint` and checked by `model.verify` with the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Seen:
    """What a demand that is met has to tell. value: what was read, for the demands that need it."""

    detail: str
    doubt: str = ""
    value: Any = None


def examine(folder: Path, config: Config) -> Iterator[Finding]:
    """Every demand in turn; one that needs what an unmet one would have read is not checked (ok None)."""
    known: dict[str, Any] = {}
    for check, needs, demand in DEMANDS:
        if unmet := [name for name in needs if name not in known]:
            yield Finding(check, None, f"not checked: needs {unmet[0]} in order")
            continue
        try:
            seen = demand(folder, config, *(known[name] for name in needs))
        except (BadInput, ConfigError) as error:
            yield _unmet(check, error)
        else:
            known[check] = seen.value
            yield _met(check, seen)


def require(folder: Path, config: Config) -> list[Finding]:
    """The findings when every demand is met; CheckpointError or ConfigError of the first that is not."""
    known: dict[str, Any] = {}
    findings = []
    for check, needs, demand in DEMANDS:
        seen = demand(folder, config, *(known[name] for name in needs))
        known[check] = seen.value
        findings.append(_met(check, seen))
    return findings


def finding(check: str, look: Callable[[], Seen]) -> Finding:
    """Run one check: `look` returns what it saw, or raises."""
    try:
        return _met(check, look())
    except (BadInput, ConfigError) as error:
        return _unmet(check, error)


def _met(check: str, seen: Seen) -> Finding:
    return Finding(check, True, seen.detail, doubt=seen.doubt)


def _unmet(check: str, error: Exception) -> Finding:
    return Finding(check, False, str(error), unfit=isinstance(error, (Unfit, ConfigError)))


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


def _files(folder: Path, config: Config) -> Seen:
    listed = read_listing(folder)
    opened = open_checkpoint(folder, config.policy)
    count = len({opened.stored.entries[piece.stored].file for piece in opened.plan})
    sums = f", {len(listed)} files listed with checksums" if listed else ""
    return Seen(f"{len(opened.plan)} tensors in {count} files{sums}", value=opened)


def _dimensions(folder: Path, config: Config, opened: Opened) -> Seen:
    model = opened.config
    check_dimensions(model, folder)
    return Seen(f"{model.action_dims} action dimensions, {model.proprio_dims or 'no'} proprio values")


def _views(folder: Path, config: Config, opened: Opened) -> Seen:
    check_views(config.topics, opened.config.views)
    return Seen(f"{opened.config.views} views for {len(config.topics.images)} topics")


def _statistics(folder: Path, config: Config, opened: Opened) -> Seen:
    """Of the dataset that is used; what is wrong with others is only a doubt."""
    c = opened.config

    def read(name: str) -> Statistics:
        return read_statistics(folder, name, c.normalisation, c.action_dims, c.proprio_dims)

    chosen = read(config.policy.unnorm_key)
    others = [name for name in datasets(statistics_table(folder)[1]) if name != chosen.key]
    among = f" of {len(others) + 1} datasets" if others else ""
    return Seen(f"{chosen.key}{among}, {c.normalisation}", _broken(read, others), chosen)


def _broken(read: Callable[[str], Statistics], names: list[str]) -> str:
    """What is wrong with the first dataset that cannot be used; empty where all can."""
    for name in names:
        try:
            read(name)
        except BadInput as error:
            return f"another dataset cannot be used: {error}"
    return ""


def _actions(folder: Path, config: Config, opened: Opened, statistics: Statistics) -> Seen:
    means = meaning(statistics, config.action, opened.config.action_units, config.control.rate)
    return Seen(means.text, means.doubt)


def _tokenizer(folder: Path, config: Config, opened: Opened) -> Seen:
    encoder = PromptEncoder.read(folder, opened.config)
    words = encoder.known_instruction()
    prompt = encoder.encode(words)
    count = prompt.task[1] - prompt.task[0]
    return Seen(f"{words!r} is {len(prompt.ids)} tokens, {count} of them its words", value=encoder)


def _instruction(folder: Path, config: Config, encoder: PromptEncoder) -> Seen:
    """The instruction that the parameters bring along; others come later, and are judged one by one."""
    instruction = config.instruction
    if not instruction.strip():
        return Seen("none given; it comes by topic or parameter")
    try:
        encoder.encode(instruction)
    except BadInput as error:
        raise Unfit(f"the parameter instruction cannot be used: {error}") from error
    return Seen(f"{instruction!r} is understood")


FILES, STATISTICS, TOKENIZER = "files and shapes", "statistics", "tokenizer"
DEMANDS: tuple[tuple[str, tuple[str, ...], Callable[..., Seen]], ...] = (
    (FILES, (), _files),
    ("dimensions", (FILES,), _dimensions),
    ("views", (FILES,), _views),
    (STATISTICS, (FILES,), _statistics),
    (ACTIONS, (FILES, STATISTICS), _actions),
    (TOKENIZER, (FILES,), _tokenizer),
    ("instruction", (TOKENIZER,), _instruction),
)
"""(name, the demands whose values it needs, the demand)."""
