"""The import wall: which folder may import what, read from the source without importing it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "specprune_ros"
OWN = "specprune_ros"

NUMERICS = {"numpy"}
TORCH = {"numpy", "torch", "safetensors", "tokenizers", "transformers", "timm", "PIL"}
SIM = {"numpy", "mujoco", "OpenGL", "PIL"}
ANYTHING_BUT_ROS = None
EVERYTHING = None
CORE = {"types", "config", "rotation", "observe", "control", "prune", "model", "infer"}

# folder or module -> (third-party packages, parts of our own that it may import besides itself)
WALL = {
    "types": (NUMERICS, set()),
    "config": (NUMERICS, {"types"}),
    "rotation": (NUMERICS, set()),
    "observe": (NUMERICS, {"types", "config", "rotation"}),
    "control": (NUMERICS, {"types", "config", "rotation", "observe", "prune.controller"}),
    "prune": (TORCH, {"types", "config"}),
    "model": (TORCH, {"types", "config", "prune"}),
    "infer": (TORCH, {"types", "config", "observe", "prune", "model"}),
    "sim": (SIM, {"types", "config", "rotation"}),
    "draw": (SIM, {"types", "config"}),
    "learn": (ANYTHING_BUT_ROS, CORE | {"sim", "eval"}),
    "eval": (ANYTHING_BUT_ROS, CORE | {"sim", "learn", "bench.machine"}),
    "bench": (ANYTHING_BUT_ROS, CORE | {"sim", "eval", "demo.nodes"}),
    "demo": (ANYTHING_BUT_ROS, CORE | {"sim", "eval", "draw", "bench.machine"}),
    "ros": (EVERYTHING, CORE | {"sim", "draw", "ros", "msg", "srv"}),
}
# Programs that look at a running graph from outside: they are no part of what runs on a robot.
ROS_CLIENTS = {"demo.client", "bench.jitter_client"}
# Imports that are allowed inside a function, where they cost nothing to those who do not call it.
LAZY = {
    "observe.kinematics": {"mujoco"},
    "observe.pixels": {"PIL"},
    "model.hub": {"huggingface_hub"},
    "infer.convert": {"openvino"},
}
# prune.controller is called from control/: it must stay free of torch.
LIGHT = {"prune.controller": (NUMERICS, {"types", "config"})}
# The one module that stands on OpenVINO; it is imported only where OpenVINO is installed and used.
LIGHT["infer.capture_openvino"] = (TORCH | {"openvino"}, WALL["infer"][1])
ROS_SUFFIXES = ("_msgs", "_srvs", "_interfaces")
ROS_PACKAGES = {
    "rclpy",
    "launch",
    "launch_ros",
    "tf2_ros",
    "cv_bridge",
    "message_filters",
    "ament_index_python",
    "rosidl",
}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    """(imported module, whether inside a function) for every import statement, `from x import y` as x and x.y."""
    tree = ast.parse(path.read_text())
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in inside
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = [OWN, *path.relative_to(ROOT).parts[:-1]]
                base = ".".join(package[: len(package) - node.level + 1] + ([base] if base else []))
            for alias in node.names:
                yield f"{base}.{alias.name}", node in inside


def is_ros(name):
    top = name.split(".")[0]
    ours = name == f"{OWN}.ros" or name.startswith((f"{OWN}.ros.", f"{OWN}.msg", f"{OWN}.srv"))
    return ours or top in ROS_PACKAGES or top.endswith(ROS_SUFFIXES)


def allowed(name, third_party, own):
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return True
    if parts[0] == OWN:
        return any(name == f"{OWN}.{part}" or name.startswith(f"{OWN}.{part}.") for part in own)
    return third_party is ANYTHING_BUT_ROS or parts[0] in third_party


def violations(path):
    module = dotted(path)
    part = module.split(".")[0]
    if part in ("cli", "__init__"):
        return
    if part not in WALL:
        yield f"{module}: {part} has no row in the import wall; add one to test_imports.py"
        return
    third_party, own = LIGHT.get(module, WALL[part])
    for name, inside_function in imports(path):
        lazily = inside_function and name.split(".")[0] in LAZY.get(module, ())
        if is_ros(name) and (part == "ros" or module in ROS_CLIENTS):
            continue
        if is_ros(name) or not (lazily or allowed(name, third_party, own | {part})):
            yield f"{module} imports {name}"


def test_the_wall_holds():
    assert [text for path in modules() for text in violations(path)] == []


def test_the_command_line_imports_lazily():
    for name in ("cli/main.py",):
        path = ROOT / name
        if path.exists():
            top_level = [module for module, inside in imports(path) if not inside]
            heavy = [m for m in top_level if not allowed(m, set(), {"cli", "types", "config"})]
            assert heavy == [], name


def test_package_inits_are_only_docstrings():
    for path in ROOT.rglob("__init__.py"):
        docstring, *rest = ast.parse(path.read_text()).body or [None]
        assert docstring is None or isinstance(docstring, ast.Expr), path
        version = path.parent == ROOT and [ast.unparse(s).split(" = ")[0] for s in rest] == ["__version__"]
        assert rest == [] or version, path


def test_the_loop_runs_without_torch_mujoco_and_ros():
    code = (
        "import sys, specprune_ros.control.loop, specprune_ros.observe.kinematics\n"
        "print(sorted({'torch', 'mujoco', 'rclpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "where, source, wrong",
    [
        ("observe/x.py", "import torch", ["observe.x imports torch"]),
        ("observe/x.py", "import mujoco", ["observe.x imports mujoco"]),
        ("observe/kinematics.py", "import mujoco", ["observe.kinematics imports mujoco"]),
        ("observe/kinematics.py", "def f():\n import mujoco", []),
        (
            "control/x.py",
            "from specprune_ros.prune import controller, static",
            ["control.x imports specprune_ros.prune.static"],
        ),
        ("control/x.py", "from ..sim import env", ["control.x imports specprune_ros.sim.env"]),
        ("prune/controller.py", "import torch", ["prune.controller imports torch"]),
        ("prune/x.py", "import torch\nfrom . import layout", []),
        (
            "model/x.py",
            "from specprune_ros.sim.env import TabletopEnv",
            ["model.x imports specprune_ros.sim.env.TabletopEnv"],
        ),
        ("eval/x.py", "def f():\n import rclpy", ["eval.x imports rclpy"]),
        ("eval/x.py", "import sensor_msgs.msg", ["eval.x imports sensor_msgs.msg"]),
        ("learn/x.py", "from specprune_ros.msg import Action", ["learn.x imports specprune_ros.msg.Action"]),
        ("ros/x.py", "import rclpy, torch", []),
        ("new/x.py", "", ["new.x: new has no row in the import wall; add one to test_imports.py"]),
    ],
)
def test_the_test_sees_breaches(where, source, wrong, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir()
    path.write_text(source)
    assert list(violations(path)) == wrong
