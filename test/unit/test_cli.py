"""The command line: quick help, one-line errors, parameters from files and the command line."""

import argparse
import json
import subprocess
import sys

import pytest

from specprune_ros.cli import main as cli
from specprune_ros.cli import options
from specprune_ros.config import Config, ConfigError, lookup, parameters
from specprune_ros.eval import results
from specprune_ros.eval.variants import parse_names, variant
from specprune_ros.types import BadInput


@pytest.mark.parametrize(
    "argv", [["--help"], *([name, "--help"] for name in ("demo", "evaluate", "bench", "checkpoint"))]
)
def test_help_is_there_without_torch_mujoco_or_ros(argv):
    code = (
        "import sys\nfrom specprune_ros.cli import main as cli\n"
        f"try: cli.main({argv!r})\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'mujoco', 'rclpy', 'matplotlib', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage: specprune" in done.stdout


def test_every_subcommand_has_help(capsys):
    for name in cli.SUBCOMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([name, "--help"])
        assert f"usage: specprune {name}" in capsys.readouterr().out


def test_results_can_be_written_as_json():
    for name in ("demo", "evaluate", "bench", "checkpoint"):
        with pytest.raises(SystemExit):
            cli.main([name, "--json"])  # the option exists and wants a file


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    "error, line",
    [
        (BadInput("camera wrist\n is missing"), "camera wrist is missing"),
        (ConfigError("control.rate: -1 is out of range"), "control.rate: -1 is out of range"),
        (FileNotFoundError(2, "No such file or directory", "weights.bin"), "weights.bin: No such file or directory"),
    ],
)
def test_wrong_inputs_end_with_one_line_and_status_2(monkeypatch, capsys, error, line):
    from specprune_ros.cli import evaluate

    monkeypatch.setattr(evaluate, "run", raising(error))
    assert cli.main(["evaluate"]) == 2
    assert capsys.readouterr().err == f"specprune evaluate: {line}\n"


def test_ctrl_c_has_its_own_status(monkeypatch, capsys):
    from specprune_ros.cli import evaluate

    monkeypatch.setattr(evaluate, "run", raising(KeyboardInterrupt()))
    assert cli.main(["evaluate"]) == 130


@pytest.mark.parametrize(
    "argv, text",
    [
        (
            ["evaluate", "--modes", "dense,sparse"],
            "--modes: 'sparse' is not one of dense, static, static_dynamic, full",
        ),
        (["evaluate", "--set", "pruning.agressiveness=1"], "did you mean pruning.aggressiveness"),
        (["bench", "--set", "pruning.aggressiveness"], "expected NAME=VALUE"),
        (["bench", "--set", "pruning.aggressiveness=2"], "out of range"),
        (["bench", "--engines", "warp"], "'warp' is not one of eager"),
        (["bench", "--aggressiveness", "0.5,much"], "expected numbers"),
        (["evaluate", "--params", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
        (["evaluate", "--params", "/tmp"], "/tmp: Is a directory"),
    ],
)
def test_options_are_checked_before_anything_heavy_starts(argv, text, capsys):
    assert cli.main(argv) == 2
    assert text in capsys.readouterr().err


def parsed(*argv):
    parser = argparse.ArgumentParser()
    options.add_parameters(parser)
    return options.build_config(parser.parse_args(argv))


def test_set_wins_over_the_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    control.rate: 10\n"
        "    pruning: {aggressiveness: 0.3, static: {k_global: 12}}\n"
        "sim_node:\n  ros__parameters:\n    seed: 5\n"
    )
    config = parsed("--params", str(path), "--set", "pruning.aggressiveness=0.7", "--set", "instruction=pick it, up")
    assert config.pruning.aggressiveness == 0.7
    assert config.pruning.static.k_global == 12
    assert config.control.rate == 10.0
    assert config.instruction == "pick it, up"


@pytest.mark.parametrize("text", ["a: [", "3", "", "/**: {pruning: 1}", "sim_node: {ros__parameters: {seed: 1}}"])
def test_a_parameter_file_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="params.yaml"):
        options.load_params(str(path))


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("pruning.static.enabled", "false", False),
        ("pruning.static.k_global", "40", 40),
        ("control.rate", "1e1", 10.0),
        ("pruning.static.similarity", "absolute", "absolute"),
        ("topics.images", "[/a, /b]", ("/a", "/b")),
        ("topics.images", "['/a', \"/b\"]", ("/a", "/b")),
        ("limits.workspace_min", "[0.2, -0.5, 0]", (0.2, -0.5, 0.0)),
        ("limits.workspace_min", "0, -1,1e-1", (0.0, -1.0, 0.1)),
    ],
)
def test_values_are_read_as_declared(name, text, value):
    assert options.parse_value(lookup(name), text) == value


@pytest.mark.parametrize(
    "name, text",
    [("pruning.static.enabled", "maybe"), ("pruning.static.k_global", "4.5"), ("limits.workspace_min", "[0, left, 1]")],
)
def test_values_of_another_type_are_refused(name, text):
    with pytest.raises(ConfigError, match=name):
        options.parse_value(lookup(name), text)


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
def test_every_parameter_can_be_set_to_its_default(parameter):
    """Fault 30: no list of numbers could be given."""
    default = parameter.default
    for text in {str(default), str(list(default)) if isinstance(default, tuple) else str(default).lower()}:
        assert parsed("--set", f"{parameter.name}={text}").get(parameter.name) == default


def test_a_box_from_the_command_line_is_judged_as_any_other():
    config = parsed("--set", "limits.workspace_min=[0.3, -0.2, 0.05]", "--set", "limits.workspace_max=0.5,0.2,0.4")
    assert config.limits.workspace_min == (0.3, -0.2, 0.05) and config.limits.workspace_max == (0.5, 0.2, 0.4)
    with pytest.raises(ConfigError, match="has not the three numbers"):
        parsed("--set", "limits.workspace_min=[0.3, -0.2]")
    with pytest.raises(ConfigError, match="nan is not finite"):
        parsed("--set", "limits.workspace_min=[0.3, nan, 0]")
    with pytest.raises(ConfigError, match="has not the three numbers"):
        parsed("--set", "limits.workspace_min=[]")


def test_only_changed_parameters_are_recorded():
    assert results.changed_parameters(Config()) == {}
    assert results.changed_parameters(Config().updated({"control.rate": 10.0})) == {"control.rate": 10.0}


def test_json_is_replaced_whole_and_reads_back(tmp_path):
    path = tmp_path / "deep" / "result.json"
    document = {"rows": [{"p50_ms": 1.5, "kept": [1, 2]}, {"p50_ms": None}], "empty": {}, "text": "a [ b ]"}
    results.write_json(path, document)
    assert json.loads(path.read_text()) == document
    with pytest.raises(ValueError):
        results.write_json(path, {"speedup": float("nan")})
    assert json.loads(path.read_text()) == document
    assert [item.name for item in path.parent.iterdir()] == ["result.json"]


def test_variants_switch_on_one_part_after_another():
    dense, static, dynamic, full = (
        variant(Config(), name).pruning for name in parse_names("full,static,static_dynamic,dense")
    )
    assert dense.aggressiveness == 0.0
    assert (static.aggressiveness, static.dynamic.enabled, static.controller.enabled) == (0.5, False, False)
    assert (dynamic.dynamic.enabled, dynamic.controller.enabled) == (True, False)
    assert full == Config().pruning


def test_strategies_are_modes_and_every_mode_but_dense_has_levels():
    asked = "random@2%,full@1,local, random@0.25,specprune,random@2%"
    names = parse_names(asked)
    assert names == ("full@1", "specprune", "random@2%", "random@0.25", "local")
    base = Config().updated({"pruning.keep": 0.3})
    full, specprune, few, soft, local = (variant(base, name).pruning for name in names)
    assert (full.aggressiveness, full.keep, full.strategy) == (1.0, 0.0, "specprune")
    assert (few.strategy, few.keep, few.aggressiveness) == ("random", 0.02, 0.5)
    assert (soft.strategy, soft.keep, soft.aggressiveness) == ("random", 0.0, 0.25)
    assert specprune == base.pruning and (local.strategy, local.keep) == ("local", 0.3)


@pytest.mark.parametrize(
    "name, text",
    [
        ("random@", "expected an aggressiveness"),
        ("random@much", "expected an aggressiveness"),
        ("random@0", "expected an aggressiveness"),
        ("random@1.01", "expected an aggressiveness"),
        ("random@nan", "expected an aggressiveness"),
        ("random@101%", "expected an aggressiveness"),
        ("dense@0.5", "has no level"),
        ("chance@0.5", "'chance' is not one of dense, static, static_dynamic, full, specprune, random"),
        (" , ", "the list is empty"),
    ],
)
def test_modes_that_stand_for_nothing_are_refused(name, text):
    with pytest.raises(ConfigError, match=text):
        parse_names(name)
