"""ROS 2 parameter files, read before ROS reads them: a file that sets nothing on its node is a mistake, not a default.

rcl takes a file whose sections name other nodes, or none, without a word, and the node runs with its built-in limits.
What rcl refuses it refuses by ending the process. Here every mistake is a ConfigError with file, place and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specprune_ros.config import ConfigError, flattened

KEY = "ros__parameters"
FORM = f"expected '/**:' with '{KEY}:' indented below it, and the parameters below that"


@dataclass(frozen=True)
class Section:
    """What one section of a file sets."""

    node: str
    """The nodes it is for, absolute: /ns/name; * stands for one part of the name, ** for any number."""
    values: dict[str, object]
    """Dotted names to values."""

    def applies_to(self, node: str) -> bool:
        """node: fully qualified, e.g. /left/policy_node."""
        pattern = re.escape(self.node.lstrip("/"))
        for wildcard, meaning in ((r"\*\*/", "(.*/)?"), (r"\*\*", ".*"), (r"\*", "[^/]*")):
            pattern = pattern.replace(wildcard, meaning)
        return re.fullmatch(pattern, node.lstrip("/")) is not None


def read(path: str | Path) -> tuple[Section, ...]:
    """All sections of a file; ConfigError when it cannot be read or is no parameter file."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows the tuples that launch_ros writes for lists, into the files that it makes of a node's parameters."""

    def sequence(loader: Loader, node: yaml.SequenceNode) -> list:
        return loader.construct_sequence(node)

    Loader.add_constructor("tag:yaml.org,2002:python/tuple", sequence)
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=Loader)  # of a safe one
    except OSError as error:
        raise ConfigError(f"parameter file {path}: {error.strerror}; give the path of a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"parameter file {path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping):
        what = "it is empty" if document is None else f"it holds a {type(document).__name__}"
        raise ConfigError(f"parameter file {path}: {what}; {FORM}")
    return tuple(_sections(path, document, ""))


def check(paths: Sequence[str | Path], node: str) -> None:
    """ConfigError unless every file has a section for `node` (fully qualified, e.g. /left/policy_node)."""
    for path in paths:
        sections = read(path)
        if not any(section.applies_to(node) for section in sections):
            named = ", ".join(repr(section.node) for section in sections)
            raise ConfigError(
                f"parameter file {path}: nothing in it is for {node}; its sections are for {named or 'no node'}; "
                f"name the section '/**:' or '{node}:'"
            )


def given(arguments: Sequence[str]) -> list[str]:
    """The paths of --params-file among the ROS arguments of a command line."""
    ros = [word for word, is_ros in _ros_words(arguments) if is_ros]
    return [path for flag, path in zip(ros, ros[1:], strict=False) if flag == "--params-file"]


def empty_lists(arguments: Sequence[str]) -> list[str]:
    """Parameters to which a command line or its files give a list without values: a list that has no type in ROS."""
    values = {
        name: value for path in given(arguments) for section in read(path) for name, value in section.values.items()
    }
    ros = [word for word, is_ros in _ros_words(arguments) if is_ros]
    typed = (word.partition(":=") for flag, word in zip(ros, ros[1:], strict=False) if flag in ("-p", "--param"))
    values |= {name: [] for name, _, text in typed if re.fullmatch(r"\[\s*\]", text.strip())}
    return [name for name, value in values.items() if value == []]


def _ros_words(arguments: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every argument, and whether it is one of ROS: between --ros-args and -- or the end."""
    is_ros = False
    for word in arguments:
        if word in ("--ros-args", "--"):
            is_ros = word == "--ros-args"
        else:
            yield word, is_ros


def _sections(path: str | Path, names: Mapping[object, object], above: str) -> Iterator[Section]:
    """Sections below a namespace, which may be nested mappings or paths."""
    for key, value in names.items():
        place = repr(str(key))
        if key == KEY:
            raise ConfigError(f"parameter file {path}: '{KEY}:' stands below no node; {FORM}")
        node = f"{above}/{str(key).strip('/')}"
        if not isinstance(value, Mapping):
            hint = f"is empty; {FORM}" if value is None else f"is a value before '{KEY}:'; {FORM}"
            raise ConfigError(f"parameter file {path}: {place} {hint}")
        below = {name: item for name, item in value.items() if name != KEY}
        if KEY in value:
            yield Section(node, _values(path, value[KEY]))
        elif not below:
            raise ConfigError(f"parameter file {path}: section {place} has no '{KEY}:'; {FORM}")
        yield from _sections(path, below, node)


def _values(path: str | Path, content: object) -> dict[str, object]:
    if not isinstance(content, Mapping):
        what = "nothing stands" if content is None else f"{content!r} stands"
        raise ConfigError(f"parameter file {path}: {what} below '{KEY}:'; indent the parameters below it")
    values = dict(flattened(content))
    for name, value in values.items():
        if value is None:  # rcl refuses it, or makes it the text "null"
            raise ConfigError(f"parameter file {path}: {name} has no value; give one, or leave the key out")
        kinds = {type(item) for item in value} if isinstance(value, list) else set()
        if len(kinds) > 1:
            remedy = "write whole numbers with a point, as 1.0" if kinds == {int, float} else "give values of one type"
            raise ConfigError(f"parameter file {path}: {name}: {value} mixes types, which ROS does not take; {remedy}")
    return values
