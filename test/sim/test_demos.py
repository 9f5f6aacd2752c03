"""Demonstrations: noise, labels, what is recorded when, and the file format."""

import numpy as np
import pytest
from sim_helpers import assert_same

from specprune_ros.learn import demos, record
from specprune_ros.learn.noise import PushNoise
from specprune_ros.learn.record import Lot
from specprune_ros.sim.env import CAMERAS, COLOURS, TabletopEnv
from specprune_ros.sim.expert import expert_action

SEED = demos.TRAINING_SEED0
SHORT = Lot("pick", 2, SEED, max_steps=3)


def record_here(out, lot):
    """What worker processes do with the missing files of a lot, in this process."""
    try:
        return [record._record_file(task)[0] for task in record.missing(out, lot)]
    finally:
        if record._env:
            record._env.close()
        record._env = None


def test_noise_leaves_a_quarter_of_the_episodes_clean_and_stops():
    label = np.array([0.1, 0, 0, 0, 0, 0, 1.0])
    clean = 0
    for seed in range(200):
        noise = PushNoise(np.random.default_rng(seed))
        executed = np.stack([noise(label) for _ in range(noise.last_step + 10)])
        assert np.abs(executed).max() <= 1
        np.testing.assert_array_equal(executed[noise.last_step :], np.tile(label, (10, 1)))
        clean += np.array_equal(executed, np.tile(label, (len(executed), 1)))
    assert 0.15 < clean / 200 < 0.35


# What is recorded


def test_evaluation_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluation seeds 0..9999; start at 100000"):
        record.record(tmp_path, [Lot("pick", 1, 9_999)])


def test_reading_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="record some with specprune train"):
        demos.load(tmp_path)


@pytest.mark.parametrize(
    ("there", "episodes", "expected"),
    [
        ((), 3, [("pick", 100_000, 3)]),
        ((), 25, [("pick", 100_000, 10), ("pick", 100_010, 10), ("pick", 100_020, 5)]),
        ((("pick", 100_000, 10), ("pick", 100_010, 5)), 15, []),
        ((("pick", 100_000, 10), ("pick", 100_010, 5)), 25, [("pick", 100_015, 10)]),
        ((("pick", 100_003, 2),), 6, [("pick", 100_000, 3), ("pick", 100_005, 1)]),
        ((("goal", 100_000, 10), ("pick", 200_000, 10)), 3, [("pick", 100_000, 3)]),
    ],
)
def test_a_larger_recording_adds_what_is_missing_and_nothing_twice(tmp_path, there, episodes, expected):
    """Of every suite by itself, whatever sizes the files have that are there."""
    for suite, first, count in there:
        (tmp_path / f"demos_{suite}_{first}_{count}.npz").touch()
    tasks = record.missing(tmp_path, Lot("pick", episodes, SEED))
    assert [(t.lot.suite, t.seeds[0], len(t.seeds)) for t in tasks] == expected
    assert [t.path.name for t in tasks] == ["demos_{}_{}_{}.npz".format(*e) for e in expected]


def test_an_episode_that_is_there_twice_is_refused(tmp_path):
    for name in ("demos_pick_100000_25.npz", "demos_pick_100020_10.npz"):
        (tmp_path / name).touch()
    with pytest.raises(
        ValueError, match=r"seed 100020 in suite pick is in demos_pick_100000_25.npz and in demos_pick_1000"
    ):
        demos.load(tmp_path)


@pytest.mark.slow
def test_an_interrupted_recording_continues_in_worker_processes(tmp_path, capfd):
    [finished] = record_here(tmp_path, Lot("pick", 1, SEED, max_steps=3, scattered=True))
    (tmp_path / "demos_pick_100001_1.part").write_bytes(b"half a file")
    before = finished.read_bytes()
    lots = [Lot("pick", 2, SEED, max_steps=3, scattered=True), Lot("long", 1, SEED, max_steps=3)]
    made = record.record(tmp_path, lots, workers=2)
    assert {path.name for path in made} == {"demos_pick_100001_1.npz", "demos_long_100000_1.npz"}
    assert finished.read_bytes() == before and not list(tmp_path.glob("*.part"))
    assert "2/2 episodes" in capfd.readouterr().out
    data = demos.load(tmp_path)
    assert data.episodes["suite"].tolist() == ["long", "pick", "pick"]
    assert data.episodes["seeds"].tolist() == [100_000, 100_000, 100_001]
    assert record.record(tmp_path, lots, workers=2) == []
    with TabletopEnv(render=False) as env:
        for episode, start in ((1, 2), (2, 4)):
            env.reset(int(data.episodes["seeds"][episode]), scattered=True)
            np.testing.assert_array_equal(data.arrays["proprio"][start], env.proprio())


def test_no_file_is_begun_after_the_time_limit(tmp_path):
    assert record.record(tmp_path, [SHORT], workers=1, limit_s=-1.0) == []
    assert not list(tmp_path.iterdir())


# What a file holds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Beginnings of a few episodes of three suites, and one whole episode."""
    out = tmp_path_factory.mktemp("demos")
    for lot in (Lot("pick", 2, SEED, 12), Lot("spatial", 1, SEED, 12), Lot("goal", 1, SEED)):
        record_here(out, lot)
    return out


def test_files_join_to_aligned_arrays(folder):
    data = demos.load(folder)
    rows = len(data)
    assert data.episodes["suite"].tolist() == ["goal", "pick", "pick", "spatial"]
    assert data.episodes["success"].tolist() == [True, False, False, False]
    first = int(data.episode_ends[0])
    assert data.episode_ends.tolist() == [first, first + 6, first + 12, first + 18] and rows == first + 18
    assert data.file_ends.tolist() == [first, first + 12, rows] and len(set(data.digests)) == 3
    shapes = {
        "proprio": (8,),
        "chunk": (8, 7),
        "executed": (7,),
        "seen": (2, 256, 2),
        "positions_m": (8, 3),
        "pressed": (),
        "focus": (),
        "offset_m": (3,),
        "about": (),
    }
    assert {key: array.shape[1:] for key, array in data.arrays.items()} == shapes
    assert all(len(array) == rows for array in data.arrays.values())
    assert (data.arrays["seen"][..., 0] > 0).sum() == (data.arrays["seen"][..., 1] > 0).sum() > 0
    every = np.arange(rows)
    focus = data.arrays["focus"]
    assert (data.episodes["kind"][data.episode, focus] != demos.NONE).all()
    assert ((data.arrays["about"] >> focus) & 1).all(), "the thing in focus is named by the goal"
    offset = data.arrays["positions_m"][every, focus] - data.arrays["proprio"][:, :3]
    np.testing.assert_allclose(offset, data.arrays["offset_m"], atol=1e-6)


def test_rows_say_what_the_simulator_shows(folder):
    """Pictures up to JPEG, what is seen, and looks, at the beginning of every episode."""
    data = demos.load(folder)
    with TabletopEnv() as env:
        for episode, start in enumerate([0, *data.episode_ends[:-1]]):
            suite = str(data.episodes["suite"][episode])
            assert env.reset(int(data.episodes["seeds"][episode]), suite=suite) == data.episodes["instruction"][episode]
            images = data.images(start)
            assert images.shape == (2, 224, 224, 3) and images.dtype == np.uint8
            things = list(env.state().things.values())
            for view, camera in enumerate(CAMERAS):
                assert np.abs(images[view].astype(int) - env.render(camera)).mean() < 2
                cover = env.render_cover(camera)
                which, share = data.arrays["seen"][start, view].T
                np.testing.assert_array_equal(share, cover.max(axis=1))
                assert all(cover[i, w - 1] == s for i, (w, s) in enumerate(zip(which, share, strict=True)) if s)
            for i, thing in enumerate(things):
                assert demos.KIND_NAMES[data.episodes["kind"][episode, i]] == thing.kind
                if thing.colour:
                    assert COLOURS[data.episodes["colour"][episode, i]] == thing.colour
            assert (data.episodes["kind"][episode, len(things) :] == demos.NONE).all()


def test_labels_are_the_experts_next_actions_without_noise(folder):
    """Branching finds them, and leaves the episode as it was."""
    data = demos.load(folder)
    start = int(data.episode_ends[2])  # the spatial one
    with TabletopEnv(render=False) as env:
        env.reset(SEED, suite="spatial")
        chunk = [expert_action(env.state())]
        while len(chunk) < 8:
            chunk.append(expert_action(env.step(chunk[-1])))
        np.testing.assert_allclose(data.arrays["chunk"][start], chunk, atol=1e-6)
        env.reset(SEED, suite="spatial")
        begun = env.state()
        np.testing.assert_array_equal(record._undisturbed_chunk(env, begun), chunk)
        assert_same(env.state(), begun)


def test_a_policy_that_flies_is_labelled_by_the_expert(tmp_path, monkeypatch):
    """What is executed is the policy's, what is recorded as right is the expert's."""
    monkeypatch.setattr(record, "_pilot", lambda *_: lambda label: np.array([0, 0, 0.3, 0, 0, 0, 1.0]))
    with TabletopEnv() as env:
        episode = record.record_episode(env, Lot("object", 1, demos.PILOT_SEED0, 8, pilot="x"), demos.PILOT_SEED0)
    assert (episode["executed"][:, 2] == np.float32(0.3)).all()
    assert (np.diff(episode["proprio"][:, 2]) > 0.02).all() and (episode["chunk"][-1, 0, 2] < 0)
