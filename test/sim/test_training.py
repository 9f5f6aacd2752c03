"""Training: what is cached and held out when demonstrations are added, interruption, and every path to a checkpoint."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from specprune_ros.cli import train as command
from specprune_ros.config import Config, ConfigError
from specprune_ros.infer.load import load_policy
from specprune_ros.learn import demos, record
from specprune_ros.learn.demos import Demos
from specprune_ros.learn.features import FeatureCache, digest
from specprune_ros.learn.loop import Loop, Span
from specprune_ros.learn.recipe import CPU, POLICIES, RECIPES, TINY
from specprune_ros.learn.record import Lot
from specprune_ros.learn.train import PolicyTrainer, Workshop
from specprune_ros.learn.wording import said

# Features


def fake(files):
    """Demonstrations that are nothing but (digest, rows) of every file."""
    ends = np.cumsum([count for _, count in files])
    return Demos({}, {}, ends, np.empty(0), np.zeros((ends[-1], 2)), ends, tuple(name for name, _ in files))


def features_of(files):
    """What a row's features are, computed from its file's content and its place in it."""
    rows = [(ord(name), i) for name, count in files for i in range(count)]

    def compute(wanted):
        return torch.tensor([rows[row] for row in wanted], dtype=torch.float32)[:, None]

    return compute


def all_features(cache, files):
    count = sum(n for _, n in files)
    return cache.get(np.arange(count), features_of(files)).float()[:, 0].tolist()


@pytest.mark.parametrize(
    "more",
    [
        [("a", 3), ("b", 4), ("c", 5)],  # at the end,
        [("c", 5), ("a", 3), ("b", 4)],  # before what was there: every row moves,
        [("a", 3), ("c", 5), ("b", 4)],  # in between,
        [("b", 4)],  # and with a file taken away
    ],
)
def test_features_stay_with_their_pictures_when_demonstrations_are_added(tmp_path, more):
    """A cache by row number gave wrong features as soon as rows moved."""
    first = [("a", 3), ("b", 4)]
    cache = FeatureCache(tmp_path, fake(first), (1, 2), "w")
    cache.get(np.array([0, 2, 5]), features_of(first))  # not all of them yet
    again = FeatureCache(tmp_path, fake(more), (1, 2), "w")
    assert all_features(again, more) == [[ord(name), i] for name, count in more for i in range(count)]


def test_features_are_computed_once_and_anew_for_other_weights(tmp_path):
    files, asked = [("a", 4)], []

    def compute(rows):
        asked.append(rows.tolist())
        return features_of(files)(rows)

    FeatureCache(tmp_path, fake(files), (1, 2), "w").get(np.array([1, 1, 3]), compute)
    FeatureCache(tmp_path, fake(files), (1, 2), "w").get(np.array([0, 1, 3]), compute)
    assert asked == [[1, 3], [0]]
    FeatureCache(tmp_path, fake(files), (1, 2), "v").get(np.array([1]), compute)
    assert asked[2:] == [[1]] and {path.suffix for path in tmp_path.glob("features-w*")} == set()
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    assert digest(layers[0]) != digest(layers[1]) and digest(layers[0]) == digest(layers[0])


# The loop


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)


def toy_loop(path, recipe=TINY):
    loop = Loop(path, Toy(), nn.Linear(1, 1), recipe, "cpu")

    def step(rng, generator):
        x = torch.from_numpy(rng.normal(size=(2, 4)).astype(np.float32))
        loss = (loop.heads(loop.model.layer(x)) - x.sum(1, keepdim=True)).abs().mean()
        return {"error": loss}, loss

    return loop, step


def test_training_goes_on_where_it_was_interrupted(tmp_path):
    loop, step = toy_loop(tmp_path / "toy.pt")

    def interrupted(rng, generator):
        if loop.seen == 12:
            raise KeyboardInterrupt
        return step(rng, generator)

    with pytest.raises(KeyboardInterrupt):
        loop.run(Span("one", 40, 2, 0.01), interrupted)
    loop.save()
    again, step = toy_loop(tmp_path / "toy.pt")
    assert (again.stage, again.seen, again.finished) == ("one", 12, [])
    torch.testing.assert_close(again.average["layer.weight"], loop.average["layer.weight"])
    again.run(Span("one", 40, 2, 0.01), step)
    third, _ = toy_loop(tmp_path / "toy.pt")
    assert (third.seen, third.finished) == (40, ["one"])
    third.run(Span("one", 40, 2, 0.01), None)  # over: nothing is done
    assert "toy one" in (tmp_path / "toy.jsonl").read_text()


def test_a_stage_ends_when_its_time_is_up(tmp_path, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("specprune_ros.learn.loop.time.monotonic", lambda: next(clock))
    loop, step = toy_loop(tmp_path / "toy.pt")
    loop.run(Span("one", 10**9, 2, 0.01), step, limit_s=100)
    assert loop.finished == ["one"] and 10 < loop.seen < 200


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    recipe = replace(CPU, warmup_samples=100, constant=0.6)
    loop, _ = toy_loop(tmp_path / "toy.pt", recipe)
    heights = []
    for seen in range(0, 1001, 10):
        loop.seen = seen
        heights.append(loop._height(loop._part(Span("one", 1000, 10, 1.0), None)))
    assert heights[0] < 0.02 and heights[10] == heights[59] == 1.0 and heights[-1] == pytest.approx(0.03)
    assert np.all(np.diff(heights[:10]) > 0) and np.all(np.diff(heights[62:]) < 0)


def test_a_seed_decides_the_words_and_most_are_the_simulators():
    text = "put the red can on the plate and press the button"
    told = [said(text, seed) for seed in range(100_000, 100_060)]
    assert told == [said(text, seed) for seed in range(100_000, 100_060)]
    assert sum(t == text for t in told) == 50
    others = {f"{verb} the red can on the plate then push the button" for verb in ("place", "move")}
    assert set(told) == {text} | others
    assert said("push the red cube to the edge", 0) == "move the red cube to the edge"


# The whole path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder with beginnings of episodes of two suites, and one whole episode."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "demos").mkdir()
    for lot in (Lot("pick", 1), Lot("pick", 2, demos.APPROACH_SEED0, 8), Lot("spatial", 3, demos.APPROACH_SEED0, 8)):
        for task in record.missing(folder / "demos", lot):
            record._record_file(task)
    record._env.close()
    record._env = None
    return folder


def test_samples_have_prompts_of_one_length_and_suites_by_their_shares(work):
    shop = Workshop(work, RECIPES["cpu"], "cpu")
    recipe = command.chosen(CPU, "pick,spatial")
    rng, counts = np.random.default_rng(0), {"pick": 0, "spatial": 0}
    for _ in range(200):
        rows = shop.data.sample(rng, 4, recipe)
        assert len(set(shop.data.words[rows])) == 1 and not set(rows) & set(shop.data.held_out)
        for row in rows:
            counts[str(shop.data.demos.episodes["suite"][shop.data.episode[row]])] += 1
    assert counts["spatial"] / sum(counts.values()) == pytest.approx(0.22 / 0.32, abs=0.1)


def test_labels_of_a_batch_are_those_of_the_rows(work):
    shop = Workshop(work, TINY, "cpu")
    data = shop.data
    rows = np.array([0, 5])
    batch = data.batch(rows, torch.zeros(2, 512, 256))
    pictures = data.vision_batch(rows)
    for i, row in enumerate(rows):
        seen, focus = data.demos.arrays["seen"][row].reshape(512, 2), data.demos.arrays["focus"][row]
        expected = np.where(seen[:, 0] == focus + 1, seen[:, 1] / 255, 0.0)
        np.testing.assert_allclose(batch.focus[i], expected, atol=1e-6)
        np.testing.assert_allclose(batch.anything[i], seen[:, 1] / 255, atol=1e-6)
        assert (batch.about[i] >= batch.focus[i]).all() and (batch.about[i] <= batch.anything[i]).all()
        colour = data.demos.episodes["colour"][data.episode[row]]
        shown = pictures.look.view(2, 512)[i][seen[:, 0] > 0]
        np.testing.assert_array_equal(shown, colour[seen[seen[:, 0] > 0, 0] - 1])
    back = shop.data.statistics.restore_actions(batch.chunk[0].numpy())
    np.testing.assert_allclose(back, data.demos.arrays["chunk"][0], atol=1e-5)


def test_more_demonstrations_change_neither_the_units_nor_who_is_held_out(work, tmp_path):
    import shutil

    shutil.copytree(work / "demos", tmp_path / "demos")
    before = Workshop(tmp_path, TINY, "cpu")
    for task in record.missing(tmp_path / "demos", Lot("object", 25, demos.APPROACH_SEED0, 2)):
        record._record_file(task)
    after = Workshop(tmp_path, TINY, "cpu")
    assert after.statistics == before.statistics and len(after.data.demos) > len(before.data.demos)

    def held_out(shop):
        episodes = shop.data.demos.episodes
        rows = shop.data.episode[shop.data.held_out]
        return {(str(episodes["suite"][e]), int(episodes["seeds"][e])) for e in rows}

    assert held_out(after) - held_out(before) == {("object", 200_024)} and held_out(before) <= held_out(after)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_every_stage_ends_in_a_checkpoint_that_loads(work, tmp_path, policy):
    """Without recording; the losses are finite, and what is exported is the average on the shared towers."""
    recipe = command.chosen(TINY, "pick,spatial")
    shop = Workshop(work, recipe, "cpu")
    shop.train_vision()
    trainer = PolicyTrainer(shop, policy)
    for stage in recipe.stages[policy]:
        trainer.train(stage)
        losses = trainer.losses(shop.data.training[:1], stage, torch.Generator())
        assert all(math.isfinite(float(loss.detach())) for loss in losses.values())
    assert trainer.loop.finished == [stage.name for stage in recipe.stages[policy]]
    trainer.export(tmp_path / policy)
    loaded = load_policy(Config().updated({"policy.checkpoint": str(tmp_path / policy), "policy.dtype": "fp32"}))
    stored = loaded.checkpoint.model.state_dict() if hasattr(loaded, "checkpoint") else loaded.model.state_dict()
    name = "decoder.layers.0.o_proj.weight"
    torch.testing.assert_close(stored[name], trainer.loop.average[name].bfloat16().float())
    again = PolicyTrainer(Workshop(work, recipe, "cpu"), policy)
    assert again.loop.finished == trainer.loop.finished


def test_a_suite_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="--suites: 'libero' is not known; give some of pick, object, spatial, goal"):
        command.chosen(CPU, "pick,libero")
    assert list(command.chosen(CPU, "all").data) == ["pick", "object", "spatial", "goal", "long"]
