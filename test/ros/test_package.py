"""What a user gets after the installation: messages, executables, launch files, metadata that agrees with itself."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import specprune_ros

ROOT = Path(__file__).resolve().parents[2]
PREFIX = Path(metadata.distribution("specprune_ros").locate_file("")).parents[2]  # <prefix>/lib/python3.x/site-packages
SHARE = PREFIX / "share" / "specprune_ros"
INTERFACES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")])
EXECUTABLES = ("policy_node", "sim_node")

FIELD = re.compile(r"(?P<type>[\w/]+(\[\d*\])?)\s+(?P<name>[a-z]\w*)\s*(#\s*(?P<comment>\S.*))?$")
PHYSICAL = {"float32", "float64", "geometry_msgs/Vector3"}

# import name -> what package.xml calls it, where that differs; None: rosdep has no key
ROSDEP = {
    "av": None,
    "cv2": "python3-opencv",
    "matplotlib": "python3-matplotlib",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "openvino": None,
    "rich": "python3-rich",
    "safetensors": None,
    "torch": "python3-pytorch-pip",
    "yaml": "python3-yaml",
    # Optional, imported where they are used, with an error that says how to get them (extras `hub` and `stock`).
    "huggingface_hub": None,
    "timm": None,
    "transformers": None,
}
PYPI = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}


def manifest():
    return ElementTree.parse(ROOT / "package.xml").getroot()


def declared():
    """Everything that package.xml depends on at run time."""
    return {element.text for tag in ("depend", "exec_depend") for element in manifest().iter(tag)}


def fields(text):
    """(part, type, name, comment) of every field; part counts the sections of a service."""
    for part, section in enumerate(re.split(r"^---$", text, flags=re.MULTILINE)):
        for line in section.splitlines():
            if line and not line.lstrip().startswith("#") and "=" not in line.split("#")[0]:
                match = FIELD.match(line)
                assert match, f"cannot read the field: {line}"
                yield part, match["type"], match["name"], match["comment"]


def imported_packages():
    """Top-level names of the third-party packages that the source imports."""
    names = set()
    for path in ROOT.joinpath("specprune_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"specprune_ros"}


def test_python_code_is_the_source_and_messages_are_the_compiled_ones():
    """In the environment that `make venv` sets up; a wheel or a colcon prefix is tested as it is installed."""
    from specprune_ros import config, msg

    assert not (ROOT / "specprune_ros" / "msg").exists(), "rosidl owns the name specprune_ros.msg"
    assert Path(msg.__file__).is_relative_to(PREFIX)
    if is_editable():
        assert Path(config.__file__) == ROOT / "specprune_ros" / "config.py"


def is_editable():
    origin = metadata.distribution("specprune_ros").read_text("direct_url.json")
    return bool(origin) and json.loads(origin).get("dir_info", {}).get("editable", False)


def test_package_xml_is_one_that_colcon_accepts():
    # colcon takes a package for plain Python, without a word, when its manifest is not valid
    root = manifest()
    assert root.get("format") == "3" and root.findtext("name") == "specprune_ros"
    assert root.findtext("export/build_type") == "ament_cmake"
    assert root.findtext("member_of_group") == "rosidl_interface_packages"
    for person in [*root.iter("maintainer"), *root.iter("author")]:
        assert re.fullmatch(r"[-\w.]+@[-\w]+(\.[-\w]+)*\.[a-z]{2,}", person.get("email")), person.get("email")
    package_parser = pytest.importorskip("catkin_pkg.package")
    warnings = []
    package_parser.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    assert warnings == []


def test_versions_agree():
    versions = {
        "package.xml": manifest().findtext("version"),
        "specprune_ros.__version__": specprune_ros.__version__,
        "installed metadata": metadata.version("specprune_ros"),
        "CHANGELOG.md": re.search(r"^## \[?(\d+\.\d+\.\d+)", ROOT.joinpath("CHANGELOG.md").read_text(), re.MULTILINE)[
            1
        ],
    }
    assert len(set(versions.values())) == 1, versions


def test_the_licence_is_there_and_named_alike():
    text = ROOT.joinpath("LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert manifest().findtext("license") == "Apache-2.0"
    assert 'license = "Apache-2.0"' in ROOT.joinpath("pyproject.toml").read_text()


def test_every_import_is_a_declared_dependency():
    project = ROOT.joinpath("pyproject.toml").read_text()
    for name in imported_packages():
        key = ROSDEP.get(name, name)
        assert key is None or key in declared(), f"package.xml does not declare {key}, which the source imports"
        if name in ROSDEP:
            distribution = PYPI.get(name, name)
            assert re.search(rf'"{distribution}>=', project), f"pyproject.toml does not declare {distribution}"


@pytest.mark.parametrize("path", INTERFACES, ids=str)
def test_interface_is_compiled_as_it_is_written(path):
    module = importlib.import_module(f"specprune_ros.{path.parent}")
    interface = getattr(module, path.stem)
    parts = [interface] if path.suffix == ".msg" else [interface.Request, interface.Response]
    written = list(fields(ROOT.joinpath(path).read_text()))
    for number, part in enumerate(parts):
        names = [name for which, _, name, _ in written if which == number]
        assert names == list(part.get_fields_and_field_types())
        part()  # the type support loads
        part.__class__.__import_type_support__()
    assert (SHARE / path).read_text() == ROOT.joinpath(path).read_text(), "the installed file is an older one"
    assert str(path) in ROOT.joinpath("CMakeLists.txt").read_text()


@pytest.mark.parametrize("path", INTERFACES, ids=str)
def test_interface_fields_say_what_they_are(path):
    text = ROOT.joinpath(path).read_text()
    for _, kind, name, comment in fields(text):
        of_its_own = (
            ROOT.joinpath("msg", f"{kind}.msg").exists() or f"# {name}: " in text
        )  # constants say what it may be
        assert comment or of_its_own, f"{path}: {name} has no comment"
        if kind in PHYSICAL:
            assert re.match(r"\[.+\]", comment), f"{path}: {name} does not begin with its unit in brackets: {comment}"


def test_the_command_is_installed():
    command = [PREFIX / "bin" / "specprune", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert {"demo", "evaluate", "bench", "train"} <= set(re.findall(r"\w+", done.stdout))


@pytest.mark.parametrize("name", EXECUTABLES)
def test_executables_stand_where_ros2_run_and_launch_look(name):
    path = PREFIX / "lib" / "specprune_ros" / name
    assert os.access(path, os.X_OK)
    assert path.read_text() == ROOT.joinpath("scripts", name).read_text()
    assert f"from specprune_ros.ros.{name} import main" in path.read_text()
    assert callable(importlib.import_module(f"specprune_ros.ros.{name}").main)


@pytest.mark.parametrize("name", EXECUTABLES)
def test_executables_run_with_the_python_they_were_installed_for(name, tmp_path):
    # a stand-in interpreter shows what the shell half of the script starts
    prefix, script = tmp_path / "my prefix", ROOT / "scripts" / name
    for path, text in (("bin/python3", '#!/bin/sh\necho "$@"\n'), (f"lib/specprune_ros/{name}", script.read_text())):
        prefix.joinpath(path).parent.mkdir(parents=True)
        prefix.joinpath(path).write_text(text)
        prefix.joinpath(path).chmod(0o755)
    executable = prefix / "lib" / "specprune_ros" / name
    done = subprocess.run([executable, "--ros-args", "-r", "__ns:=/a"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{executable} --ros-args -r __ns:=/a"


@pytest.mark.parametrize("folder", ["launch", "config", "config/gazebo"])
def test_share_holds_launch_files_and_configuration(folder):
    source = {path.name: path for path in ROOT.joinpath(folder).glob("*.*")}
    assert source, f"{folder}/ is empty"
    for name, path in source.items():
        text = (SHARE / folder / name).read_text()
        assert text == path.read_text(), f"the installed {folder}/{name} is an older one"
        if path.suffix == ".py":
            compile(text, name, "exec")  # `launch` itself is not on PyPI
        elif path.suffix in (".yaml", ".yml"):
            assert yaml.safe_load(text)


def test_the_environment_is_an_ament_prefix(monkeypatch):
    index = pytest.importorskip("ament_index_python")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(PREFIX))
    assert Path(index.get_package_share_directory("specprune_ros")) == SHARE
    listed, _ = index.get_resource("rosidl_interfaces", "specprune_ros")
    assert {str(path) for path in INTERFACES} <= set(listed.split())


def test_the_continuous_integration_script_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
