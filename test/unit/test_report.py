"""The demo's report from made-up traces: figures, pictures, video; and processes that are always cleaned up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import documents
import numpy as np
import pytest
import reference_tables
import tables

from specprune_ros.config import Config, parameters
from specprune_ros.demo import report, video
from specprune_ros.demo.nodes import NodeDied, NodeProcesses, sim_command
from specprune_ros.demo.trace import EpisodeTrace, Inference, packed, unpacked

PERIOD_NS = 50_000_000


def inference(time_s, mode, kept, total_ms):
    stages = {"preprocess": 2.0, "vision": 8.0, "selection": 1.0, "decoder": total_ms - 13.0, "head": 1.0}
    return Inference(time_s, mode, 512, kept, total_ms, stages, total_ms + 30.0, deadline_missed=False)


def episode(seed, picked_s, duration_s=2.0):
    """Coarse first, then fine; 20 Hz actions with one pause; a moving red square as the camera picture."""
    trace = EpisodeTrace(seed, "pick up the red cube", picked_s, duration_s)
    for index in range(6):
        kind = ("dense", 512, 90.0) if index == 0 else ("coarse", 130, 50.0) if index < 4 else ("fine", 170, 60.0)
        trace.inferences.append(inference(0.1 + 0.3 * index, *kind))
    trace.action_stamps_ns = [PERIOD_NS * i for i in (*range(2, 20), *range(30, 38))]
    for index in range(int(duration_s * 20)):
        pixels = np.full((56, 56, 3), 90, np.uint8)
        pixels[20:36, index : index + 16] = (200, 30, 30)
        for name in ("third_person", "wrist"):
            trace.pictures.setdefault(name, []).append((index / 20, packed(pixels)))
    trace.pictures[video.DEBUG] = [(i.time_s, packed(np.full((520, 920, 3), 60, np.uint8))) for i in trace.inferences]
    trace.hold_reasons = {"no action chunk yet": 1}
    return trace


@pytest.fixture(scope="module")
def episodes():
    return [episode(0, picked_s=1.5), episode(1, picked_s=None), episode(2, picked_s=1.2)]


def summary(episodes):
    counters = {"deadline_misses": 2, "replans": 1}
    return report.summary(episodes, counters, period_s=0.05, machine={"cpu": "test"})


def test_demo_json_keeps_its_contract(episodes):
    result = summary(episodes)
    assert (result["episodes"], result["successes"], result["deadline_misses"]) == (3, 2, 2)
    assert result["control_rate_hz"] == pytest.approx(20.0), "the pause between two chunks is not the control rate"
    every = [i.total_ms for e in episodes for i in e.inferences]
    assert result["latency_ms"]["p50"] == pytest.approx(np.percentile(every, 50))
    assert result["latency_ms"]["p50"] <= result["latency_ms"]["p95"] <= result["latency_ms"]["p99"]
    assert result["tokens"] == {"total": 512, "kept_mean": pytest.approx((512 + 3 * 130 + 2 * 170) / 6, abs=0.01)}
    assert result["modes"] == {"dense": 3, "coarse": 9, "fine": 6}
    assert result["machine"] == {"cpu": "test"}
    assert [entry["success"] for entry in result["per_episode"]] == [True, False, True]
    json.dumps(result, allow_nan=False)


def test_a_demo_without_a_single_inference_still_reports(tmp_path):
    empty = [EpisodeTrace(0, "pick up the red cube", None, 30.0)]
    result = summary(empty)
    assert (result["control_rate_hz"], result["tokens"]) == (0.0, {"total": 0, "kept_mean": 0.0})
    report.write_report(tmp_path, empty, result)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


@pytest.fixture(scope="module")
def folder(episodes, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    report.write_report(path, episodes, summary(episodes))
    return path


def test_the_report_is_complete(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"demo.json", "demo.mp4", "poster.png", "latency.png", "tokens.png"}
    for name in ("poster.png", "latency.png", "tokens.png"):
        pixels = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE)
        assert pixels.std() > 10, f"{name} is almost blank"


def test_the_video_shows_every_moment_of_every_episode(folder, episodes):
    import av

    with av.open(str(folder / "demo.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (video.WIDTH, video.HEIGHT, video.FPS)
        count = sum(1 for _ in container.decode(stream))
    assert count == sum(int(e.duration_s * video.FPS) for e in episodes)


def test_a_frame_shows_the_newest_pictures_of_its_moment(episodes):
    one = episodes[0]
    assert video.latest(one, "wrist", 0.07) == one.pictures["wrist"][1][1]
    assert video.latest(one, video.DEBUG, 0.0) is None
    early, late = (video.frame(one, time_s, "title") for time_s in (0.0, 1.9))
    assert early.shape == (video.HEIGHT, video.WIDTH, 3)
    assert np.any(early != late)
    square = unpacked(one.pictures["wrist"][0][1])
    assert square[28, 8, 0] > 150, "packing keeps colours"


def test_every_codec_on_the_list_gives_a_file(tmp_path, monkeypatch):
    pixels = np.zeros((video.HEIGHT, video.WIDTH, 3), np.uint8)
    for codec in video.CODECS:
        monkeypatch.setattr(video, "CODECS", (codec,))
        if video._can_encode(codec[0]):
            assert video.write_video(tmp_path / f"{codec[0]}.mp4", [pixels] * 3) == codec[0]
            assert (tmp_path / f"{codec[0]}.mp4").stat().st_size > 500


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def waited(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def pid_from(log):
    assert waited(lambda: log.exists() and log.read_text().strip())
    return int(log.read_text())


def test_a_node_that_dies_is_reported_with_its_last_words(tmp_path):
    with NodeProcesses(tmp_path, os.environ) as nodes:
        nodes.start("policy_node", [sys.executable, "-c", "import sys; print('weights are corrupt'); sys.exit(3)"])
        assert waited(lambda: "corrupt" in (tmp_path / "policy_node.log").read_text())
        with pytest.raises(NodeDied, match=r"policy_node ended with status 3(.|\n)*weights are corrupt"):
            for _ in range(500):
                nodes.check()
                time.sleep(0.02)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nodes_end_whatever_happens(tmp_path, error):
    with pytest.raises(error), NodeProcesses(tmp_path, os.environ) as nodes:
        nodes.start("sim_node", [sys.executable, "-c", SLEEPER])
        pid = pid_from(tmp_path / "sim_node.log")
        raise error
    assert not running(pid)


def test_a_node_that_will_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("specprune_ros.demo.nodes.GRACE_S", 0.3)
    deaf = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)]; " + SLEEPER
    with NodeProcesses(tmp_path, os.environ) as nodes:
        nodes.start("policy_node", [sys.executable, "-c", deaf])
        pid = pid_from(tmp_path / "policy_node.log")
    assert not running(pid)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_nodes_do_not_outlive_a_killed_demo(tmp_path):
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom specprune_ros.demo.nodes import NodeProcesses\n"
        f"NodeProcesses(Path({str(tmp_path)!r}), os.environ).start('sim_node', [sys.executable, '-c', {SLEEPER!r}])\n"
        "time.sleep(60)\n"
    )
    demo = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = pid_from(tmp_path / "sim_node.log")
    finally:
        demo.send_signal(signal.SIGKILL)
        demo.wait()
    assert waited(lambda: not running(pid))


ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "specprune_ros/model/bundled"


def test_generated_blocks_of_the_documents_are_up_to_date():
    everywhere = documents.documents()
    assert {ROOT / "README.md", ROOT / "docs/results.md", BUNDLED / "README.md"} <= set(everywhere)
    stale = [str(path.relative_to(ROOT)) for path in everywhere if tables.refresh(path, write=False)]
    assert stale == [], "run: python tools/tables.py"


def test_only_the_marked_blocks_are_rewritten(tmp_path, episodes, capsys):
    report.write_json(tmp_path / "docs/results/demo.json", {**summary(episodes), "machine": FACTS})
    document = tmp_path / "README.md"
    document.write_text("above\n<!-- begin: demo -->\nold\n<!-- end: demo -->\nbelow\n")
    assert tables.main([str(document), "--check"]) == 1
    assert "out of date" in capsys.readouterr().out
    assert tables.main([str(document)]) == 0
    text = document.read_text()
    assert text.startswith("above\n<!-- begin: demo -->\n|  | over ROS 2 |\n| --- | ---: |\n")
    assert text.endswith("<!-- end: demo -->\nbelow\n")
    assert "| episodes picked | 2 of 3 " in text and "old" not in text
    assert tables.main([str(document), "--check"]) == 0


FACTS = {"cpu": "A | B", "cores": 2, "torch": "2.5", "dtype": "bfloat16"}


def test_results_become_tables():
    mode = {"successes": 9, "episodes": 10, "success_rate": 0.9, "wilson95": [0.6, 0.98], "mean_steps": 61.25}
    mode |= {"steps_to_success": {"p10": 50.0, "p50": 60.6, "p90": 80.0}}
    mode |= {"tokens_kept_mean": 170.4, "tokens_total": 512, "latency_ms": 47.31}
    pair = {"difference": -0.1, "ci95": [-0.3, 0.1], "mcnemar_p": 1.0}
    result = {"modes": {"full": mode}, "paired": {"full_vs_dense": pair}, "seeds": [3, 4], "machine": FACTS}
    text = tables.evaluation_table(result)
    assert "| full | 9 / 10 | 90.0% | 60.0% .. 98.0% | 61 (50 .. 80) | 170 of 512 | 47.3 |" in text
    assert "- full minus dense: -10.0 points [-30.0, +10.0]\n" in text
    assert "No margin was declared before this run" in text
    declared = {"margin": 0.02, "alpha": 0.05, "sequential": False, "episodes": 10, "seed0": 3}
    judged = {"verdict": "not proven", "lower_limit": -0.28, "pairs_judged": 10, "pairs_planned": 10}
    result |= {"declared": declared, "paired": {"full_vs_dense": pair | judged | {"as_declared": True}}}
    text = tables.evaluation_table({**result, "suites": {"pick": result, "long": result}})
    assert text.count("[-30.0, +10.0], **not proven** (at most 28.0 points lost)") == 3
    assert "Suite long:" in text and "at most 2 points of success may be lost" in text and "p =" not in text
    row = {"engine": "eager", "mode": "full", "aggressiveness": 0.5, "granularity": "measured", "p50_ms": 40.04}
    row |= {"p95_ms": 50, "p99_ms": 60, "speedup_vs_dense": 1.734, "speedup_vs_dense_openvino": None}
    row |= {"tokens_kept": 170.4, "gflop": 3.21, "floor_ms": 20.02, "over_floor": 2.0}
    row["stages_ms"] = dict.fromkeys(("preprocess", "vision", "selection", "decoder", "head"), 1.26)
    bench = {"rows": [row], "speedup_full_vs_dense": 1.734, "selection_share": 0.031, "gemm_gflops": 410.0}
    bench |= {"default_engine": "eager", "best_dense": "openvino", "speedup_vs_best_dense": 1.2}
    text = tables.bench_table({**bench, "machine": FACTS})
    assert "| eager full 0.5 measured | 40.0 | 50.0 | 60.0 | 1.73x | - | 170 | 3.2 | 20.0 | 2.00 |" in text
    assert "**1.73x**" in text and "(openvino): **1.20x**; selection takes 3.1%" in text
    assert "| eager full 0.5 measured | 1.3 | 1.3 | 1.3 | 1.3 | 1.3 |" in tables.stages_table(bench)


def test_every_parameter_is_in_the_table():
    lines = reference_tables.parameter_table().splitlines()
    assert len(lines) == 2 + len(parameters())
    row = next(line for line in lines if line.startswith("| `pruning.aggressiveness` "))
    assert row.startswith("| `pruning.aggressiveness` | 0.5 | in [0.0, 1.0] |  | yes | 0 is exactly the dense model")
    assert all(line.count(" | ") == lines[0].count(" | ") for line in lines)


@pytest.mark.parametrize(
    "block, text",
    [
        ("<!-- begin: surprise -->\n<!-- end: surprise -->", "block 'surprise' is not known"),
        ("<!-- begin: bench -->\n<!-- end: bench -->", "bench.json"),
        ("<!-- begin: command fly -->\n<!-- end: command -->", "'fly' is not one of demo"),
        ("<!-- begin: launch rocket -->\n<!-- end: launch -->", "'rocket' is not one of bringup"),
        ("<!-- begin: parameters -->\n", "1 blocks begin, but 0 end"),
    ],
)
def test_a_block_that_cannot_be_filled_says_why(tmp_path, capsys, block, text):
    document = tmp_path / "README.md"
    document.write_text(f"{block}\n")
    assert tables.main([str(document)]) == 2
    assert text in capsys.readouterr().err
    assert document.read_text() == f"{block}\n"


def test_results_are_found_from_any_folder_of_the_documents(tmp_path, episodes):
    report.write_json(tmp_path / "docs/results/demo.json", {**summary(episodes), "machine": FACTS})
    report.write_json(tmp_path / "other.json", {**summary(episodes[:1]), "machine": FACTS})
    folder = tmp_path / "docs/how_to"
    folder.mkdir()
    for block, picked in (("demo", "2 of 3"), ("demo ../../other.json", "1 of 1")):
        document = folder / "README.md"
        document.write_text(f"<!-- begin: {block} -->\n<!-- end: demo -->\n")
        assert tables.main([str(document)]) == 0
        assert f"| episodes picked | {picked} " in document.read_text()


def test_options_of_a_command_are_those_of_its_parser():
    lines = reference_tables.command_table(documents.Place(ROOT / "README.md", "demo")).splitlines()
    assert "| `--episodes EPISODES` | default: 5 |" in lines
    assert not any("--help" in line for line in lines)
    flags = [flag for flag in reference_tables.subparser("bench")._option_string_actions if flag.startswith("--")]
    text = reference_tables.command_table(documents.Place(ROOT / "README.md", "bench"))
    assert all(f"`{flag}" in text for flag in flags if flag != "--help")


def test_messages_become_tables_with_their_comments():
    lines = ("# What it is,", "# in two lines.", "", "uint8 ON=1   # switched on", "float32 x  # [m] far")
    about, rows = reference_tables._fields("\n".join((*lines, "           # away", "---", "bool ok\n")))
    assert about == "What it is, in two lines."
    assert rows == [
        ("`uint8`", "`ON=1`", "switched on"),
        ("`float32`", "`x`", "[m] far away"),
        ("", "(answer)", ""),
        ("`bool`", "`ok`", ""),
    ]


def test_the_simulator_steps_at_the_rate_of_the_loop():
    """Fault 29: at another rate every action is meant for a period of another length."""
    command = sim_command(Config().updated({"control.rate": 50.0}))
    assert command[-1] == "control_rate:=50.0"
