"""One list of demands: `verify`, `inspect` and the node's loading say the same; cheap ones come before the weights."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import upstream_config, write_upstream_checkpoint

from specprune_ros.cli import main as cli
from specprune_ros.config import Config, ConfigError
from specprune_ros.infer.load import load_policy
from specprune_ros.model.demands import examine
from specprune_ros.model.stored import INDEX, Stored
from specprune_ros.types import BadInput

pytestmark = pytest.mark.usefixtures("tiny_towers")

SHARD = "model-00002-of-00003.safetensors"
SUITE = "libero_spatial_no_noops"
NORM = "language_model.model.norm.weight"


@pytest.fixture(scope="module")
def originals(tmp_path_factory, tiny_towers):
    """Checkpoints by (action dimensions, proprio values)."""
    made = {}

    def make(actions, proprio):
        if (actions, proprio) not in made:
            config = upstream_config(vocab_size=64)
            config["specprune"] = {"suffix_token_id": None}
            folder = tmp_path_factory.mktemp("upstream")
            made[actions, proprio] = write_upstream_checkpoint(
                folder, config, action_dims=actions, proprio_dims=proprio, shards=3
            )
        return made[actions, proprio]

    return make


def edit_json(name, change):
    def edit(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def statistics(change):
    return edit_json("dataset_statistics.json", change)


def words(*vocabulary):
    """A tokenizer that knows the prompt's frame and these words."""

    def change(content):
        frame = [
            w
            for w in content["model"]["vocab"]
            if w in "<unk> <s> </s> In : What action should the robot take to ? Out"
        ]
        content["model"]["vocab"] = {word: i for i, word in enumerate(dict.fromkeys([*frame, *vocabulary]))}

    return edit_json("tokenizer.json", change)


def spoil(folder):
    shard = json.loads((folder / INDEX).read_text())["weight_map"][NORM]
    tensors = load_file(folder / shard)
    tensors[NORM][3] = float("nan")
    save_file(tensors, folder / shard)


CASES = {
    # name: ((action dims, proprio dims), edit, parameters, what the node says: None where it runs)
    "as published": ((7, 8), None, {}, None),
    "no proprio": ((7, 0), None, {}, None),
    "proprio of 7": ((7, 7), None, {}, "wants 7 proprio values; this node measures 8"),
    "proprio of 7, switched off": ((7, 7), None, {"policy.proprio": "off"}, None),
    "two arms": ((14, 8), None, {}, "predicts 14 action dimensions; this node commands 7"),
    "one view, two topics": ((7, 8), None, {"policy.views": 1}, "2 topics for a policy with 1 views"),
    "one view, one topic": ((7, 8), None, {"policy.views": 1, "topics.images": ("/a",)}, None),
    "more views than positions": (
        (7, 8),
        None,
        {"policy.views": 8, "topics.images": tuple("abcdefgh")},
        "positions .*leave 0 beside images",
    ),
    "two datasets": ((7, 8), statistics(lambda s: s.update(other=s[SUITE])), {}, "set policy.unnorm_key to one of"),
    "two datasets, one chosen": (
        (7, 8),
        statistics(lambda s: s.update(other=s[SUITE])),
        {"policy.unnorm_key": "other"},
        None,
    ),
    "the other dataset is broken": (
        (7, 8),
        statistics(lambda s: s.update(other={"action": {"q01": [1]}})),
        {"policy.unnorm_key": "libero_spatial"},
        None,
    ),
    "the dataset is broken": ((7, 8), statistics(lambda s: s[SUITE]["action"].pop("q99")), {}, "no q99"),
    "metres": (
        (7, 8),
        statistics(lambda s: s[SUITE]["action"].update(q01=[-0.04] * 7, q99=[0.04] * 7)),
        {},
        "as those in metres do",
    ),
    "words of another trade": ((7, 8), words("fold", "towel"), {}, None),
    "its instruction is not known": ((7, 8), None, {"instruction": "fold the towel"}, "does not know: fold, towel"),
    "its instruction is known": ((7, 8), words("fold", "towel"), {"instruction": "Fold the towel."}, None),
    "tokenizer damaged": ((7, 8), lambda f: (f / "tokenizer.json").write_text("{}"), {}, "not a tokenizer file"),
    "CUDA that is not there": ((7, 8), None, {"policy.device": "cuda"}, "sees no CUDA device; use 'auto' or 'cpu'"),
    "compiled for OpenVINO": (
        (7, 8),
        None,
        {"policy.compile": True, "policy.engine": "openvino"},
        "cannot run on OpenVINO; use policy.engine: eager",
    ),
    "weights not finite": ((7, 8), spoil, {}, "norm.weight has 1 values that are not finite"),
    "checksum differs": (
        (7, 8),
        lambda f: (f / "SHA256SUMS").write_text("0" * 64 + "  config.json\n"),
        {},
        "checksum differs",
    ),
}
ONLY_WEIGHTS_TELL = ("weights not finite", "checksum differs")


@pytest.fixture
def case(request, originals, tmp_path):
    """(folder, parameters, what the node says)."""
    dims, edit, parameters, text = CASES[request.param]
    folder = shutil.copytree(originals(*dims), tmp_path / "checkpoint")
    if edit:
        edit(folder)
    return folder, {"policy.dtype": "fp32", "policy.device": "cpu", **parameters}, text


def node_says(folder, parameters):
    """As the node starts: load, warm up. The error's text, None when it runs."""
    config = Config().updated({"policy.checkpoint": str(folder), **parameters})
    try:
        policy = load_policy(config)
        policy.warm_up(config, passes=1)
    except (BadInput, ConfigError) as error:
        return str(error)
    return None


def command(action, folder, parameters):
    def text(value):
        return json.dumps(list(value)) if isinstance(value, tuple) else str(value)

    path = folder.parent / "result.json"
    settings = [part for name, value in parameters.items() for part in ("--set", f"{name}={text(value)}")]
    status = cli.main(["checkpoint", action, str(folder), "--json", str(path), *settings])
    return status, json.loads(path.read_text())


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_verify_and_the_node_agree(case):
    folder, parameters, text = case
    without_cuda(parameters)
    said = node_says(folder, parameters)
    status, result = command("verify", folder, parameters)
    assert (said is None) == (text is None) == (status == 0) == result["accepted"], said
    if text is not None:
        details = [row["detail"] for row in result["checks"] if row["ok"] is False]
        assert_matches(text, said)
        assert_matches(text, " ".join(details))


@pytest.mark.parametrize("case", [name for name in CASES if name not in ONLY_WEIGHTS_TELL], indirect=True)
def test_inspect_agrees_too(case, capsys):
    folder, parameters, text = case
    without_cuda(parameters)
    status, result = command("inspect", folder, parameters)
    refused = [row["detail"] for row in result["demands"] if row["ok"] is False]
    assert status == 0 and bool(refused) == (text is not None)
    if text:
        assert_matches(text, " ".join(refused))


@pytest.mark.parametrize(
    "case", [name for name, (*_, text) in CASES.items() if text and name not in ONLY_WEIGHTS_TELL], indirect=True
)
def test_what_can_be_known_before_is_said_before_a_weight_is_read(case, monkeypatch):
    folder, parameters, text = case
    without_cuda(parameters)
    monkeypatch.setattr(Stored, "tensors", lambda *_: pytest.fail("a weight is read"))
    monkeypatch.setattr("specprune_ros.model.checkpoint.verify_checksums", lambda *_: pytest.fail("all is hashed"))
    assert_matches(text, node_says(folder, parameters))


def test_demands_that_need_an_unmet_one_are_not_checked(originals, tmp_path):
    folder = shutil.copytree(originals(7, 8), tmp_path / "checkpoint")
    (folder / SHARD).unlink()
    findings = list(examine(folder, Config()))
    assert findings[0].ok is False and all(found.ok is None for found in findings[1:])
    assert findings[-1].detail == "not checked: needs tokenizer in order"


def without_cuda(parameters):
    if parameters["policy.device"] == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")


def assert_matches(pattern, text):
    assert text and re.search(pattern, text), f"{pattern!r} not in {text!r}"
