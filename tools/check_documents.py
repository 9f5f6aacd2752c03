"""Follows what the documents say: `python tools/check_documents.py`. Prints what is wrong; status 1 when something is.

Checked are links and their anchors, citations in code, commands with their options, parameters, files, messages that
troubleshooting quotes, and the width of lines. Every check yields problems in words, so that a test can run it as well.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also where PYTHONSAFEPATH is set

import yaml
from documents import ROOT, documents
from reference_tables import launch_arguments, subparser

from specprune_ros.cli.main import SUBCOMMANDS, build_parser
from specprune_ros.cli.options import parse_value
from specprune_ros.config import Config, ConfigError, flattened, lookup, parameters

PACKAGE = ROOT / "specprune_ros"
WIDEST, README_LINES = 120, 130
EXECUTABLES = ("policy_node", "sim_node")

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CITATION = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)*\w[\w.-]*\.md)\b")
SECTION = re.compile(r"(?:\((docs/[\w/]+\.md), ([^);]+)\)|Source: (docs/[\w/]+\.md), ([^.;]+)\.)")
FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|xml|sdf|srdf|json|md|sh|msg|srv|rviz)")
FOREIGN = ("franka_", "vla-scripts/")
"""Beginnings of paths that belong to other people's packages."""
COMMANDS = ("specprune", "make", "ros2", "python")


def without_code(text: str) -> str:
    return FENCE.sub("", COMMENT.sub("", text))


def prose(text: str) -> str:
    """The text without comments and code blocks: what is left has links and code spans."""
    return without_code(text)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    found: dict[str, int] = {}
    for heading in HEADING.findall(without_code(path.read_text(encoding="utf-8"))):
        found[slug(heading)] = found.get(slug(heading), 0) + 1
    repeated = {f"{name}-{number}" for name, count in found.items() for number in range(1, count)}
    return set(found) | repeated


def bad_links(path: Path) -> Iterator[str]:
    """Relative links to files or anchors that are not there."""
    for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        aim = (path.parent / target).resolve() if target else path
        if not aim.exists():
            yield f"{path.name}: {link}: no such file"
        elif anchor and anchor not in anchors(aim):
            yield f"{path.name}: {link}: {aim.name} has no heading for it"


def bad_commands(text: str) -> Iterator[str]:
    """Commands in code blocks that would not be understood, and names and options in code spans that do not exist."""
    for _, language, body in FENCE.findall(COMMENT.sub("", text)):
        if language in ("bash", ""):
            for line in body.replace("\\\n", " ").splitlines():
                yield from _bad_command(line, whole=True)
    for span in SPAN.findall(prose(text)):
        yield from _bad_command(span, whole=False)


def _bad_command(line: str, whole: bool) -> Iterator[str]:
    line = line.strip().removeprefix(".venv/bin/")
    if not line.startswith(tuple(f"{name} " for name in COMMANDS)):
        return
    try:
        name, *words = shlex.split(line, comments=True)
    except ValueError:  # a string that goes on in the next line
        return
    checks = {"specprune": _bad_specprune, "make": _bad_make, "ros2": _bad_ros2, "python": _bad_python}
    yield from (f"`{line}`: {problem}" for problem in checks[name](words, whole))


def _bad_specprune(words: list[str], whole: bool) -> Iterator[str]:
    if words[0] not in SUBCOMMANDS:
        yield f"{words[0]} is no subcommand"
        return
    if whole:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                args = build_parser(words).parse_args(words)
            except SystemExit:
                yield said.getvalue().strip().splitlines()[-1]
                return
        changes = getattr(args, "changes", [])
    else:
        known = subparser(words[0])._option_string_actions
        yield from (f"{word} is no option" for word in words if word.startswith("--") and word not in known)
        changes = [after for word, after in zip(words, words[1:], strict=False) if word == "--set"]
    for change in changes:
        yield from _bad_value(*change.split("=", 1))


def _bad_value(name: str, text: str, live: bool = False) -> Iterator[str]:
    if re.fullmatch(r"[A-Z]+", text):  # a placeholder
        return
    try:
        parameter = lookup(name)
        parameter.check(parse_value(parameter, text))
    except ConfigError as error:
        yield str(error)
    else:
        if live and not parameter.live:
            yield f"{name} is not live"


def _bad_make(words: list[str], whole: bool) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = [word for word in words if "=" not in word and not word.startswith("-")]
    yield from (f"the Makefile has no target {word}" for word in named if word not in targets and word != "...")
    for word in words:
        if word.startswith("ARGS=") and named[:1] == ["demo"]:
            yield from _bad_specprune(["demo", *shlex.split(word.removeprefix("ARGS="))], whole=True)


def _bad_ros2(words: list[str], whole: bool) -> Iterator[str]:
    match words:
        case ["launch", "specprune_ros", file, *given] if not file.isupper():
            name = file.removesuffix(".launch.py")
            if not (ROOT / "launch" / file).is_file():
                yield f"launch/{file} is not there"
                return
            known = {argument for part in ("bringup", name) for argument, _, _ in launch_arguments(part)}
            named = (word.partition(":=")[0] for word in given if ":=" in word)
            yield from (f"{file} has no argument {word}" for word in named if word not in known)
        case ["run", "specprune_ros", executable, *given]:
            if executable not in EXECUTABLES:
                yield f"there is no executable {executable}"
            if executable == "policy_node":
                for change in (after for word, after in zip(given, given[1:], strict=False) if word == "-p"):
                    name, _, value = change.partition(":=")
                    yield from _bad_value(name, value) if name != "use_sim_time" else ()
        case ["param", "set", "/policy_node", name, value]:
            yield from _bad_value(name, value, live=True)


def _bad_python(words: list[str], whole: bool) -> Iterator[str]:
    if words and words[0].endswith(".py") and not (ROOT / words[0]).is_file():
        yield f"{words[0]} is not there"


@cache
def declared() -> frozenset[str]:
    """Names of parameters and of their groups."""
    names = [parameter.name for parameter in parameters()]
    groups = {name.rpartition(".")[0] for name in names} | {name.partition(".")[0] for name in names if "." in name}
    return frozenset(names) | groups


def bad_parameters(text: str) -> Iterator[str]:
    """Code spans that look like a parameter and are none, and YAML examples that the node would refuse."""
    groups = {name.partition(".")[0] for name in declared() if "." in name}
    like = re.compile(rf"(?:{'|'.join(sorted(groups))})\.[a-z_.]*[a-z_](?::| |$)")
    for span in SPAN.findall(prose(text)):
        if like.match(span) and (name := re.match(r"[\w.]+", span)[0]) not in declared():
            yield f"`{span}`: there is no parameter {name}"
    for _, language, body in FENCE.findall(COMMENT.sub("", text)):
        if language == "yaml":
            yield from _bad_yaml(body)


def _bad_yaml(body: str) -> Iterator[str]:
    for node, section in (yaml.safe_load(body) or {}).items():
        try:
            Config.from_mapping(dict(flattened(section["ros__parameters"])))
        except ConfigError as error:
            yield f"YAML for {node}: {error}"


def bad_files(text: str, folder: Path) -> Iterator[str]:
    """Code spans that name a file of the repository that is not there."""
    for span in SPAN.findall(prose(text)):
        ours = FILE.fullmatch(span) and not span.startswith(FOREIGN)
        if ours and not any((base / span).exists() for base in (ROOT, PACKAGE, folder)):
            yield f"`{span}` is not in the repository"


@cache
def literals() -> str:
    """Every string in the package's code, one a line; what a format string fills in is a gap."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def bad_quotations(text: str) -> Iterator[str]:
    """First cells of tables that quote a message of the program which no code contains."""
    for line in text.splitlines():
        if quoted := re.match(r"\| `([^`]+)` \|", line):
            parts = [part.strip() for part in quoted[1].split("…")]
            if lost := [part for part in parts if len(part) > 3 and part not in literals()]:
                yield f"`{quoted[1]}`: no message contains {lost[0]!r}"


def bad_widths(path: Path) -> Iterator[str]:
    """Lines of prose that are too wide; tables, links and what is generated are as wide as they have to be."""
    text = re.sub(r"<!-- begin: .*?<!-- end: ", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in text.splitlines():
        if len(line) > WIDEST and not line.startswith(("|", "!", "specprune ")):
            yield f"{path.name}: {len(line)} columns: {line[:60]}..."


def sources() -> Iterator[Path]:
    """Files that may cite a document: code, settings, messages."""
    for folder in ("config", "docs", "launch", "msg", "scripts", "specprune_ros", "srv", "test", "tools"):
        for path in (ROOT / folder).rglob("*"):
            generated = "__pycache__" in path.parts or path.is_relative_to(ROOT / "docs/results")
            invented = path.name == "test_docs.py"  # cites documents that are not there, to see that this is found
            if (
                path.is_file()
                and not (generated or invented)
                and path.suffix not in (".md", ".png", ".pt", ".safetensors")
            ):
                yield path
    yield from (
        path for path in ROOT.iterdir() if path.name in ("CMakeLists.txt", "Makefile", "package.xml", "setup.py")
    )


def bad_citations(path: Path) -> Iterator[str]:
    """Documents that a file cites and that are not in the repository, and sections that they do not have."""
    text = path.read_text(encoding="utf-8")
    for name in sorted(set(CITATION.findall(text))):
        if not any((base / name).is_file() for base in (ROOT, path.parent)):
            yield f"{path.relative_to(ROOT)} cites {name}, which is not in the repository"
    running = re.sub(r"\s*\n[ \t]*(?:#:?|<!--)?[ \t]*", " ", text)
    for in_brackets, section, as_source, of_source in SECTION.findall(running):
        yield from _bad_section(path, in_brackets or as_source, section or of_source)


def _bad_section(path: Path, document: str, section: str) -> Iterator[str]:
    if (ROOT / document).is_file():
        headings = HEADING.findall(without_code((ROOT / document).read_text(encoding="utf-8")))
        for part in re.split(r" and |, ", section):
            if not any(part.lower() in heading.lower() for heading in headings):
                yield f"{path.relative_to(ROOT)} cites {document}, {part}: it has no such section"


def problems() -> Iterable[str]:
    for path in documents():
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        yield from bad_links(path)
        if name.parts[0] not in ("CHANGELOG.md", "specprune_ros"):
            yield from bad_widths(path)
        found = (*bad_commands(text), *bad_parameters(text), *bad_files(text, path.parent))
        yield from (f"{name}: {problem}" for problem in found)
    yield from bad_quotations((ROOT / "docs/how_to/troubleshooting.md").read_text(encoding="utf-8"))
    for path in sources():
        yield from bad_citations(path)


if __name__ == "__main__":
    found = list(problems())
    print("\n".join(found))
    sys.exit(1 if found else 0)
