"""The repository's own tools: what is locked, which versions lint, what the Makefile and CI promise."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"
CONSTRAINTS = ROOT / "tools" / "constraints"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="needs the repository")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(python):
    lines = (CONSTRAINTS / f"py{python}.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {normal(name): version for name, version in pairs}


@functools.cache
def wanted():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "requirements.py"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_asked_for_is_locked_for_every_python(python):
    """After a change of dependencies: make lock."""
    versions = locked(python)
    requirement = pytest.importorskip("packaging.requirements").Requirement
    for line in [*wanted(), "torch>=2.5", "pip"]:
        asked = requirement(line)
        assert versions[normal(asked.name)] in asked.specifier, f"{line}: {versions[normal(asked.name)]} is locked"


@pytest.mark.parametrize("python", PYTHONS)
def test_no_lock_brings_cuda_by_itself(python):
    assert not [name for name in locked(python) if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_promised_pythons_are_the_locked_ones():
    assert f'requires-python = ">={PYTHONS[0]},<3.14"' in PROJECT.read_text()
    assert {path.stem.removeprefix("py") for path in CONSTRAINTS.glob("*.txt")} == set(PYTHONS)


def test_pins_leave_out_what_a_cuda_build_brings():
    spec = importlib.util.spec_from_file_location("lock", ROOT / "tools" / "lock.py")
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    versions = {"Torch": "2.13.0+cpu", "nvidia-cublas": "1", "triton": "3", "cuda-bindings": "1", "tritonclient": "2"}
    report = {"install": [{"metadata": {"name": name, "version": version}} for name, version in versions.items()]}
    assert lock.pins(report) == ["torch==2.13.0", "tritonclient==2"]


def test_a_commit_and_ci_are_judged_by_the_same_versions():
    hooks = {
        repo["repo"].rsplit("/", 1)[1]: repo["rev"]
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    }
    for tool, repository in (("ruff", "ruff-pre-commit"), ("mypy", "mirrors-mypy")):
        version = re.search(rf'"{tool}==([\d.]+)"', PROJECT.read_text())[1]
        assert hooks[repository] == f"v{version}"
        assert {locked(python)[tool] for python in PYTHONS} == {version}


def make(*arguments):
    command = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["demo", "test", "check", "lint", "format", "types", "lock"])
def test_every_target_runs_in_the_cleaned_environment(target):
    run = [line for line in make(target, "VENV=/nowhere/env").splitlines() if "/nowhere/env/bin/" in line]
    assert run
    for line in run:
        assert line.lstrip("@").startswith(
            "/nowhere/env/bin/python -I -S specprune_ros/shell_variables.py /nowhere/env "
        )


def test_make_help_names_every_target():
    done = subprocess.run(["make", "--no-print-directory", "-C", str(ROOT), "help"], capture_output=True, text=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert re.findall(r"^  make (\w+)", done.stdout, re.MULTILINE) == phony


def test_ci_runs_lint_types_and_every_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make lint types" in script
    assert re.findall(r'^part \d "(.*)"$', script, re.MULTILINE) == ["not ros", "ros"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "--durations=15" in make("test")
    assert '-m "not slow and not ros and not sim"' in make("check")


def test_contributing_names_targets_and_markers_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= set(phony)
    for marker in ("ros", "sim", "slow", "gpu"):
        assert f"`{marker}`" in text and f'"{marker}: ' in PROJECT.read_text()
