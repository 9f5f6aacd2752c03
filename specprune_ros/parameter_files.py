"""ROS 2 parameter files, read before ROS reads them: a file that sets nothing on its node is a mistake, not a default.

rcl takes a file whose sections name other nodes, or none, without a word, and the node runs with its built-in limits.
So are the sections of a file that are meant for it and mistyped, beside others that are right.
What rcl refuses it refuses by ending the process. Here every mistake is a ConfigError with file, place and remedy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specprune_ros.config import ConfigError, flattened

KEY = "ros__parameters"
CLOSE = 0.85
"""Names of nodes that are as similar (difflib's ratio) are one name, mistyped: policy_node and policy_nod."""
OF_LAUNCH = "launch_params_"
"""What the files begin with that launch_ros writes for dictionaries, empty ones as well."""
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


def check(paths: Sequence[str | Path], node: str, names: Collection[str]) -> None:
    """ConfigError unless every file sets something on `node` (fully qualified, e.g. /left/policy_node), and no other
    section of it is meant for this node. names: the parameters that it declares."""
    for path in paths:
        sections = read(path)
        ours = [section for section in sections if section.applies_to(node)]
        # A file that names this node in its namespace may name the same node of another robot as well.
        several = any("*" not in section.node.split("/")[1] for section in ours)
        others = [
            section
            for section in sections
            if not section.applies_to(node) and not (several and _last(section.node) in ("*", "**", _last(node)))
        ]
        _something(path, sections, ours, node)
        for section in others:
            _meant_for_another(path, section, node, names)


def for_name(path: str | Path, name: str, names: Collection[str]) -> dict[str, object]:
    """What a file sets on the node `name` in any namespace, later ones over earlier ones; ConfigError as `check`."""
    sections = read(path)
    ours = [section for section in sections if _last(section.node) in ("**", "*", name)]
    _something(path, sections, ours, name)
    for section in sections:
        if section not in ours:
            _meant_for_another(path, section, name, names)
    return {parameter: value for section in ours for parameter, value in section.values.items()}


def _something(path: str | Path, sections: Sequence[Section], ours: Sequence[Section], node: str) -> None:
    if not ours:
        named = ", ".join(repr(section.node) for section in sections)
        raise ConfigError(
            f"parameter file {path}: nothing in it is for {node}; its sections are for {named or 'no node'}; "
            f"name the section '/**:' or '{node}:'"
        )
    if not any(section.values for section in ours) and not Path(path).name.startswith(OF_LAUNCH):
        named = ", ".join(repr(section.node) for section in ours)
        raise ConfigError(
            f"parameter file {path}: sets nothing on {node}: '{KEY}:' in section {named} is empty; give parameters "
            "below it, or leave the file out"
        )


def _meant_for_another(path: str | Path, section: Section, node: str, names: Collection[str]) -> None:
    """ConfigError for a section that is not for `node` and seems to be: it holds parameters that only this node has, or
    its name is nearly, or but for the namespace, this node's."""
    name, own = _last(section.node), _last(node)
    held = [parameter for parameter in section.values if parameter in names]
    if name == own:
        why = f"is not for {node}, although it ends in the same name"
    elif held:
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        why = f"sets {', '.join(held[:3])}{more}, but is not for {node}"
    elif difflib.SequenceMatcher(None, _plain(name), _plain(own)).ratio() >= CLOSE:
        why = f"is not for {node}, although its name is close"
    else:
        return
    raise ConfigError(
        f"parameter file {path}: section {section.node!r} {why}; name it '{node}:' or '/**:', or move it to the file "
        "of the node that it is for"
    )


def _last(node: str) -> str:
    return node.split("/")[-1]


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


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
