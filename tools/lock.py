"""Writes tools/constraints/py3.X.txt, the versions that `make venv` installs: `make lock`, or tools/lock.py PYTHON ...

For each Python, a fresh environment with the newest pip resolves everything that pyproject.toml lists, without
installing it. NVIDIA's libraries are left out: a CUDA build of PyTorch names its own, and the CPU build needs none.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"
"""The version that the published measurements were made with."""
OF_TORCH = re.compile(r"(nvidia|cuda|triton)\b|(nvidia|cuda|triton)[-_]")
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def pins(report: dict) -> list[str]:
    """'name==version' for everything in pip's report, sorted; a local version such as +cpu is not part of it."""
    found = ((item["metadata"]["name"].lower(), item["metadata"]["version"]) for item in report["install"])
    return sorted(f"{name}=={version.partition('+')[0]}" for name, version in found if not OF_TORCH.match(name))


def lock(python: str) -> Path:
    """Resolves for one interpreter; returns the file written."""
    version = run(python, "-c", VERSION).strip()
    target = TOOLS / "constraints" / f"py{version}.txt"
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        inside = Path(folder, "bin", "python")
        run(inside, "-m", "pip", "install", "--upgrade", "pip")
        wanted, report = Path(folder, "requirements.txt"), Path(folder, "report.json")
        wanted.write_text(run(inside, TOOLS / "requirements.py"))
        resolve = ("install", "--dry-run", "--ignore-installed", "--quiet", "--report", report, "-r", wanted, TORCH)
        run(inside, "-m", "pip", *resolve)
        pip = json.loads(run(inside, "-m", "pip", "list", "--format=json"))
        lines = pins(json.loads(report.read_text())) + [f"pip=={p['version']}" for p in pip if p["name"] == "pip"]
    target.parent.mkdir(exist_ok=True)
    head = f"# Python {version}: what `make venv` installs. Written by tools/lock.py; do not edit.\n"
    target.write_text(head + "\n".join(sorted(lines)) + "\n")
    return target


def main(pythons: list[str]) -> int:
    for python in pythons or [sys.executable]:
        try:
            print(lock(python))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{python}: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
