"""`specprune bench --inputs`: what inputs of a real robot's size and rate cost the policy node.

The node runs with a scripted policy, on a graph of its own, beside drivers that are processes as on a robot: two raw
cameras of 1280 x 720 at 30 Hz, reliable ones on Fast DDS as it comes and best-effort ones with the profile that our
launch files set, and poses at 1 kHz. Counted are control periods, images that arrived, and the processor time of the
node's process."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from specprune_ros.config import Topics
from specprune_ros.eval.machine import load_average, machine
from specprune_ros.eval.results import write_json

CAMERA_HZ, WIDTH, HEIGHT, POSE_HZ = 30, 1280, 720, 1000
DRIVERS = [sys.executable, "-m", "specprune_ros.bench.drivers"]
SETTLE_S = 3.0
STANDS_STILL = {"supervision.enabled": False}
"""A driver that says a thousand times a second where the arm is shows one that does not move."""


@dataclass(frozen=True)
class Row:
    """One set of inputs. drivers: name -> arguments of `bench.drivers`; without: what the stand-in robot leaves to
    them; profiled: with our profile of Fast DDS."""

    name: str
    drivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without: tuple[int | str, ...] = ()
    profiled: bool = False
    changes: Mapping[str, object] = field(default_factory=dict)


def cameras(reliability: str) -> dict[str, tuple[str, ...]]:
    size = (str(WIDTH), str(HEIGHT), reliability)
    return {f"camera{i}": ("camera", str(CAMERA_HZ), topic, *size) for i, topic in enumerate(Topics().images)}


ROWS = (
    Row("small images and poses at 20 Hz"),
    Row("two raw cameras, reliable, Fast DDS as it comes", cameras("reliable"), (0, 1)),
    Row("two raw cameras, best effort, our profile", cameras("best_effort"), (0, 1), profiled=True),
    Row("poses at 20 Hz, unsupervised", {"pose": ("pose", "20")}, ("pose",), changes=STANDS_STILL),
    Row("poses at 1 kHz, unsupervised", {"pose": ("pose", str(POSE_HZ))}, ("pose",), changes=STANDS_STILL),
)


def run(args: argparse.Namespace) -> int:
    """Measure every row in turn; 0 on success."""
    console, before = Console(), load_average()
    rows: list[dict[str, object]] = []
    for row in ROWS:
        console.print(f"{row.name}: {args.minutes:g} minutes ...")
        rows.append(measure(row, 60.0 * args.minutes))
        result = {"rows": rows, "minutes": args.minutes, "machine": {**machine(), "load_average_before": before}}
        if args.json:
            write_json(args.json, result)
    console.print(table(result))
    return 0


def measure(row: Row, seconds: float) -> dict[str, object]:
    """Control periods, arrived images per second and the node's share of a core while the arm moves."""
    from diagnostic_msgs.msg import DiagnosticArray

    from specprune_ros.bench.faults.scene import LiveScene
    from specprune_ros.ros import qos
    from specprune_ros.ros.launching import PROFILES

    environment = dict.fromkeys(PROFILES, str(profile())) if row.profiled else {}
    domain = 1 + os.getpid() % 100
    with tempfile.TemporaryDirectory() as folder:
        scene = LiveScene("action", Path(folder), domain, row.changes, row.without, environment)
        with scene:
            reports: list[DiagnosticArray] = []
            scene.node.create_subscription(DiagnosticArray, "/diagnostics", reports.append, qos.EVENTS)
            scene.start()
            for name, arguments in row.drivers.items():
                scene.start_beside(name, [*DRIVERS, *arguments])
            scene.arm_and_move()
            scene.spin(SETTLE_S)
            first, spent_s, began_s = scene.status, cpu_s(scene.pid), time.monotonic()
            scene.spin(seconds)
            last, spent_s = scene.status, cpu_s(scene.pid) - spent_s
            elapsed_s = time.monotonic() - began_s
    control = last.control
    return {
        "inputs": row.name,
        "periods": last.ticks - first.ticks,
        "holds": last.holds - first.holds,
        "resets": last.resets - first.resets,
        "gaps": control.gaps - first.control.gaps,
        **{name: round(getattr(control, name), 3) for name in ("p50", "p99", "max")},
        "images_hz": [_rate(reports[-1], topic) for topic in Topics().images] if reports else [],
        "poses_hz": _rate(reports[-1], Topics().ee_pose) if reports else None,
        "share_of_a_core": round(spent_s / elapsed_s, 3),
    }


def profile() -> Path:
    """fastdds.xml as installed with the package, or in this checkout."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        return Path(get_package_share_directory("specprune_ros"), "config", "fastdds.xml")
    except (PackageNotFoundError, OSError):  # not found, or there is no AMENT_PREFIX_PATH at all
        return Path(__file__).resolve().parents[2] / "config" / "fastdds.xml"


def cpu_s(pid: int) -> float:
    """Processor time that a process has used so far, all its threads together [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rate(report, topic: str) -> float | None:
    """Of the messages of a topic, as the node's diagnostics say [Hz]."""
    for status in report.status:
        for item in status.values:
            if item.key == f"{topic} rate [Hz]" and (found := re.match(r"[\d.]+", item.value)):
                return float(found.group())
    return None


def table(result: Mapping[str, object]) -> Table:
    shown = Table(title="What inputs cost the node", box=SIMPLE_HEAD, title_justify="left")
    headings = ("inputs", "periods", "holds", "gaps", "p99 [ms]", "max [ms]", "images [Hz]", "poses [Hz]", "of a core")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "inputs" else "right")
    for row in result["rows"]:
        counts = (str(row[name]) for name in ("periods", "holds", "gaps"))
        times = (f"{row[name]:.2f}" for name in ("p99", "max"))
        images = ", ".join(f"{rate:g}" for rate in row["images_hz"] if rate is not None)
        poses = "" if row["poses_hz"] is None else f"{row['poses_hz']:g}"
        shown.add_row(row["inputs"], *counts, *times, images, poses, f"{row['share_of_a_core']:.0%}")
    return shown
