"""Both ways to install: an edit counts at once, a wheel holds everything, and neither disturbs the other."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from specprune_ros import shell_variables

ROOT = Path(__file__).resolve().parents[2]
SITE = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shell_variables.own_prefix() is None, reason="needs the ROS wheels to build with"),
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the source in a path with a space and an umlaut, its messages as compiled as ours are."""
    target = tmp_path_factory.mktemp("Größe und") / "specprune ros"
    leave = shutil.ignore_patterns(".*", "build", "report", "__pycache__", "*.egg-info", "docs", "test")
    shutil.copytree(ROOT, target, ignore=leave)
    if (ROOT / "build" / "messages").is_dir():
        shutil.copytree(ROOT / "build" / "messages", target / "build" / "messages")
    return target


def pip(*arguments, cwd):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, ".", cwd=clone)
    [path] = folder.glob("*.whl")
    return path


def test_a_wheel_holds_everything(wheel):
    """Python code, weights, compiled messages, launch files, configuration, executables; nothing of ours besides."""
    names = zipfile.ZipFile(wheel).namelist()
    python = {str(path.relative_to(ROOT)) for path in ROOT.joinpath("specprune_ros").rglob("*.py")}
    bundled = {str(path.relative_to(ROOT)) for path in ROOT.joinpath("specprune_ros/model/bundled").glob("*.*")}
    assert python | bundled <= set(names)
    data = {name.split(".data/data/", 1)[1] for name in names if ".data/data/" in name}
    shared = [path for folder in ("launch", "config", "config/gazebo") for path in ROOT.joinpath(folder).glob("*.*")]
    assert {f"share/specprune_ros/{path.relative_to(ROOT)}" for path in shared} <= data
    interfaces = [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]
    assert {f"share/specprune_ros/{path.relative_to(ROOT)}" for path in interfaces} <= data
    assert {"lib/specprune_ros/policy_node", "lib/specprune_ros/sim_node"} <= data
    for support in ("rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c"):
        assert any(name.startswith(f"specprune_ros/specprune_ros_s__{support}") for name in names)
        assert f"lib/libspecprune_ros__{support}.so" in data
    assert {"specprune_ros/msg/__init__.py", "specprune_ros/srv/__init__.py"} <= set(names)
    assert not [name for name in names if name.startswith(("test", "tools", "build")) or "__pycache__" in name]


def test_a_wheel_names_no_folder_of_the_machine_that_built_it(wheel, clone):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        content = archive.read(name)
        assert str(clone).encode() not in content, name
        if not name.endswith((".so", ".safetensors", ".pt")):
            assert f"/{Path(sys.prefix).name}/lib/".encode() not in content, name


def install_for_editing(clone, prefix):
    """As `pip install -e .` does, but by hand: pip would first remove the installation that runs this test."""
    built = prefix / "wheel"
    built.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_editable({str(built)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(prefix / SITE)
    [data] = (prefix / SITE).glob("*.data")
    shutil.copytree(data / "data", prefix, dirs_exist_ok=True)


def run_installed(target, code):
    environment = os.environ | {"PYTHONPATH": str(target / SITE)}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=target, capture_output=True, text=True)


def test_an_edit_counts_at_once_and_a_clone_that_is_gone_is_named(clone, tmp_path):
    """The editable installation, into a folder of its own instead of the environment that runs this test."""
    install_for_editing(clone, tmp_path)
    show = "import specprune_ros.msg, specprune_ros.edited as e; print(specprune_ros.msg.__file__, e.VALUE, sep='\\n')"
    edited = clone / "specprune_ros" / "edited.py"
    for value in ("first", "another"):
        edited.write_text(f"VALUE = {value!r}\n")
        shutil.rmtree(edited.parent / "__pycache__", ignore_errors=True)  # two writes in one second
        messages, seen = run_installed(tmp_path, show).stdout.splitlines()
        assert seen == value
        assert Path(messages).is_relative_to(tmp_path), "messages are the compiled ones"
    edited.unlink()
    assert not (clone / "specprune_ros" / "msg").exists()

    moved = clone.with_name("moved")
    clone.rename(moved)
    try:
        done = run_installed(tmp_path, "import specprune_ros")
    finally:
        moved.rename(clone)
    assert f"was installed for editing from {clone}/specprune_ros, which is not there any more" in done.stderr
    assert "`make venv`" in done.stderr


def test_messages_in_the_source_are_refused(clone, tmp_path):
    """They would be found before the compiled ones."""
    stray = clone / "specprune_ros" / "msg"
    stray.mkdir()
    try:
        command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path]
        done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    finally:
        stray.rmdir()
    assert done.returncode != 0 and f"remove {stray}: rosidl generates specprune_ros.msg" in done.stderr


def test_messages_compile_in_a_path_with_a_space_and_an_umlaut(clone, tmp_path):
    """Fault 27: rosidl read such a path back in pieces. Also when the folder for temporary files has such a name."""
    odd = tmp_path / "zwischen größe"
    odd.mkdir()
    kept = clone / "build" / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    if (clone / "build" / "messages").exists():
        (clone / "build" / "messages").rename(kept)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "out"]
    done = subprocess.run(command, cwd=clone, env=os.environ | {"TMPDIR": str(odd)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "out" / "specprune_ros" / "msg" / "_action.py").exists()
    assert not list(odd.iterdir())
