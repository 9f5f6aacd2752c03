"""`specprune checkpoint inspect|verify`: what it says about sound and damaged folders, and its exit status."""

import json

import pytest
from safetensors.torch import load_file, save_file
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint

from specprune_ros.cli import main as cli
from specprune_ros.model.checkpoint import CHECKSUMS, open_checkpoint

FIRST = "model-00001-of-00003.safetensors"


@pytest.fixture
def folder(tmp_path, tiny_towers):
    return write_upstream_checkpoint(tmp_path / "upstream", upstream_config(num_key_value_heads=2))


def run(*args):
    return cli.main(["checkpoint", *map(str, args)])


def result_of(folder, action, *args):
    """(exit status, JSON result)."""
    path = folder.parent / "result.json"
    return run(action, folder, "--json", path, *args), json.loads(path.read_text())


def row(result, check):
    return next(row for row in result["checks"] if row["check"] == check)


def test_inspect_tells_what_it_is_without_reading_a_tensor(folder, monkeypatch, capsys):
    monkeypatch.setattr("specprune_ros.model.stored.Stored.tensors", lambda *_: pytest.fail("inspect reads no tensor"))
    status, result = result_of(folder, "inspect", "--set", "policy.views=1")
    assert status == 0
    decoder = {"width": 64, "layers": 4, "heads": 4, "kv_heads": 2, "vocabulary": 32064}
    assert {name: result["decoder"][name] for name in decoder} == decoder
    assert [tower["name"] for tower in result["towers"]] == list(TINY_TOWERS)
    assert (result["views"], result["visual_tokens"], result["chunk_steps"], result["proprio_dims"]) == (1, 256, 8, 8)
    assert result["statistics"]["keys"] == ["libero_spatial_no_noops"]
    model = open_checkpoint(folder).model
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["bytes_by_dtype"]["F32"] == 4 * sum(p.numel() for p in model.proprio_projector.parameters())
    assert {file["name"] for file in result["files"]} == {path.name for path in folder.iterdir()}
    shown = " ".join(capsys.readouterr().out.split())
    assert "4 heads (2 for keys)" in shown and "libero_spatial_no_noops" in shown and "vit_tiny_siglip" in shown


def test_verify_lists_what_it_checked_and_writes_checksums_when_asked(folder, capsys):
    status, result = result_of(folder, "verify")
    assert status == 0 and result["sound"]
    assert [row["check"] for row in result["checks"]] == [
        "files and shapes",
        "dimensions",
        "views",
        "statistics",
        "actions",
        "tokenizer",
        "instruction",
        "checksums",
        "values",
        "machine",
        "forward",
    ]
    assert "8 x 7 finite actions" in result["checks"][-1]["detail"]
    assert not (folder / CHECKSUMS).exists() and "sound" in capsys.readouterr().out
    assert run("verify", folder, "--write-checksums") == 0
    assert len((folder / CHECKSUMS).read_text().splitlines()) == len(list(folder.iterdir())) - 1
    assert row(result_of(folder, "verify")[1], "checksums")["detail"] == "9 files equal SHA256SUMS"


def spoil(folder, key, value):
    tensors = load_file(folder / FIRST)
    tensors[key].view(-1)[7] = value
    save_file(tensors, folder / FIRST)


def test_values_that_are_not_finite_are_found_and_nothing_is_signed(folder):
    key = "language_model.model.layers.0.mlp.down_proj.weight"
    spoil(folder, key, float("nan"))
    status, result = result_of(folder, "verify", "--write-checksums")
    rows = {row["check"]: row for row in result["checks"]}
    assert status == 2 and not result["sound"] and not (folder / CHECKSUMS).exists()
    assert (
        rows["values"]["ok"] is False and f"{FIRST}: {key} has 1 values that are not finite" in rows["values"]["detail"]
    )
    assert rows["forward"]["ok"] is None


def test_what_nobody_reads_may_hold_anything(folder):
    spoil(folder, "language_model.lm_head.weight", float("inf"))
    assert result_of(folder, "verify")[0] == 0


def test_damage_ends_with_status_2_and_names_the_file(folder, capsys):
    (folder / "tokenizer.json").write_text("{}")
    status, result = result_of(folder, "verify")
    assert status == 2 and [row["check"] for row in result["checks"] if row["ok"] is False] == ["tokenizer"]
    (folder / FIRST).unlink()
    status, result = result_of(folder, "verify")
    rows = {row["check"]: row for row in result["checks"]}
    assert status == 2 and f"{FIRST}: missing" in rows["files and shapes"]["detail"] and rows["values"]["ok"] is None
    capsys.readouterr()
    assert run("inspect", folder) == 2 and f"{FIRST}: missing" in capsys.readouterr().err


def test_one_of_several_datasets_must_be_chosen_and_only_that_one_must_be_in_order(folder, capsys):
    path = folder / "dataset_statistics.json"
    entry = json.loads(path.read_text())["libero_spatial_no_noops"]
    path.write_text(json.dumps({"goal": entry, "object": {**entry, "action": {}}}))
    status, result = result_of(folder, "verify", "--write-checksums")
    assert status == 2 and result["sound"] and not result["accepted"] and (folder / CHECKSUMS).exists()
    assert row(result, "statistics")["unfit"] and row(result, "actions")["ok"] is None
    assert "sound, but the node refuses it with these parameters" in capsys.readouterr().out
    status, result = result_of(folder, "verify", "--set", "policy.unnorm_key=goal")
    assert status == 0 and result["accepted"] and row(result, "statistics")["ok"]
    assert "goal of 2 datasets" in row(result, "statistics")["detail"]
    assert "object.action: no q01" in row(result, "statistics")["doubt"]


def test_inspect_says_what_the_node_would_refuse(folder, capsys):
    status, result = result_of(folder, "inspect", "--set", "policy.views=1")
    refused = [found for found in result["demands"] if found["ok"] is False]
    assert status == 0 and [found["check"] for found in refused] == ["views"]
    assert "2 topics for a policy with 1 views" in " ".join(capsys.readouterr().out.split())
    status, result = result_of(folder, "inspect")
    shown = " ".join(capsys.readouterr().out.split())
    assert "runs it with these parameters" in shown and "full scale 0.05 m" in shown


def test_large_models_are_not_loaded_whole(folder, monkeypatch):
    monkeypatch.setattr("specprune_ros.cli.checkpoint.FORWARD_LIMIT_BYTES", 1)
    monkeypatch.setattr("specprune_ros.infer.load.load_policy", lambda *_: pytest.fail("must not be loaded"))
    status, result = result_of(folder, "verify")
    assert status == 0 and result["checks"][-1]["ok"] is None and "not run" in result["checks"][-1]["detail"]


def test_a_machine_that_cannot_run_it_leaves_the_checkpoint_sound(folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, result = result_of(folder, "verify", "--set", "policy.device=cuda")
    assert status == 2 and result["sound"] and not result["accepted"]
    assert row(result, "machine")["unfit"] and row(result, "forward")["ok"]


def test_checksums_are_written_by_verify_only(folder, capsys):
    assert run("inspect", folder, "--write-checksums") == 2
    assert "belongs to verify" in capsys.readouterr().err


def test_a_folder_that_is_not_there(capsys):
    assert run("verify", "/nowhere") == 2
    assert "checkpoint /nowhere: no such folder" in capsys.readouterr().err
