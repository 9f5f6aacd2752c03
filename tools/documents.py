"""Which documents there are, and the generated blocks in them.

A block is what lies between `<!-- begin: NAME -->` and `<!-- end: NAME -->`, or `<!-- begin: NAME ARGUMENT -->`. What
it holds is made by a function of the argument and of where the document is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specprune_ros.config import ConfigError

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"<!-- begin: (?P<name>[\w-]+)(?: (?P<argument>\S+))? -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL
)


@dataclass(frozen=True)
class Place:
    """Where a block stands and what its marker says. argument: empty where the marker has none."""

    document: Path
    argument: str = ""

    def results(self, name: str) -> Path:
        """The results file `name`.json in the docs/results/ that is nearest above the document, or the file that the
        marker names, relative to the document."""
        folder = self.document.resolve().parent
        if self.argument:
            return folder / self.argument
        for above in (folder, *folder.parents):
            if (above / "docs" / "results").is_dir():
                return above / "docs" / "results" / f"{name}.json"
        return folder / "docs" / "results" / f"{name}.json"


Render = Callable[[Place], str]


class NotHere(Exception):
    """A block cannot be made on this machine, because a package is missing; what it holds is left as it is."""


def documents(root: Path = ROOT) -> list[Path]:
    """Every Markdown file of the repository that people read."""
    folders = (root.glob("*.md"), (root / "docs").rglob("*.md"), (root / "specprune_ros").rglob("*.md"))
    return sorted(path for folder in folders for path in folder)


def refresh(path: Path, blocks: dict[str, Render], write: bool) -> bool:
    """Whether a document's blocks were out of date; with `write` they no longer are. ConfigError names a block that is
    unknown or cannot be made."""
    text = path.read_text(encoding="utf-8")
    if (begun := text.count("<!-- begin: ")) != (whole := len(BLOCK.findall(text))):
        raise ConfigError(f"{path}: {begun} blocks begin, but {whole} end; write `<!-- end: NAME -->` after each")
    fresh = BLOCK.sub(lambda match: _fresh(match, path, blocks), text)
    if write and fresh != text:
        path.write_text(fresh, encoding="utf-8")
    return fresh != text


def _fresh(match: re.Match[str], path: Path, blocks: dict[str, Render]) -> str:
    name = match["name"]
    if name not in blocks:
        raise ConfigError(f"{path}: block {name!r} is not known; known: {', '.join(sorted(blocks))}")
    try:
        body = blocks[name](Place(path, match["argument"] or ""))
    except NotHere:
        return match[0]
    return f"{match[0].partition(chr(10))[0]}\n{body}\n<!-- end: {name} -->"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> str:
    """A Markdown table; columns in `right` are aligned right, by default all but the first."""
    aligned = range(1, len(headings)) if right is None else right
    rule = ["---:" if index in aligned else "---" for index in range(len(headings))]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *escaped))


def measured_on(facts: Mapping) -> str:
    """The sentence about the machine of a results file."""
    precision = f", {facts['dtype']}" if "dtype" in facts else ""
    where = facts.get("gpu", f"{facts['cpu']}, {facts['cores']} cores")
    return f"Measured on {where}{precision}, torch {facts['torch']}."
