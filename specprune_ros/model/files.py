"""Reading a user's files: what stands where a file should be, but is not that file, is named with its remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from specprune_ros.model.errors import CheckpointError

HEAD_BYTES = 512
"""All stand-ins are recognised by their first bytes."""
AGAIN = "copy it again from where the checkpoint is published"
STAND_INS = (
    (
        (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"),
        "is a Git LFS pointer, not the file itself; run `git lfs install` once and `git lfs pull` in that folder",
    ),
    (
        (b"# xet version ",),
        "is a Xet pointer, not the file itself; install git-xet and clone anew, or download it by "
        "`hf download OWNER/NAME --local-dir DIR`",
    ),
    ((b"/annex/objects/",), "is a git-annex pointer, not the file itself; run `git annex get .` in that folder"),
    (
        (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error"),
        "is a web page, not the file itself: the download was answered by an error or a login page; "
        "download it anew, for example by `hf download OWNER/NAME --local-dir DIR`",
    ),
    (
        (
            b"entry not found",
            b"repository not found",
            b"invalid username or password",
            b"invalid credentials",
            b"bad credentials",
            b"access to model",
            b"access denied",
            b"not found",
            b"unauthorized",
            b"forbidden",
            b"too many requests",
            *(b"%d: " % status for status in range(400, 600)),
        ),
        "holds a server's error message, not the file itself; check the name and the access rights and download it "
        "anew",
    ),
    (
        (b"xsym\n", b"!<symlink>", b"intxlnk\1"),
        "is a link that a file system keeps as a file, not the file itself; copy with `cp -L` where the link works, or "
        f"{AGAIN}",
    ),
)
"""What a file begins with (lower case) that is not the file -> what is wrong and the remedy."""
LINK = re.compile(rb"(\.{1,2}[/\\][^\n\r\0]+)[\r\n]*")
"""All of a link that was checked out as text, where the file system has no links."""


def check_arrived(path: Path) -> None:
    """CheckpointError when `path` is missing, empty or unreadable, or something else stands in its place.

    Such are pointers of Git LFS, Xet and git-annex, web pages, error messages of a server, links that dangle or became
    files, and unwritten blocks.
    """
    if not path.exists():
        dangling = f"is a link to {path.readlink()}, which is not there; copy with `cp -L`" if path.is_symlink() else ""
        raise CheckpointError(f"{path}: {dangling or 'missing; copy the checkpoint again'}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}); check what it is and its permissions"
        ) from error
    if not head:
        raise CheckpointError(f"{path}: is empty, the download or copy was cut off; {AGAIN}")
    if not head.strip(b"\0"):
        raise CheckpointError(f"{path}: begins with {len(head)} zero bytes, the copy was cut off; {AGAIN}")
    beginning = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginnings, problem in STAND_INS:
        if beginning.startswith(beginnings):
            raise CheckpointError(f"{path}: {problem}")
    if link := LINK.fullmatch(head):
        raise CheckpointError(
            f"{path}: is a link to {link[1].decode(errors='replace')} as text, not the file itself; copy with `cp -L` "
            f"where the link works, or {AGAIN}"
        )


def read_json(path: Path, required: bool = True) -> dict[str, Any]:
    """The object in a JSON file; {} when it is missing and not required."""
    if not required and not path.exists() and not path.is_symlink():
        return {}
    if not path.exists() and not path.is_symlink():
        raise CheckpointError(f"{path}: missing; is this an OpenVLA-OFT checkpoint folder?")
    check_arrived(path)
    try:
        content = json.loads(path.read_bytes())  # bytes: JSON says by its beginning which Unicode it is in
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected an object; {AGAIN}")
    if content.keys() in ({"error"}, {"error", "message"}):
        raise CheckpointError(f"{path}: holds a server's error message ({content['error']}); download it anew")
    return content
