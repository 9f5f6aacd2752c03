"""`pruning.budget: machine`: measured once, a little at a time, kept on disk, and never in the way of an inference."""

import itertools
import json
import logging

import numpy as np
import pytest
import torch
from asking import under
from looks import frames, request
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.config import Config
from specprune_ros.infer import staircase as machine
from specprune_ros.infer.load import BUNDLED, load_policy
from specprune_ros.infer.policy import Policy
from specprune_ros.infer.staircase import MachineStaircase, Measurement, StaircaseFile, description, rows_to_measure
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.prune.staircase import Staircase
from specprune_ros.types import Mode, Source

STEPS = Staircase(
    tuple(itertools.chain.from_iterable((128 * i + 1, 128 * i + 128) for i in range(5))),
    tuple(itertools.chain.from_iterable((1e-3 * (i + 1),) * 2 for i in range(5))),
)
"""Made up: tiles of 128 rows."""

PAPER = Config().updated({"policy.engine": "eager", "policy.dtype": "fp32"})
MACHINE = PAPER.updated({"pruning.budget": "machine"})


@pytest.fixture
def steady(monkeypatch):
    """Times as on STEPS, without a clock: what a measurement finds depends on nothing else."""
    asked = []

    def seconds_of(work, device, repeats, clock):
        with pytest.MonkeyPatch.context() as patch:
            rows = []
            patch.setattr(torch.nn.Linear, "forward", lambda self, x: rows.append(x.shape[1]))
            work()
        assert len(rows) == 4 and len(set(rows)) == 1
        asked.append(rows[0])
        return float(STEPS.seconds_at([rows[0]])[0])

    monkeypatch.setattr(machine, "seconds_of", seconds_of)
    return asked


def policy_on(checkpoint, folder):
    return Policy(checkpoint, "eager", str(folder))


def layout_of(policy):
    return policy._prompt("pick up the red cube")[0]


def test_rows_are_measured_at_every_step_and_just_above_it():
    rows = rows_to_measure(588)
    assert rows[:4] == [32, 33, 48, 49] and rows[-3:] == [624, 625, 640] and rows == sorted(set(rows))
    assert rows_to_measure(640)[-1] == 640 and rows_to_measure(641)[-1] == 704 and rows_to_measure(1)[-1] == 64


def test_a_real_measurement_gives_times_and_leaves_randomness_alone(checkpoint):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    measurement = Measurement(checkpoint.model.decoder, 200)
    while measurement.advance():
        pass
    found = measurement.staircase()
    assert found.rows[0] <= 48 and found.rows[-1] == 256 and measurement.noise >= 0.0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_by_replays_and_leaves_the_stream_alone(tmp_path):
    checkpoint = load_checkpoint(write_tiny_checkpoint(tmp_path), torch.device("cuda"), torch.bfloat16)
    stream = torch.cuda.current_stream()
    known = MachineStaircase(checkpoint.model.decoder, str(tmp_path / "kept"))
    known.want(PAPER.pruning, layout_of(Policy(checkpoint, "eager")))
    known.finish()
    assert known.staircase is not None and known.staircase.rows[-1] == 640
    assert known._key["device"] == torch.cuda.get_device_name() and torch.cuda.current_stream() == stream
    assert max(known.staircase.seconds) < 0.01


def test_layers_with_another_product_are_measured_as_they_are(tmp_path):
    """Weights in another format than the activations, as with 8-bit products."""

    class Rounded(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight.detach().to(torch.float16)

        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.float())

    decoder = load_checkpoint(write_tiny_checkpoint(tmp_path)).model.decoder
    plain = description(decoder, 100)
    for layer in decoder.layers:
        for name in machine.PRODUCTS:
            setattr(layer, name, Rounded(getattr(layer, name).weight))
    assert description(decoder, 100) == plain | {"weights": "float16"}
    measurement = Measurement(decoder, 100)
    while measurement.advance():
        pass
    assert measurement.staircase().rows[-1] == 128


def test_what_was_disturbed_is_measured_again(checkpoint, steady):
    measurement = Measurement(checkpoint.model.decoder, 600)
    while measurement.advance():
        pass
    assert measurement.noise == 0.0
    assert measurement.staircase().seconds_at([100, 128, 129, 300]) == pytest.approx([1e-3, 1e-3, 2e-3, 3e-3])
    assert steady.count(48) == 2, "nothing was longer than a longer one"
    measurement._times[48] = [9e-3, 9e-3]
    measurement._next_sweep()
    assert measurement._todo == [48]


def test_noise_shows_no_steps(checkpoint, steady, monkeypatch):
    turns = itertools.cycle([1.0, 1.1, 1.2])
    plain = machine.seconds_of
    monkeypatch.setattr(machine, "seconds_of", lambda *given: plain(*given) * next(turns))
    measurement = Measurement(checkpoint.model.decoder, 600)
    while measurement.advance():
        pass
    assert measurement.noise > 0.02 and len(measurement.staircase().rows) == 2


def test_large_products_on_a_slow_machine_are_measured_at_fewer_rows(checkpoint, steady, monkeypatch):
    now = itertools.count(0.0, 0.25)
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(now))
    measurement = Measurement(checkpoint.model.decoder, 600)
    while measurement.advance():
        pass
    rows = measurement.staircase().rows
    assert 2 <= len(rows) < 20 and rows[-1] == 640


def test_end_to_end_on_the_bundled_policy_more_tokens_are_kept_and_all_of_the_papers(tmp_path):
    policy = policy_on(load_checkpoint(BUNDLED), tmp_path)
    length = layout_of(policy).length
    StaircaseFile(tmp_path).save(description(policy.model.decoder, length), STEPS)
    first = policy.infer(under(request(), PAPER))
    again = dict(reference=frames(1), memory=first.memory, mode=Mode.FINE)
    paper, ours = (policy.infer(under(request(**again), config)) for config in (PAPER, MACHINE))
    assert policy.machine.staircase == STEPS and ours.report.mode is Mode.FINE

    rows = ours.report.layer_lengths
    assert rows[:2] == paper.report.layer_lengths[:2] == (length, length)
    # Up to the end of a tile; after static pruning both views get the same, so one row may stay free.
    assert all(count % 128 in (0, 127) for count in rows[2:]) and len(set(rows[2:])) > 1
    assert all(more >= less for more, less in zip(rows, paper.report.layer_lengths, strict=True))
    assert [-(-count // 128) for count in rows] == [-(-count // 128) for count in paper.report.layer_lengths]
    assert ours.report.tokens_kept > paper.report.tokens_kept
    kept = [(result.report.kept & int(Source.AFTER_STATIC)) > 0 for result in (paper, ours)]
    assert (kept[1] >= kept[0]).all() and kept[1].sum() > kept[0].sum()

    unchanged = policy.infer(under(request(**again), PAPER))
    np.testing.assert_array_equal(unchanged.chunk.actions, paper.chunk.actions)


def test_warm_up_measures_and_the_log_says_what_it_comes_to(checkpoint, steady, tmp_path, caplog):
    policy = policy_on(checkpoint, tmp_path)
    with caplog.at_level(logging.INFO, "specprune_ros"):
        policy.warm_up(MACHINE, passes=1)
    assert policy.machine.staircase.seconds_at([100, 129]) == pytest.approx([1e-3, 2e-3])
    assert not policy.pending and not policy.idle()
    (line,) = (record.message for record in caplog.records if "pruning.budget" in record.message)
    assert "measured in 0." in line and "nothing is gained by pruning.aggressiveness above" in line
    assert "ms at 0, " in line and "ms at 0.5" in line


def test_a_live_change_is_measured_in_idle_moments_and_no_inference_waits(checkpoint, steady, tmp_path):
    policy = policy_on(checkpoint, tmp_path)
    policy.warm_up(PAPER, passes=1)
    assert not steady and not policy.pending, "the paper's budget needs no measurement"
    memory = policy.infer(under(request(), MACHINE)).memory
    assert policy.pending == 0, "a dense first pass needs no budget"
    early = policy.infer(under(request(memory=memory), MACHINE)).report
    assert policy.pending == 1 and not steady and early.kept_static_per_view == (88, 88)
    moments = 0
    while policy.idle():
        moments += 1
    assert moments > 20 and policy.pending == 0 and len(steady) > moments
    late = policy.infer(under(request(memory=memory), MACHINE)).report
    assert late.kept_static_per_view > (88, 88)
    assert policy.infer(under(request(memory=memory), PAPER)).report.kept_static_per_view == (88, 88)


def test_settle_measures_what_is_left(checkpoint, steady, tmp_path):
    policy = policy_on(checkpoint, tmp_path)
    memory = policy.infer(under(request(), MACHINE)).memory
    policy.infer(under(request(memory=memory), MACHINE))
    assert policy.settle() and policy.machine.staircase is not None


def test_graphs_are_announced_for_the_counts_of_the_machine_once_they_are_known(checkpoint, steady, tmp_path):
    policy, announced = policy_on(checkpoint, tmp_path), []
    policy.engine.captures = True
    policy.engine.expect = lambda inputs, layout, plan: announced.append(plan.budget.static_keep)
    memory = policy.infer(under(request(), PAPER)).memory
    assert {88, 114} <= set(announced), "the paper's, coarse and fine"
    announced.clear()
    policy.infer(under(request(memory=memory), MACHINE))
    assert announced == [], "not known yet"
    policy.settle()
    policy.infer(under(request(memory=memory), MACHINE))
    assert len(announced) == 2 * 3, "both modes, at this level and at the presets'"
    ours = policy._counts(Mode.COARSE, MACHINE.pruning, layout_of(policy)).static_keep
    assert ours > 88 and ours in announced


def test_it_is_measured_once_a_machine(checkpoint, steady, tmp_path):
    first = policy_on(checkpoint, tmp_path / "new" / "folder")
    first.warm_up(MACHINE, passes=1)
    (entry,) = (tmp_path / "new" / "folder").iterdir()
    kept = json.loads(entry.read_text())["measured_on"]
    assert kept["dtype"] == "float32" and kept["products"][0] == [96, 32] and kept["torch"] == torch.__version__
    count = len(steady)
    second = policy_on(checkpoint, tmp_path / "new" / "folder")
    memory = second.infer(under(request(), MACHINE)).memory
    assert second.infer(under(request(memory=memory), MACHINE)).report.kept_static_per_view > (88, 88)
    assert len(steady) == count and second.machine.staircase == first.machine.staircase


@pytest.mark.parametrize("name, value", [("device", "another"), ("threads", 99), ("torch", "1.0"), ("weights", "fp8")])
def test_what_was_measured_elsewhere_is_not_used(checkpoint, tmp_path, name, value):
    here = description(checkpoint.model.decoder, 588)
    files = StaircaseFile(tmp_path)
    files.save(here, STEPS)
    assert files.load(here) == STEPS and files.load(here | {name: value}) is None
    (entry,) = tmp_path.iterdir()
    entry.rename(files._path(here | {name: value}))
    assert files.load(here | {name: value}) is None, "the name alone does not count"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 99999]
    + [
        json.dumps({"rows": rows, "seconds": seconds}).encode()
        for rows, seconds in [([1, 2], [1.0]), ([2, 1], [1, 1]), ([True], [1.0]), ([1], ["x"]), ([1], [-1.0]), (5, 5)]
    ],
)
def test_a_damaged_entry_is_measured_again(checkpoint, steady, tmp_path, content):
    policy = policy_on(checkpoint, tmp_path)
    key = description(checkpoint.model.decoder, layout_of(policy).length)
    if content.startswith(b'{"'):
        content = json.dumps({"measured_on": key} | json.loads(content)).encode()
    path = StaircaseFile(tmp_path)._path(key)
    path.write_bytes(content)
    policy.warm_up(MACHINE, passes=1)
    assert steady and StaircaseFile(tmp_path).load(key) == policy.machine.staircase


@pytest.mark.parametrize("kind", ["a file", "below a file", "read only", "no home"])
def test_a_folder_that_cannot_be_used_is_no_failure(checkpoint, steady, tmp_path, monkeypatch, caplog, kind):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    folder = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "x", "read only": "/proc/x"}.get(
        kind, ""
    )
    policy = policy_on(checkpoint, folder)
    policy.warm_up(MACHINE, passes=1)
    assert policy.machine.staircase is not None
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == (kind != "no home") and all("inference works without" in text for text in warnings)


def test_a_measurement_that_fails_leaves_the_papers_budget(checkpoint, tmp_path, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(machine, "seconds_of", fails)
    policy = policy_on(checkpoint, tmp_path)
    policy.warm_up(MACHINE, passes=1)
    memory = policy.infer(under(request(), MACHINE)).memory
    assert policy.infer(under(request(memory=memory), MACHINE)).report.kept_static_per_view == (88, 88)
    assert not policy.pending and "token counts are the paper's: out of memory" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "stairs, says",
    [
        (Staircase((1, 640), (1e-3, 1e-3)), "pruning.aggressiveness 0 is as fast"),
        (Staircase((1, 640), (1e-6, 640e-6)), "above 0.95: that saves less than 3%"),
        (
            Staircase((1, 100, 170, 640), (1e-5, 1e-5, 1e-3, 1.1e-3)),
            "harder pruning saves time up to pruning.aggressiveness 1",
        ),
    ],
)
def test_the_words(checkpoint, stairs, says):
    known = MachineStaircase(checkpoint.model.decoder)
    known.staircase = stairs
    assert says in known.in_words(PAPER.pruning, layout_of(Policy(checkpoint, "eager")))


def test_it_is_a_live_parameter_and_no_part_of_a_preset(checkpoint, tmp_path):
    assert MACHINE.pruning.preset == "paper" and PAPER.pruning.budget == "paper"
    assert MACHINE.updated({"pruning.preset": "aggressive"}).pruning.budget == "machine"
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    policy = load_policy(PAPER.updated({"policy.checkpoint": str(folder), "policy.cache_dir": str(tmp_path / "kept")}))
    assert policy.machine._file.folder == tmp_path / "kept"
