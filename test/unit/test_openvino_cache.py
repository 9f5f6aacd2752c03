"""Models are converted once for a machine and kept in a folder; a damaged entry or an unusable folder costs time."""

import logging

import pytest
from asking import under
from tiny_checkpoints import write_tiny_checkpoint

pytest.importorskip("openvino", reason="without OpenVINO a CPU runs op by op")

import openvino_rig
from openvino_rig import CONFIG, request

from specprune_ros.infer import converter
from specprune_ros.infer.model_cache import SUFFIX
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

no_presets, converter_here = openvino_rig.no_presets, openvino_rig.converter_here
checkpoint = openvino_rig.checkpoint


def converted(checkpoint, cache_dir, answers=None):
    """A policy whose dense pass runs on OpenVINO, and how often the converter was asked. answers: kept from one call to
    another, so that what is only asked for again is not converted again."""
    asked, convert, answers = [], converter.Converter.convert, {} if answers is None else answers

    def counted(self, order):
        asked.append(order)
        if (kind := order.plan is None) not in answers:
            answers[kind] = convert(self, order)
        return answers[kind]

    dense = CONFIG.updated({"pruning.aggressiveness": 0.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converter.Converter, "convert", counted)
        policy = Policy(checkpoint, "openvino", str(cache_dir))
        policy.warm_up(dense, passes=1)
        assert policy.settle() and policy.engine_state == "openvino", policy.engine_state
        policy.infer(under(request(policy), dense))
    assert policy.engine.ran == "openvino"
    return policy, len(asked)


def test_models_are_converted_once_a_machine(checkpoint, tmp_path):
    _, first = converted(checkpoint, tmp_path / "new" / "folder")
    entries = sorted((tmp_path / "new" / "folder").iterdir())
    _, second = converted(checkpoint, tmp_path / "new" / "folder")
    assert (first, second, len(entries)) == (2, 0, 2)
    assert all(entry.suffix == SUFFIX for entry in entries), "no drafts are left behind"


def test_other_weights_get_models_of_their_own(checkpoint, tmp_path):
    converted(checkpoint, tmp_path / "cache")
    other = load_checkpoint(write_tiny_checkpoint(tmp_path / "other", seed=1))
    _, asked = converted(other, tmp_path / "cache")
    assert asked == 2


@pytest.fixture(scope="module")
def answers():
    """The converter's, for one checkpoint and one plan."""
    return {}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_damaged_entries_are_made_again(checkpoint, answers, tmp_path, damage, caplog):
    converted(checkpoint, tmp_path, answers)
    for entry in tmp_path.iterdir():
        whole = bytearray(entry.read_bytes())
        whole[-1] ^= 1
        entry.write_bytes({"cut": whole[:-9], "flipped": whole, "empty": b"", "foreign": b"\xff\xfe{}\n"}[damage])
    _, asked = converted(checkpoint, tmp_path, answers)
    assert asked == 2 and "is damaged and is made again" in caplog.text
    assert converted(checkpoint, tmp_path)[1] == 0


def unusable(kind, tmp_path, monkeypatch):
    """A folder that cannot be written, for one of the reasons there are; root may write nearly everywhere."""
    if kind == "a file stands in its place":
        (tmp_path / "cache").write_text("")
        return str(tmp_path / "cache")
    if kind == "below a file":
        (tmp_path / "file").write_text("")
        return str(tmp_path / "file" / "cache")
    if kind == "read only":
        return "/proc/specprune"
    if kind == "full":
        monkeypatch.setattr(
            "specprune_ros.infer.model_cache._packed",
            lambda model: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        return str(tmp_path / "full")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    return ""


@pytest.mark.parametrize("kind", ["a file stands in its place", "below a file", "read only", "full", "no home"])
def test_a_cache_that_cannot_be_used_is_no_failure(checkpoint, tmp_path, monkeypatch, caplog, kind):
    folder = unusable(kind, tmp_path, monkeypatch)
    _, asked = converted(checkpoint, folder)
    assert asked == 2
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) <= 1 and all("inference works without" in text for text in warnings), warnings
    assert not list(tmp_path.glob("full/.draft-*"))
