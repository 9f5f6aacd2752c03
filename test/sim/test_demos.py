"""Demonstrations: labels, chunks, noise and the file format."""

import numpy as np
import pytest

from specprune_ros.learn import demos
from specprune_ros.sim.env import COLOURS


def test_chunk_labels_hold_past_the_end_of_an_episode():
    actions = np.arange(5 * 7, dtype=np.float32).reshape(5, 7) + 1
    chunks = demos.chunk_labels(actions, [3, 5], horizon=4)
    assert chunks.shape == (5, 4, 7)
    np.testing.assert_array_equal(chunks[:, 0], actions)
    np.testing.assert_array_equal(chunks[1, 1], actions[2])
    np.testing.assert_array_equal(chunks[1, 2:, :6], 0)
    np.testing.assert_array_equal(chunks[1, 2:, 6], actions[2, 6])  # the last gripper command stays
    np.testing.assert_array_equal(chunks[3, 1], actions[4])


def test_evaluation_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="evaluation seeds 0..9999; start at 100000"):
        demos.record(tmp_path, episodes=1, seed0=9_999)


def test_reading_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="record some with"):
        demos.load(tmp_path)


def test_noise_leaves_a_quarter_of_the_episodes_clean_and_stops():
    label = np.array([0.1, 0, 0, 0, 0, 0, 1.0])
    clean = 0
    for seed in range(200):
        noise = demos.PushNoise(np.random.default_rng(seed))
        executed = np.stack([noise(label) for _ in range(noise.last_step + 10)])
        assert np.abs(executed).max() <= 1
        np.testing.assert_array_equal(executed[noise.last_step :], np.tile(label, (10, 1)))
        clean += np.array_equal(executed, np.tile(label, (len(executed), 1)))
    assert 0.15 < clean / 200 < 0.35


def record_here(*tasks):
    """What a worker process does with its files, in this process."""
    try:
        for task in tasks:
            demos._record_file(task)
    finally:
        demos._env.close()
        demos._env = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three short episodes in two files, recorded without worker processes."""
    out = tmp_path_factory.mktemp("demos")
    record_here(*((out / f"demos_{start}_{n}.npz", start, n, 12) for start, n in ((100_000, 2), (100_002, 1))))
    return out


def test_files_join_to_aligned_arrays(folder):
    data = demos.load(folder)
    steps = len(data)
    assert (
        data.episode_ends.tolist() == [12, 24, 36]
        and data.seeds.tolist() == [100_000, 100_001, 100_002]
        and steps == 36
    )
    shapes = {
        "proprio": (8,),
        "action": (7,),
        "executed": (7,),
        "chunk": (8, 7),
        "cover": (2, 256, 6),
        "target": (),
        "target_offset_m": (3,),
        "cube_present": (6,),
        "cube_positions_m": (6, 3),
    }
    assert {key: array.shape[1:] for key, array in data.arrays.items()} == shapes
    assert all(len(array) == steps for array in data.arrays.values())
    np.testing.assert_array_equal(data.arrays["chunk"][:, 0], data.arrays["action"])
    every = np.arange(steps)
    target = data.arrays["target"]
    assert data.arrays["cube_present"][every, target].all()
    offset = data.arrays["cube_positions_m"][every, target] - data.arrays["proprio"][:, :3]
    np.testing.assert_allclose(offset, data.arrays["target_offset_m"], atol=1e-6)


def test_images_decode_in_order(folder):
    """The first image of an episode is the one the environment renders, up to JPEG."""
    data = demos.load(folder)
    with demos.TabletopEnv() as env:
        for episode, start in enumerate((0, 12, 24)):
            env.reset(int(data.seeds[episode]))
            images = data.images(start)
            assert images.shape == (2, 224, 224, 3) and images.dtype == np.uint8
            for image, camera in zip(images, demos.CAMERAS, strict=True):
                assert np.abs(image.astype(int) - env.render(camera)).mean() < 2


def test_branching_for_the_chunk_does_not_change_the_episode():
    with demos.TabletopEnv(render=False) as env:
        env.reset(100_007)
        states = [env.state()]
        for _ in range(10):
            states.append(env.step(demos.expert_action(states[-1])))
        env.reset(100_007)
        for expected in states:
            state = env.state()
            np.testing.assert_array_equal(state.joint_positions_rad, expected.joint_positions_rad)
            chunk = demos._undisturbed_chunk(env, state)
            env.step(chunk[0])
    assert COLOURS[0] == "red"


def test_existing_files_are_kept(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    paths = demos.record(folder, episodes=2, seed0=100_000, workers=1, per_file=2)
    assert [path.name for path in paths] == ["demos_100000_2.npz"]
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert not list(folder.glob("*.part"))


def test_an_interrupted_recording_of_short_scattered_episodes_continues(tmp_path, capfd):
    finished, unfinished = tmp_path / "demos_100000_1.npz", tmp_path / "demos_100001_1.npz"
    record_here((finished, 100_000, 1, 3, True))
    unfinished.with_suffix(".part").write_bytes(b"half a file")
    before = finished.read_bytes()
    how = {"workers": 1, "per_file": 1, "max_steps": 3, "scattered": True}
    assert demos.record(tmp_path, episodes=2, seed0=100_000, **how) == [finished, unfinished]
    assert finished.read_bytes() == before and not list(tmp_path.glob("*.part"))
    assert "1 episodes, 3 steps" in capfd.readouterr().out  # only what was missing
    for path in (finished, unfinished):
        with np.load(path) as data:
            assert set(data.files) == {*demos.PER_STEP, *demos.PER_EPISODE, "jpeg"}
    data = demos.load(tmp_path)
    assert data.episode_ends.tolist() == [3, 6] and data.seeds.tolist() == [100_000, 100_001]
    assert not data.success.any() and data.images(5).shape == (2, 224, 224, 3)
    with demos.TabletopEnv(render=False) as env:
        for seed, start in zip(data.seeds, (0, 3), strict=True):
            env.reset(int(seed), scattered=True)
            np.testing.assert_array_equal(data.arrays["proprio"][start], env.proprio())
            env.reset(int(seed))
            assert np.abs(data.arrays["proprio"][start] - env.proprio()).max() > 0.01
