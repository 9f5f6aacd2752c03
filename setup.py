"""`pip install .` and `pip install -e .`: compile the ROS messages with CMakeLists.txt and ship them.

Metadata and dependencies: pyproject.toml.
The compiled messages are kept under build/messages/<key>, so that an edit of Python files does not compile them again.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NAME = "specprune_ros"


def ros_prefix() -> Path:
    """The folder with share/ and lib/ of the ROS wheels: this environment's, or that of pip's isolated build."""
    spec = importlib.util.find_spec("rosidl_cmake")
    if spec is None:
        raise SystemExit(
            f"{NAME}: the ROS 2 wheels are missing from {sys.prefix}, so the messages cannot be compiled.\n"
            "Build with pip's isolation (the default), or install what pyproject.toml lists under [build-system] first."
        )
    return Path(spec.origin).resolve().parents[4]  # <prefix>/lib/python3.x/site-packages/rosidl_cmake/__init__.py


def messages_key() -> str:
    """Names everything that the compiled messages depend on."""
    digest = hashlib.sha256()
    build_files = [ROOT / "CMakeLists.txt", ROOT / "package.xml"]
    for path in sorted([*build_files, *ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for fact in (sysconfig.get_config_var("SOABI"), version("ros-rosidl-generator-py"), version("numpy")):
        digest.update(fact.encode())
    return digest.hexdigest()[:16]


def run_cmake(prefix: Path, work: Path, stage: Path) -> None:
    """Configures, builds and installs the messages with `work` as the folder of everything that CMake sees.

    rosidl keeps lists of paths in files that CMake reads back as ASCII, so that one letter outside it in any path ends
    the build, be it of the clone, the environment or the build folder. All of them are given plain names in `work`.
    """
    source, ros, python = work / "source", work / "ros", work / "python"
    for name in ("CMakeLists.txt", "package.xml", "msg", "srv"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    ros.symlink_to(prefix)
    python.symlink_to(sys.prefix)

    scripts = sysconfig.get_path("scripts")
    search = os.pathsep.join([str(prefix / "bin"), scripts, os.environ.get("PATH", os.defpath)])
    cmake = shutil.which("cmake", path=search)
    if cmake is None:
        raise SystemExit(f"{NAME}: cmake >= 3.22 is needed to compile the messages: pip install 'cmake>=3.22,<4'")
    configure = [
        *("-S", source, "-B", work / "build", f"-DCMAKE_INSTALL_PREFIX={work / 'stage'}", "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DPython3_EXECUTABLE={python / 'bin' / Path(sys.executable).name}", "-DSPECPRUNE_MESSAGES_ONLY=ON"),
        "-DBUILD_TESTING=OFF",
    ]
    environment = cmake_environment(search, ros)
    for step in (configure, ["--build", work / "build", f"-j{os.cpu_count() or 1}"], ["--install", work / "build"]):
        subprocess.run([cmake, *map(str, step)], env=environment, check=True)
    shutil.copytree(work / "stage", stage, ignore=shutil.ignore_patterns("__pycache__"))


def cmake_environment(search: str, ros: Path) -> dict[str, str]:
    """What the build inherits: not a generator, a toolchain, a ROS or a `make` that it was called from."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CMAKE_", "COLCON_", "PYTHON")) and name not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")
    }
    # A build backend's isolated environment is on PYTHONPATH: the only one of Python's variables that belongs here.
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONNOUSERSITE") if name in os.environ}
    ours = {"PATH": search, "AMENT_PREFIX_PATH": str(ros), "CMAKE_PREFIX_PATH": str(ros), "PYTHONUTF8": "1"}
    return inherited | kept | ours


def plain_temporary_folder() -> str:
    """Where temporary folders have names that rosidl can read."""
    usual = tempfile.gettempdir()
    return usual if re.fullmatch(r"[\w./+-]+", usual, re.ASCII) else "/tmp"


def compiled_messages() -> Path:
    """Compiles the messages unless that was done before; returns the folder they were installed into."""
    prefix = ros_prefix()
    stage = ROOT / "build" / "messages" / messages_key()
    if stage.is_dir():
        return stage
    shutil.rmtree(stage.parent, ignore_errors=True)  # of another Python or of older messages
    unfinished = stage.parent / "unfinished"
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-", dir=plain_temporary_folder()) as work:
        run_cmake(prefix, Path(work), unfinished)
    unfinished.rename(stage)
    return stage


def prefix_files(stage: Path) -> list[tuple[str, list[str]]]:
    """data_files that make the environment an ament prefix: libraries, headers, interface files, resource index."""
    files = [
        path.relative_to(ROOT)
        for part in ("share", "include", "lib/lib*.so")
        for found in stage.glob(part)
        for path in ([found] if found.is_file() else found.rglob("*"))
        # These name the folders of the build.
        if path.is_file() and path.parent.name != "parent_prefix_path" and not path.name.startswith("local_setup.")
    ]
    return [(str(path.parent.relative_to(stage.relative_to(ROOT))), [str(path)]) for path in sorted(files)]


def package_files(stage: Path) -> list[Path]:
    """What the compiled messages add to the Python package: msg/, srv/ and the type supports, relative to the stage."""
    package = next(stage.glob(f"lib/python3*/site-packages/{NAME}"))
    return sorted(
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and (path.parent != package or path.suffix == ".so")
        if path.suffix != ".c" and "__pycache__" not in path.parts
    )


REDIRECT = """# An editable installation: the Python code is that of this folder; only the compiled messages are here.
_source = {source!r}
try:
    with open(_source + "/__init__.py", encoding="utf-8") as _file:
        _code = compile(_file.read(), _file.name, "exec")
except OSError as _error:
    raise ImportError(
        "specprune_ros was installed for editing from " + _source + ", which is not there any more ("
        + str(_error.strerror) + "); install it again where it is now: `make venv`, or `pip install -e .`"
    ) from None
__path__.insert(0, _source)
exec(_code)
"""


def refuse_messages_in_the_source() -> None:
    """A msg/ or srv/ in the Python package would be found before the compiled one; copied there, or built by hand."""
    for folder in ("msg", "srv"):
        if (ROOT / NAME / folder).exists():
            raise SystemExit(
                f"{NAME}: remove {ROOT / NAME / folder}: rosidl generates {NAME}.{folder}, and it would hide it"
            )


class BuildMessages(build_ext):
    """Puts specprune_ros/{msg,srv,*.so} into the package and the rest into the prefix."""

    def run(self) -> None:
        refuse_messages_in_the_source()
        stage = compiled_messages()
        self.distribution.data_files.extend(prefix_files(stage))
        if not self.editable_mode:
            self._copy_package(stage, Path(self.build_lib, NAME))
            return
        # setuptools has set up where an editable wheel is put together, but installs no data files into it by itself.
        package = Path(self.get_finalized_command("install").install_lib, NAME)
        self._copy_package(stage, package)
        redirect = REDIRECT.format(source=str(ROOT / NAME))
        (package / "__init__.py").write_text(redirect, encoding="utf-8")
        self.run_command("install_data")

    def _copy_package(self, stage: Path, target: Path) -> None:
        package = next(stage.glob(f"lib/python3*/site-packages/{NAME}"))
        for path in package_files(stage):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(package / path, target / path)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class CleanBuildPy(build_py):
    """setuptools collects the package in build/lib and never removes there what is gone from the source."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


def share(folder: str) -> tuple[str, list[str]]:
    return f"share/{NAME}/{folder}", sorted(str(path) for path in Path(folder).glob("*.*") if path.is_file())


setup(
    # Stands for the messages: the wheel is for one Python version and platform.
    ext_modules=[Extension(f"{NAME}._messages", sources=[])],
    cmdclass={"build_ext": BuildMessages, "build_py": CleanBuildPy},
    data_files=[
        *(share(folder) for folder in ("launch", "config", "config/gazebo")),
        (f"lib/{NAME}", ["scripts/policy_node", "scripts/sim_node"]),
    ],
)
