"""`pip install .` and `pip install -e .`: compile the ROS messages with CMakeLists.txt and ship them. Metadata: pyproject.toml.

The compiled messages are kept under build/messages/<key>, so that an edit of Python files does not compile them again.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
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
    scripts = sysconfig.get_path("scripts")
    search = os.pathsep.join([str(prefix / "bin"), scripts, os.environ.get("PATH", os.defpath)])
    cmake = shutil.which("cmake", path=search)
    if cmake is None:
        raise SystemExit(f"{NAME}: cmake >= 3.22 is needed to compile the messages: pip install 'cmake>=3.22,<4'")
    environment = {**os.environ, "PATH": search, "AMENT_PREFIX_PATH": str(prefix), "CMAKE_PREFIX_PATH": str(prefix)}
    configure = [
        *("-S", ROOT, "-B", work, f"-DCMAKE_INSTALL_PREFIX={stage}", "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DPython3_EXECUTABLE={sys.executable}", "-DSPECPRUNE_MESSAGES_ONLY=ON", "-DBUILD_TESTING=OFF"),
    ]
    for step in (configure, ["--build", work, f"-j{os.cpu_count() or 1}"], ["--install", work]):
        subprocess.run([cmake, *map(str, step)], env=environment, check=True)


def compiled_messages() -> Path:
    """Compiles the messages unless that was done before; returns the folder they were installed into."""
    prefix = ros_prefix()
    stage = ROOT / "build" / "messages" / messages_key()
    if stage.is_dir():
        return stage
    shutil.rmtree(stage.parent, ignore_errors=True)  # also an older CMakeCache, which would name a vanished environment
    work, unfinished = stage.parent / "cmake", stage.parent / "unfinished"
    run_cmake(prefix, work, unfinished)
    shutil.rmtree(work)
    unfinished.rename(stage)
    return stage


def prefix_files(stage: Path) -> list[tuple[str, list[str]]]:
    """data_files that make the environment an ament prefix: libraries, headers, interface files, resource index."""
    files = [
        path.relative_to(ROOT)
        for part in ("share", "include", "lib/lib*.so")
        for found in stage.glob(part)
        for path in ([found] if found.is_file() else found.rglob("*"))
        if path.is_file() and path.parent.name != "parent_prefix_path"  # names the build machine's folders
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


REDIRECT = """# An editable installation: the Python code is that of {root}, and only the compiled messages are here.
__path__.insert(0, {source!r})
with open({source!r} + "/__init__.py", encoding="utf-8") as _file:
    exec(compile(_file.read(), _file.name, "exec"))
"""


class BuildMessages(build_ext):
    """Puts specprune_ros/{msg,srv,*.so} into the package and the rest into the prefix."""

    def run(self) -> None:
        stage = compiled_messages()
        self.distribution.data_files.extend(prefix_files(stage))
        if not self.editable_mode:
            self._copy_package(stage, Path(self.build_lib, NAME))
            return
        # setuptools has set up where an editable wheel is put together, but installs no data files into it by itself.
        package = Path(self.get_finalized_command("install").install_lib, NAME)
        self._copy_package(stage, package)
        redirect = REDIRECT.format(root=ROOT, source=str(ROOT / NAME))
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
