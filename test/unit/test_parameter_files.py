"""Parameter files: which section is for which node, and one clear line for every file that sets nothing."""

import pytest

from specprune_ros.config import ConfigError
from specprune_ros.parameter_files import Section, check, empty_lists, for_name, given, read

BODY = "  ros__parameters:\n    a: 1\n"
OURS = {"limits.linear_speed", "instruction"}


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
        check([file(text)], "/policy_node", OURS)
    with pytest.raises(ConfigError, match=r"name the section '/\*\*:' or '/left/policy_node:'"):
        check([file(f"policy_node:\n{BODY}")], "/left/policy_node", OURS)
    check([file(f"sim_node:\n{BODY}/**/policy_node:\n{BODY}")], "/left/policy_node", OURS)


TIME = "/**: {ros__parameters: {use_sim_time: false}}\n"
SPEED = "{ros__parameters: {limits.linear_speed: 0.02}}\n"


@pytest.mark.parametrize(
    ("section", "node", "why"),
    [
        (f"/policy_nod: {SPEED}", "/policy_node", "'/policy_nod' sets limits.linear_speed, .* name it '/policy_node:'"),
        (f"/other: {SPEED}", "/policy_node", "'/other' sets limits.linear_speed, but is not for /policy_node; name it"),
        (f"/Policy-Node:\n{BODY}", "/policy_node", "'/Policy-Node' is not for /policy_node, although its name"),
        (f"/policynode:\n{BODY}", "/policy_node", "'/policynode' is not for /policy_node, although its name"),
        (f"/policy_node: {SPEED}", "/left/policy_node", "'/policy_node' is not for /left/policy_node, .* same name"),
        (f"/left/policy_node:\n{BODY}", "/policy_node", "'/left/policy_node' is not for /policy_node, .* same name"),
        (f"/lef/**: {SPEED}", "/left/policy_node", r"'/lef/\*\*' sets limits.linear_speed, but is not for"),
        (f"/*: {SPEED}", "/left/policy_node", r"'/\*' sets limits.linear_speed, but is not for /left/policy_node"),
        (f"left: {{policy_nide: {SPEED.strip()}}}", "/left/policy_node", "'/left/policy_nide' sets limits"),
        (f"/policy_nod: {SPEED}/policy_node:\n{BODY}", "/policy_node", "'/policy_nod' sets limits.linear_speed"),
    ],
)
def test_a_mistyped_section_beside_a_right_one_is_refused(file, section, node, why):
    """It was passed over, and the limits in it with it."""
    path = file(TIME + section)
    with pytest.raises(ConfigError, match=rf"^parameter file {path}: section {why}"):
        check([path], node, OURS)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (f"{TIME}/camera/driver:\n{BODY}/sim_node:\n{BODY}/servo_node:\n{BODY}/pick_node:\n{BODY}", "/policy_node"),
        (f"{TIME}/camera/**:\n{BODY}", "/policy_node"),
        (f"{TIME}/left/policy_node: {SPEED}/right/policy_node: {SPEED}", "/left/policy_node"),
        (f"{TIME}/policy_node: {SPEED}/right/policy_node: {SPEED}", "/policy_node"),
        (f"/left/**: {SPEED}/right/**: {SPEED}", "/left/policy_node"),
        (f"/**/policy_node: {SPEED}", "/left/policy_node"),
    ],
)
def test_sections_for_other_nodes_and_other_robots_are_legal(file, text, node):
    check([file(text)], node, OURS)


@pytest.mark.parametrize("text", ["/**: {ros__parameters: {}}", "/policy_node: {ros__parameters: {limits: {}}}"])
def test_a_file_whose_section_holds_nothing_is_refused(file, text):
    with pytest.raises(ConfigError, match="sets nothing on /policy_node: .* give parameters below it, or leave"):
        check([file(text)], "/policy_node", OURS)
    check([file(f"{text}\n/policy_*: {SPEED}")], "/policy_node", OURS)


def test_the_file_that_launch_ros_writes_for_an_empty_dictionary_is_no_mistake(tmp_path):
    path = tmp_path / "launch_params_ab12"
    path.write_text("/**:\n  ros__parameters: {}\n")
    check([path], "/policy_node", OURS)


def test_where_there_is_no_namespace_the_last_part_of_the_name_counts(file):
    text = f"/left/policy_node:\n{BODY}/sim_node:\n{BODY}"
    assert for_name(file(text), "policy_node", OURS) == {"a": 1}
    for stray in (f"/policy_nod:\n{BODY}", f"/other: {SPEED}"):
        with pytest.raises(ConfigError, match="is not for policy_node"):
            for_name(file(TIME + stray), "policy_node", OURS)
    with pytest.raises(ConfigError, match="nothing in it is for policy_node; its sections are for '/sim_node'"):
        for_name(file(f"sim_node:\n{BODY}"), "policy_node", OURS)
    with pytest.raises(ConfigError, match="sets nothing on policy_node"):
        for_name(file("/**: {ros__parameters: {}}"), "policy_node", OURS)


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
