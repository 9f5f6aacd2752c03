"""`policy.checkpoint` is a folder or a hub id; the hub itself is played by a stand-in."""

import sys
import types
from pathlib import Path

import pytest
from tiny_checkpoints import write_tiny_checkpoint
from transformers import PreTrainedTokenizerFast  # noqa: F401 - before a stand-in takes the place of the hub

from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.hub import WANTED, checkpoint_folder, checkpoint_name


def hub(monkeypatch, snapshot_download):
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))


def test_a_hub_id_is_downloaded_with_only_the_files_that_are_needed(monkeypatch, tmp_path):
    cached = write_tiny_checkpoint(tmp_path / "models--moojink--openvla-7b-oft" / "snapshots" / "0123abc")
    asked = []
    hub(monkeypatch, lambda name, allow_patterns: asked.append((name, allow_patterns)) or str(cached))
    checkpoint = load_checkpoint("moojink/openvla-7b-oft")
    assert checkpoint.name == "moojink/openvla-7b-oft" and checkpoint.folder == cached
    assert asked == [("moojink/openvla-7b-oft", list(WANTED))]
    assert not any(pattern.endswith((".py", ".bin")) or pattern == "*" for pattern in WANTED)


def test_an_existing_folder_wins_over_the_hub(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert checkpoint_folder("owner/name").samefile(tmp_path / "owner" / "name")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoint_folder("~/owner/name").samefile(tmp_path / "owner" / "name")


def test_without_huggingface_hub_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="owner/name: no such folder here.*pip install huggingface_hub"):
        checkpoint_folder("owner/name")


def test_a_failed_download_names_the_reason_and_the_remedy(monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("name or service\n not known")

    hub(monkeypatch, fail)
    text = r"download from the hub failed \(name or service not known\).*hf download owner/name --local-dir DIR"
    with pytest.raises(CheckpointError, match=text):
        checkpoint_folder("owner/name")


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "./owner/name", "a/b/c", "../x/y"])
def test_what_cannot_be_a_hub_id_is_a_missing_folder(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hub(monkeypatch, lambda *a, **k: pytest.fail("no download for this"))
    with pytest.raises(CheckpointError, match="no such folder; give a folder"):
        checkpoint_folder(name)


def test_names(tmp_path):
    assert checkpoint_name(tmp_path / "spatial") == "spatial"
    assert checkpoint_name(tmp_path / "models--a--b--c" / "snapshots" / "0f") == "a/b--c"


@pytest.mark.parametrize(("name", "folder"), [("", "bundled"), ("bundled", "bundled"), ("plain", "plain")])
def test_policies_of_this_package_have_names(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = checkpoint_folder(name)
    assert found.name == folder and (found / "config.json").is_file()
    (tmp_path / "plain").mkdir()
    assert checkpoint_folder("plain") == Path("plain"), "a folder of that name wins"
