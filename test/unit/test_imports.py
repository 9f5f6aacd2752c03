"""The import wall: which folder may import what, read from the source without importing it."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "specprune_ros"
OWN = "specprune_ros"

NUMERICS = {"numpy"}
TORCH = {"numpy", "torch", "safetensors", "transformers"}
VISION = {"numpy", "cv2"}
SIM = {"numpy", "mujoco", "OpenGL"}
ANYTHING_BUT_ROS = None
EVERYTHING = None
CORE = {"types", "config", "rotation", "observe", "control", "prune", "model", "infer"}

# The node's end of the model's process: what the node imports must never bring torch along.
NODE_SIDE = {
    f"infer.{name}" for name in ("worker", "worker_process", "restarts", "channel", "messages", "shared_frames")
}

# folder or module -> (third-party packages, parts of our own that it may import besides itself)
WALL = {
    "settings": (NUMERICS, set()),
    "config": (NUMERICS, {"settings"}),
    "types": (NUMERICS, {"config", "settings"}),
    "rotation": (NUMERICS, set()),
    "shell_variables": (set(), set()),
    "shell_mistakes": (set(), {"shell_variables"}),
    "parameter_files": ({"yaml"}, {"config"}),
    "observe": (VISION, {"types", "config", "rotation"}),
    "control": (NUMERICS, {"types", "config", "rotation", "observe", "prune.controller"}),
    "prune": (TORCH, {"types", "config"}),
    "model": (TORCH, {"types", "config", "prune"}),
    "infer": (TORCH, {"types", "config", "observe", "prune", "model"}),
    "sim": (SIM, {"types", "config", "rotation", "shell_variables"}),
    "draw": (VISION, {"types", "config"}),
    "learn": (ANYTHING_BUT_ROS, CORE | {"sim", "eval"}),
    "eval": (ANYTHING_BUT_ROS, CORE | {"sim"}),
    "bench": (ANYTHING_BUT_ROS, CORE | {"sim", "eval", "demo.nodes"}),
    "demo": (ANYTHING_BUT_ROS, CORE | {"sim", "eval", "draw", "shell_variables"}),
    "ros": (
        EVERYTHING,
        CORE - {"infer"} | NODE_SIDE | {"sim", "draw", "ros", "msg", "srv", "shell_mistakes", "parameter_files"},
    ),
}
# Programs that look at a running graph from outside: they are no part of what runs on a robot.
ROS_CLIENTS = {
    "demo.client",
    "bench.jitter_client",
    "bench.drivers",
    "bench.inputs",
    *(f"bench.faults.{name}" for name in ("robot", "cases", "scene", "node")),
}
# Imports that are allowed inside a function, where they cost nothing to those who do not call it.
LAZY = {
    "observe.kinematics": {"mujoco"},
    "model.hub": {"huggingface_hub"},
    "infer.convert": {"openvino"},
}
# Stricter than their folder: prune.controller is called from control/, the node's end of the model from ros/. The
# model's own process starts before torch is imported, so that its errors can be reported.
LIGHT = {
    "prune.controller": (NUMERICS, {"types", "config"}),
    "infer.worker_main": (NUMERICS, {"types", "config"} | NODE_SIDE),
    **dict.fromkeys(NODE_SIDE, (NUMERICS, {"types", "config"} | NODE_SIDE)),
    # The one module that stands on OpenVINO; it is imported only where OpenVINO is installed and used.
    "infer.capture_openvino": (TORCH | {"openvino"}, WALL["infer"][1] | {"infer"}),
}
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
    third_party, own = LIGHT.get(module) or (WALL[part][0], WALL[part][1] | {part})
    for name, inside_function in imports(path):
        lazily = inside_function and name.split(".")[0] in LAZY.get(module, ())
        if is_ros(name) and (part == "ros" or module in ROS_CLIENTS):
            continue
        if is_ros(name) or not (lazily or allowed(name, third_party, own)):
            yield f"{module} imports {name}"


def test_the_wall_holds():
    assert [text for path in modules() for text in violations(path)] == []


def test_the_command_line_imports_lazily():
    for name in ("cli/main.py",):
        path = ROOT / name
        if path.exists():
            top_level = [module for module, inside in imports(path) if not inside]
            heavy = [m for m in top_level if not allowed(m, set(), {"cli", "types", "config", "shell_variables"})]
            assert heavy == [], name


def graph(of_folders):
    """Module -> modules that it imports, also inside functions; or the same of folders. Modules at the top level stand
    for themselves."""
    known = {dotted(path) for path in modules()}
    found = {}
    for path in modules():
        module = dotted(path)
        edges = found.setdefault(module.split(".")[0] if of_folders else module, set())
        for name, _ in imports(path):
            parts = name.split(".")[1:] if name.startswith(f"{OWN}.") else []
            while parts and ".".join(parts) not in known:
                parts.pop()
            if parts:
                edges.add(parts[0] if of_folders else ".".join(parts))
    return {module: edges - {module} for module, edges in found.items()}


@pytest.mark.parametrize("of_folders", [False, True], ids=["modules", "folders"])
def test_nothing_imports_itself_on_a_detour(of_folders):
    edges = graph(of_folders)
    assert sum(map(len, edges.values())) > 30
    graphlib.TopologicalSorter(edges).prepare()  # CycleError names the circle


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


def test_the_nodes_process_never_gets_torch():
    pytest.importorskip("rclpy")
    code = "import sys, specprune_ros.ros.policy_node as _\n"
    code += "print(sorted({'torch', 'mujoco', 'safetensors'} & set(sys.modules)))"
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
        ("ros/x.py", "from specprune_ros.infer import load, worker", ["ros.x imports specprune_ros.infer.load"]),
        ("infer/worker.py", "import torch", ["infer.worker imports torch"]),
        (
            "infer/messages.py",
            "from specprune_ros.infer.policy import Policy",
            ["infer.messages imports specprune_ros.infer.policy.Policy"],
        ),
        ("new/x.py", "", ["new.x: new has no row in the import wall; add one to test_imports.py"]),
    ],
)
def test_the_test_sees_breaches(where, source, wrong, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / where
    path.parent.mkdir()
    path.write_text(source)
    assert list(violations(path)) == wrong
