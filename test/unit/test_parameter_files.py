"""Parameter files: which section is for which node, and one clear line for every file that sets nothing."""

import pytest

from specprune_ros.config import ConfigError
from specprune_ros.parameter_files import Section, check, empty_lists, given, read

BODY = "  ros__parameters:\n    a: 1\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "parameters.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "pattern, nodes, others",
    [
        ("/**", ["/policy_node", "/left/policy_node", "/a/b/policy_node"], []),
        ("/*", ["/policy_node"], ["/left/policy_node"]),
        ("/policy_node", ["/policy_node"], ["/left/policy_node", "/policy_nodes", "/sim_node"]),
        ("/left/policy_node", ["/left/policy_node"], ["/policy_node", "/right/policy_node"]),
        ("/*/policy_node", ["/left/policy_node"], ["/policy_node", "/a/b/policy_node"]),
        ("/**/policy_node", ["/policy_node", "/left/policy_node", "/a/b/policy_node"], ["/left/sim_node"]),
        ("/left/**", ["/left/policy_node", "/left/a/policy_node"], ["/policy_node", "/right/policy_node"]),
    ],
)
def test_wildcards_mean_what_they_mean_to_ros(pattern, nodes, others):
    section = Section(pattern, {})
    assert all(section.applies_to(node) for node in nodes)
    assert not any(section.applies_to(node) for node in others)


def test_every_way_to_name_a_node_is_read(file):
    nested = "left:\n  policy_node:\n    ros__parameters: {b.c: [1.0]}\n"
    text = f"policy_node:\n{BODY}/right/policy_node:\n{BODY}'*':\n{BODY}{nested}"
    assert read(file(text)) == (
        Section("/policy_node", {"a": 1}),
        Section("/right/policy_node", {"a": 1}),
        Section("/*", {"a": 1}),
        Section("/left/policy_node", {"b.c": [1.0]}),
    )
    check([file("/**:\n  ros__parameters: {}\n")], "/policy_node")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"it is empty; expected '/\*\*:'"),
        ("3", "it holds a int; expected"),
        ("- a\n", "it holds a list; expected"),
        ("a: [", "not valid YAML: .* line 1, column"),
        ("/**:\n  ros__parameters:\n\ta: 1\n", "not valid YAML: .* line 3"),
        ("*:\n" + BODY, "not valid YAML"),
        ("a: 1\n", "'a' is a value before 'ros__parameters:'"),
        ("/**:\n  a: 1\n", "'a' is a value before 'ros__parameters:'; expected"),
        ("/**:\nros__parameters:\n  a: 1\n", r"'/\*\*' is empty; expected .* indented below it"),
        ("ros__parameters:\n  a: 1\n", "'ros__parameters:' stands below no node"),
        ("/**:\n  ros__parameters:\n", "nothing stands below 'ros__parameters:'; indent the parameters below it"),
        ("/**:\n  ros__parameters: 5\n", "5 stands below 'ros__parameters:'"),
        ("/**: {}\n", r"section '/\*\*' has no 'ros__parameters:'"),
        ("/**:\n  parameters:\n    a: 1\n", "'a' is a value before 'ros__parameters:'"),
        ("/**:\n  ros__parameters:\n    limits:\n      linear_speed:\n", "limits.linear_speed has no value; give one"),
        (
            "/**:\n  ros__parameters:\n    policy.checkpoint: null\n",
            "policy.checkpoint has no value; give one, or leave",
        ),
        ("/**:\n  ros__parameters:\n    a: [0, 1.5]\n", r"a: \[0, 1.5\] mixes types, .* with a point, as 1.0"),
        ("/**:\n  ros__parameters:\n    a: [x, 1]\n", "mixes types, .* give values of one type"),
    ],
)
def test_a_file_that_is_none_is_one_line(file, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(file(text))
    assert str(caught.value).startswith(f"parameter file {file(text)}: ") and "\n" not in str(caught.value)


def test_a_path_that_holds_no_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml: No such file or directory; give the path of a YAML file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read(tmp_path / "binary.yaml")


def test_a_file_for_other_nodes_is_refused_with_their_names(file):
    text = f"policy:\n{BODY}sim_node:\n{BODY}"
    with pytest.raises(ConfigError, match="is for /policy_node; its sections are for '/policy', '/sim_node'; name"):
        check([file(text)], "/policy_node")
    with pytest.raises(ConfigError, match=r"name the section '/\*\*:' or '/left/policy_node:'"):
        check([file(f"policy_node:\n{BODY}")], "/left/policy_node")
    check([file(f"sim_node:\n{BODY}/**/policy_node:\n{BODY}")], "/left/policy_node")


def test_ros_arguments_are_told_from_others(file):
    path = str(file("/**:\n  ros__parameters: {b: [], c: [1]}\n"))
    line = [
        "node",
        "--params-file",
        "x",
        "--ros-args",
        "--params-file",
        path,
        "-p",
        "d:=[ ]",
        "-p",
        "e:=[1]",
        "--",
        "-p",
        "f:=[]",
    ]
    assert given(line) == [path]
    assert empty_lists(line) == ["b", "d"]
    assert given([]) == given(["node", "--ros-args", "--params-file"]) == []


def test_lists_that_launch_ros_writes_as_tuples_are_lists(file):
    text = "/policy_node:\n  ros__parameters:\n    topics.images: !!python/tuple\n    - a\n    - b\n"
    assert read(file(text)) == (Section("/policy_node", {"topics.images": ["a", "b"]}),)
    with pytest.raises(ConfigError, match="not valid YAML"):
        read(file("/**: {ros__parameters: {a: !!python/object/apply:os.getcwd []}}"))
