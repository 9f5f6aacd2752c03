"""The documents say what is there: links, citations, commands, parameters, files and quoted messages are followed."""

import check_documents as check
import pytest
from documents import ROOT, documents

DOCUMENTS = documents()
GUIDES = [path for path in DOCUMENTS if path.is_relative_to(ROOT / "docs") or path == ROOT / "README.md"]


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path):
    assert list(check.bad_links(path)) == []


@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_commands_parameters_and_files_exist(path):
    text = path.read_text(encoding="utf-8")
    found = [*check.bad_commands(text), *check.bad_parameters(text), *check.bad_files(text, path.parent)]
    assert found == []


@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_lines_have_a_normal_width(path):
    assert list(check.bad_widths(path)) == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= check.README_LINES


def test_messages_that_troubleshooting_quotes_are_in_the_code():
    text = (ROOT / "docs/how_to/troubleshooting.md").read_text(encoding="utf-8")
    assert text.count("| `") > 40
    assert list(check.bad_quotations(text)) == []


def test_the_index_names_every_document():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in check.LINK.findall(index)}
    missing = [named(path) for path in GUIDES if path not in linked and path.name != "README.md"]
    assert missing == []


def test_code_cites_only_documents_and_sections_of_this_repository():
    files = list(check.sources())
    assert len(files) > 150
    assert [problem for path in files for problem in check.bad_citations(path)] == []


# What the checks themselves find.


def write(folder, text):
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_a_link_to_nowhere_is_found(tmp_path):
    write(tmp_path, "")
    (tmp_path / "other.md").write_text("# A title: with `code`\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n")
    good = "[a](other.md) [b](other.md#a-title-with-code) [c](other.md#twice-1) [d](https://x.org/y) [e](#here)"
    good += "\n\n# Here\n"
    assert list(check.bad_links(write(tmp_path, good))) == []
    bad = "[a](gone.md) [b](other.md#no-heading) [c](#nowhere) ![d](gone.png)"
    assert len(list(check.bad_links(write(tmp_path, bad)))) == 4
    ignored = "<!-- [a](gone.md) -->\n```\n[b](gone.md)\n```\n"
    assert list(check.bad_links(write(tmp_path, ignored))) == []


@pytest.mark.parametrize(
    "line, part",
    [
        ("specprune fly", "no subcommand"),
        ("specprune demo --height 3", "--height"),
        ("specprune demo --episodes zero", "whole number"),
        ("specprune bench --set pruning.agressiveness=0.5", "unknown parameter"),
        ("specprune bench --set pruning.aggressiveness=1.5", "out of range"),
        (".venv/bin/specprune checkpoint polish DIR", "polish"),
        ("make coffee", "no target coffee"),
        ('make demo ARGS="--sugar 2"', "--sugar"),
        ("ros2 launch specprune_ros moon.launch.py", "is not there"),
        ("ros2 launch specprune_ros franka.launch.py robot_up:=1", "no argument robot_up"),
        ("ros2 run specprune_ros pilot_node", "no executable"),
        ("ros2 run specprune_ros policy_node --ros-args -p limits.speed:=1.0", "unknown parameter"),
        ("ros2 param set /policy_node pruning.aggressiveness fast", "expected float"),
        ("ros2 param set /policy_node control.rate 10.0", "is not live"),
        ("python tools/chairs.py", "is not there"),
    ],
)
def test_a_command_that_would_fail_is_found(line, part):
    (problem,) = check.bad_commands(f"```bash\n{line}\n```\n")
    assert part in problem


def test_a_command_that_works_is_no_problem():
    good = (
        "specprune evaluate --episodes 2 \\\n    --modes dense,full --set pruning.aggressiveness=0.7   # a remark",
        'make demo ARGS="--episodes 1"',
        "ros2 launch specprune_ros franka.launch.py bringup:=true robot_ip:=172.16.0.2 checkpoint:=DIR",
        "ros2 param set /policy_node pruning.preset conservative",
        "ros2 launch realsense2_camera rs_launch.py anything:=1",
        "echo specprune fly",
    )
    assert list(check.bad_commands("```bash\n{}\n```\n".format("\n".join(good)))) == []
    assert (
        list(check.bad_commands("`specprune checkpoint verify` and `make` and `specprune bench --model openvla-7b`"))
        == []
    )
    assert len(list(check.bad_commands("`specprune bench --modal openvla-7b`"))) == 1


def test_a_parameter_that_does_not_exist_is_found():
    assert (
        list(check.bad_parameters("`pruning.static.alpha`, `limits`, `pruning.static`, `policy.engine: eager`")) == []
    )
    assert len(list(check.bad_parameters("`pruning.static.beta` and `limits.speed: 0.1`"))) == 2
    yaml = "```yaml\n/**:\n  ros__parameters:\n    limits:\n      {}: 0.1\n```\n"
    assert list(check.bad_parameters(yaml.format("linear_speed"))) == []
    assert len(list(check.bad_parameters(yaml.format("linear_sped")))) == 1


def test_a_file_or_message_that_does_not_exist_is_found():
    assert (
        list(check.bad_files("`control/safety.py` `config/franka.yaml` `franka_x/config/y.yaml` `docs/`", ROOT)) == []
    )
    assert len(list(check.bad_files("`control/danger.py`", ROOT))) == 1
    assert list(check.bad_quotations("| `the emergency stop is latched (…` | ... |")) == []
    assert len(list(check.bad_quotations("| `nobody has ever … said so` | ... |"))) == 1


def test_a_citation_that_leads_nowhere_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("# A\n\n## Static pruning\n")
    code = tmp_path / "code.py"
    code.write_text('"""One (docs/a.md, Static\n    pruning).\n\nSource: docs/a.md, Static pruning.\n"""\n')
    assert list(check.bad_citations(code)) == []
    code.write_text('"""Two (docs/a.md, Dynamic pruning), three (docs/b.md), four (c.md 1)."""\n')
    assert len(list(check.bad_citations(code))) == 3
