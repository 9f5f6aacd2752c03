"""Tables of the reference documents, made from what they describe: parameters, commands, launch arguments, messages."""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from documents import ROOT, NotHere, Place, table

from specprune_ros.cli.main import SUBCOMMANDS, build_parser
from specprune_ros.config import Config, ConfigError, Parameter, parameters
from specprune_ros.prune.budgets import budget, schedule
from specprune_ros.types import Mode

LEVELS = (0.25, 0.5, 0.75, 1.0)
DEPTHS = {"OpenVLA-OFT 7B": 32, "the bundled policy": 12}
VIEWS, PATCHES = 2, 256


def parameter_table(place: Place | None = None) -> str:
    """Every parameter of the policy node, from config.py."""
    return _parameter_table(parameters())


def _parameter_table(rows: tuple[Parameter, ...]) -> str:
    cells = [
        (
            f"`{p.name}`",
            _default(p),
            p.range_text() or ", ".join(p.choices or ()),
            p.unit,
            "yes" if p.live else "",
            p.doc,
        )
        for p in rows
    ]
    return table(("parameter", "default", "range", "unit", "live", "what it does"), cells, right=())


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(f"`{item}`" for item in value)
    return f"`{value}`" if isinstance(value, str) and value else str(value)


def simulator_table(place: Place) -> str:
    """The simulator node's own parameters; its module needs ROS."""
    if importlib.util.find_spec("rclpy") is None:
        raise NotHere
    from specprune_ros.ros.sim_node import PARAMETERS

    rows = [
        (f"`{p.name}`", _default(p), p.range_text() or ", ".join(p.choices or ()), p.unit, p.doc) for p in PARAMETERS
    ]
    return table(("parameter", "default", "range", "unit", "what it does"), rows, right=())


def command_table(place: Place) -> str:
    """The options of one `specprune` subcommand; the marker names it."""
    if place.argument not in SUBCOMMANDS:
        raise ConfigError(f"block command: {place.argument!r} is not one of {', '.join(SUBCOMMANDS)}")
    parser = subparser(place.argument)
    rows = [(_option(action), _help(parser, action)) for action in parser._actions if action.help != argparse.SUPPRESS]
    return table(("option", "what it does"), [row for row in rows if row[0] != "`-h`, `--help`"], right=())


def subparser(name: str) -> argparse.ArgumentParser:
    """The parser of one subcommand, with its options."""
    parser = build_parser([name])
    choices = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    return choices[name]


def _option(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or '|'.join(action.choices or (action.dest,))}`"
    value = "" if action.nargs == 0 else f" {_value_name(action)}"
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings)


def _value_name(action: argparse.Action) -> str:
    if action.metavar:
        return str(action.metavar)
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def subcommand_table(place: Place) -> str:
    rows = [(f"`specprune {name}`", summary) for name, (_, summary) in SUBCOMMANDS.items()]
    return table(("command", "what it does"), rows, right=())


def make_table(place: Place) -> str:
    """The targets of the Makefile that say what they do."""
    targets = re.findall(r"^([a-z]+):.*?## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return table(("target", "what it does"), [(f"`make {name}`", text) for name, text in targets], right=())


def launch_table(place: Place) -> str:
    """The arguments of one launch file; the marker names it. Those of bringup.launch.py hold in the others as well."""
    rows = [(f"`{name}`", _shown(default), text) for name, default, text in launch_arguments(place.argument)]
    return table(("argument", "default", "what it does"), rows, right=())


def launch_arguments(name: str) -> tuple[tuple[str, str, str], ...]:
    """(name, default, what it does) of the arguments that a launch file itself declares."""
    path = ROOT / "launch" / f"{name}.launch.py"
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".launch.py") for file in path.parent.glob("*.launch.py")))
        raise ConfigError(f"block launch: {name!r} is not one of {known}")
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ARGUMENTS


def _shown(default: str) -> str:
    """A default without the folder of this checkout."""
    text = default.replace(f"{ROOT}/", "")
    return f"`{text}`" if text else ""


def interface_tables(place: Place) -> str:
    """All messages and services, one table each."""
    files = [*sorted((ROOT / "msg").glob("*.msg")), *sorted((ROOT / "srv").glob("*.srv"))]
    return "\n\n".join(_interface(path) for path in files)


def _interface(path: Path) -> str:
    kind = "srv" if path.suffix == ".srv" else "msg"
    about, rows = _fields(path.read_text(encoding="utf-8"))
    fields = table(("type", "name", "meaning"), rows, right=())
    return f"### specprune_ros/{kind}/{path.stem}\n\n{about}\n\n{fields}"


def _fields(text: str) -> tuple[str, list[tuple[str, str, str]]]:
    """The description at the head of an interface file, and its fields with their comments."""
    about: list[str] = []
    rows: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        declaration, _, comment = (part.strip() for part in line.partition("#"))
        if declaration == "---":
            rows.append(("", "(answer)", ""))
        elif declaration:
            kind, _, name = declaration.partition(" ")
            rows.append((f"`{kind}`", f"`{name.strip()}`", comment))
        elif comment and rows and not line.startswith("#"):  # the comment of the field above goes on
            rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} {comment}")
        elif comment and not rows:
            about.append(comment)
    return " ".join(about), rows


def folder_table(place: Place) -> str:
    """The folders of the package: what each says about itself, and what the import wall lets it import."""
    walls = _import_wall()
    rows = []
    for name, (third_party, own) in walls.items():
        file = ROOT / "specprune_ros" / name / "__init__.py"
        shown = f"`{name}/`" if file.is_file() else f"`{name}.py`"
        rows.append(
            (shown, _about(file if file.is_file() else file.parent.with_suffix(".py")), _listed(own), third_party)
        )
    return table(("part", "what it is", "parts it may import", "packages it may import"), rows, right=())


def budget_table(place: Place) -> str:
    """Visual tokens that are left of two views of 256, by aggressiveness and mode, with the default counts."""
    rows = []
    for level in LEVELS:
        pruning = Config().updated({"pruning.aggressiveness": level}).pruning
        for mode in (Mode.COARSE, Mode.FINE):
            counts = budget(pruning, mode, VIEWS, PATCHES, DEPTHS["OpenVLA-OFT 7B"])
            sets = (str(count) for count in (counts.k_global, counts.k_dynamic, counts.k_local))
            left = (str(count) for count in (VIEWS * counts.static_keep, *counts.dynamic_keep))
            rows.append((f"{level:g}", mode.value, *sets, *left))
    prunes = (f"prune {number}" for number in range(1, len(rows[0]) - 5))
    headings = ("aggressiveness", "mode", "K_G", "K_D", "K_L", "after static", *prunes)
    return table(headings, rows, right=range(2, len(headings)))


def layer_table(place: Place) -> str:
    """At which decoder layers something happens, counted from 1."""
    rows = []
    for name, depth in DEPTHS.items():
        when = schedule(depth)
        listed = (", ".join(map(str, layers)) for layers in (when.local, when.dynamic, when.remembered))
        rows.append((name, str(depth), *listed))
    headings = ("model", "layers", "local scores, static pruning after the last of them", "dynamic pruning", "reused")
    return table(headings, rows, right=(1,))


def _import_wall() -> dict[str, tuple[str, list[str]]]:
    """part -> (packages, our parts), from the test that holds it."""
    try:
        import pytest  # noqa: F401  the test's module needs it
    except ImportError:
        raise NotHere from None
    path = ROOT / "test" / "unit" / "test_imports.py"
    spec = importlib.util.spec_from_file_location("import_wall", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    walls = {}
    for name, (packages, own) in module.WALL.items():
        if packages is None:
            named = "any" if name == "ros" else "any but ROS"
        else:
            named = ", ".join(sorted(packages))
        walls[name] = (named, sorted(part for part in own if part != name))
    return walls


def _about(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = path.read_text(encoding="utf-8")
    docstring = re.search(r'"""(.*?)"""', text, re.DOTALL)
    return next(_sentences(docstring[1])) if docstring else ""


def _sentences(text: str) -> Iterator[str]:
    yield from re.split(r"(?<=\.)\s", " ".join(text.split()))


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
