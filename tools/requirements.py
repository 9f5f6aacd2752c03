"""Prints what pyproject.toml asks for, one requirement a line, apart from torch: to build, run, test and edit."""

from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; its pip carries the same parser
    from pip._vendor import tomli as tomllib

table = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))
extras = table["project"]["optional-dependencies"]
wanted = [
    *table["build-system"]["requires"],
    *table["project"]["dependencies"],
    *(line for extra in ("ros", "test", "dev") for line in extras[extra]),
]
print("\n".join(line for line in dict.fromkeys(wanted) if not line.startswith("torch>")))
