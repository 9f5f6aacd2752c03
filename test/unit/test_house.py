"""Text that people write keeps to the sizes of CONTRIBUTING.md: files of at most 350 lines, lines of at most 120
columns."""

import shutil
import subprocess
from pathlib import Path

import pytest
from check_documents import WIDEST, bad_widths

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 350
WRITTEN = {".md", ".msg", ".py", ".sdf", ".sh", ".srdf", ".srv", ".toml", ".xml", ".yaml"}
"""Endings of text written by hand; files without an ending are scripts, except LICENSE and the like."""
SCRIPTS = {"Makefile", "CMakeLists.txt", ".ci/run", "scripts/policy_node", "scripts/sim_node", "scripts/specprune"}
MARKS = ("# noqa", "# type: ignore", "://")
"""What a line may hold beyond the width: a mark for a tool, or an address that cannot be broken."""
GENERATED = "<!-- begin: "
"""A document with such a block has tables that tools/tables.py makes; it is as long as they are."""


def written():
    """Files under version control that people write. The change log only ever grows."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip(f"{ROOT} is no checkout of git")
    names = [name for name in listed.stdout.split("\0") if Path(name).suffix in WRITTEN or name in SCRIPTS]
    return [ROOT / name for name in names if name != "CHANGELOG.md" and (ROOT / name).is_file()]


def too_wide(path):
    """Problems with the widths of a file's lines, in words."""
    if path.suffix == ".md":
        return list(bad_widths(path))
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    wide = [(number, line) for number, line in lines if len(line) > WIDEST and not any(mark in line for mark in MARKS)]
    return [f"{path.relative_to(ROOT)}:{number}: {len(line)} columns" for number, line in wide]


def too_long(path):
    """Problem with a file's length, in words. A test cannot say how long generated tables should be."""
    text = path.read_text(encoding="utf-8")
    count = len(text.splitlines())
    generated = path.suffix == ".md" and GENERATED in text
    return [f"{path.relative_to(ROOT)}: {count} lines"] if count > LONGEST and not generated else []


def test_what_people_write_has_a_normal_size():
    files = written()
    assert len(files) > 300
    assert [problem for path in files for problem in (*too_wide(path), *too_long(path))] == []
