"""What stands where a file should be, but is not that file: pointers, web pages, nothing. Named with its remedy."""

import hashlib
import json
import shutil

import pytest
from tiny_checkpoints import upstream_config, write_upstream_checkpoint

from specprune_ros.config import Config
from specprune_ros.infer.load import load_policy
from specprune_ros.model.checkpoint import CheckpointError, load_checkpoint
from specprune_ros.model.verify import verify

pytestmark = pytest.mark.usefixtures("tiny_towers")

KINDS = (
    "config.json",
    "preprocessor_config.json",
    "dataset_statistics.json",
    "model.safetensors.index.json",
    "model-00002-of-00003.safetensors",
    "action_head--latest_checkpoint.pt",
    "proprio_projector--latest_checkpoint.pt",
    "tokenizer.json",
    "SHA256SUMS",
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 4976698672\n"
STAND_INS = {
    "lfs": (LFS, r"is a Git LFS pointer, not the file itself; .*`git lfs pull`"),
    "lfs with a byte order mark": (b"\xef\xbb\xbf" + LFS.replace(b"\n", b"\r\n"), "is a Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s4976698672--4d7a.safetensors\n", "is a git-annex pointer.*`git annex get .`"),
    "web page": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "is a web page.*download it anew"),
    "xml of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "error of a hub": (b"Entry not found", "holds a server's error message"),
    "access denied": (b"Access to model owner/name is restricted. You must be authenticated", "holds a server's error"),
    "xet": (b"# xet version 0\nfilesize = 4976698672\nhash = '4d7a'\n", "is a Xet pointer, .*`hf download OWNER/NAME"),
    "error of a web server": (b"404: Not Found", "holds a server's error message.*download it anew"),
    "error of a busy one": (b"429: Too Many Requests\n", "holds a server's error message"),
    "wrong token": (b"Invalid credentials in Authorization header", "holds a server's error message"),
    "link as text": (b"../../blobs/4d7a214614ab", "is a link to ../../blobs/4d7a214614ab as text, .*`cp -L`"),
    "link as text in a line": (b"./4d7a.safetensors\r\n", "is a link to ./4d7a.safetensors as text"),
    "link of a network share": (b"XSym\n0017\n4d7a\n../../blobs/0123\n   ", "is a link that a file system .*`cp -L`"),
    "link of Cygwin": (b"!<symlink>\xff\xfe.\0.\0/\0", "is a link that a file system keeps as a file"),
    "empty": (b"", "is empty, the download or copy was cut off"),
    "zeros": (bytes(100_000), "begins with 512 zero bytes, the copy was cut off"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny_towers):
    pixels = {"means": [[0.5] * 3] * 2, "stds": [[0.5] * 3] * 2}
    config = upstream_config(vocab_size=64)
    config["specprune"] = {"suffix_token_id": None}
    return write_upstream_checkpoint(tmp_path_factory.mktemp("upstream"), config, preprocessor=pixels)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def test_the_copy_loads(folder):
    load_checkpoint(folder)


@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize("file", KINDS)
def test_a_stand_in_is_named_with_its_remedy(folder, file, name):
    content, text = STAND_INS[name]
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file}: {text}"):
        load_checkpoint(folder)


def test_all_files_as_pointers_as_git_clone_leaves_them(folder):
    for path in folder.iterdir():
        if path.suffix in (".safetensors", ".pt"):
            path.write_bytes(LFS)
    with pytest.raises(CheckpointError, match="model-00001-of-00003.safetensors: is a Git LFS pointer"):
        load_policy(Config().updated({"policy.checkpoint": str(folder), "policy.device": "cpu"}))
    first = next(verify(folder, Config()))
    assert first.ok is False and not first.unfit and "git lfs pull" in first.detail


@pytest.mark.parametrize("file", [kind for kind in KINDS if kind != "SHA256SUMS"])
def test_links_that_lead_nowhere_and_folders_are_named(folder, file):
    (folder / file).unlink()
    (folder / file).symlink_to("../../blobs/0123abc")
    with pytest.raises(CheckpointError, match=rf"{file}: is a link to ../../blobs/0123abc, which is not there"):
        load_checkpoint(folder)
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(CheckpointError, match=rf"{file}: cannot be read \(Is a directory\)"):
        load_checkpoint(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_may_be_in_any_unicode_encoding(folder, encoding):
    path = folder / "config.json"
    path.write_bytes(path.read_text().encode(encoding))
    load_checkpoint(folder)


@pytest.mark.parametrize(
    "content, text",
    [
        ({"error": "Repository not found"}, r"holds a server's error message \(Repository not found\)"),
        ({"error": "gated", "message": "log in"}, "holds a server's error message"),
        ([1], "holds a list, expected an object"),
    ],
)
def test_json_that_is_another_thing(folder, content, text):
    (folder / "dataset_statistics.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"dataset_statistics.json: {text}"):
        load_checkpoint(folder)


def test_json_that_is_none(folder):
    for content in ("{", "{'a': 1}", "[" * 100_000):
        (folder / "dataset_statistics.json").write_text(content)
        with pytest.raises(CheckpointError, match="dataset_statistics.json: not valid JSON"):
            load_checkpoint(folder)


def test_checksums_are_read_in_every_form_that_sha256sum_writes(folder):
    names = ("config.json", "tokenizer.json")
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    lines = f"# made by hand\r\n{digests[0].upper()} *config.json\r\n\r\n{digests[1]}  tokenizer.json\r\n"
    (folder / "SHA256SUMS").write_bytes(lines.encode())
    load_checkpoint(folder)
    (folder / "SHA256SUMS").write_text(lines.replace(digests[1][:4], "0000"))
    with pytest.raises(CheckpointError, match="tokenizer.json: checksum differs"):
        load_checkpoint(folder)
