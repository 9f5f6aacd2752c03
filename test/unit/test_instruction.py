"""The one rule for the instruction in force: the last word wins, whichever way it came."""

import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.control.instruction import Instruction

TOPIC, PARAMETER = "the topic ~/instruction", "the parameter instruction"


@pytest.mark.parametrize(
    ("words", "in_force"),
    [
        ([(TOPIC, "A"), (PARAMETER, "B"), (TOPIC, "A")], "A"),
        ([(PARAMETER, "B"), (TOPIC, "A"), (PARAMETER, "B")], "B"),
        ([(TOPIC, "A"), (PARAMETER, "B")], "B"),
        ([(TOPIC, "A"), (TOPIC, "")], ""),
        ([(TOPIC, "A"), (PARAMETER, "")], ""),
        ([(PARAMETER, "B"), (TOPIC, ""), (TOPIC, "")], ""),
        ([(TOPIC, ""), (PARAMETER, "B")], "B"),
        ([(TOPIC, "A"), (PARAMETER, "B"), (TOPIC, "A"), (TOPIC, "A")], "A"),
        ([(TOPIC, "  A \n")], "A"),
        ([(TOPIC, "A"), (TOPIC, "   ")], ""),
        ([], "start"),
    ],
)
def test_the_last_word_wins(words, in_force):
    rule = Instruction("start", PARAMETER)
    for source, text in words:
        rule.say(text, source)
    assert rule.text == in_force


@given(st.lists(st.tuples(st.sampled_from([TOPIC, PARAMETER]), st.sampled_from(["", " ", "A", "B", " A"])), max_size=8))
def test_in_every_order_the_last_word_wins_and_every_change_is_told(words):
    rule, before = Instruction("", PARAMETER), ""
    for source, text in words:
        report = rule.say(text, source)
        assert rule.text == text.strip() and rule.source == source
        assert (report is not None) == (rule.text != before)
        before = rule.text


def test_a_report_names_both_sides():
    rule = Instruction("", PARAMETER)
    assert rule.say("A", TOPIC) == f"instruction: 'A' from {TOPIC}"
    assert rule.say("A", TOPIC) is None
    assert rule.say("B", PARAMETER) == f"instruction: 'B' from {PARAMETER} (before: 'A' from {TOPIC})"
    assert rule.say("A", TOPIC) == f"instruction: 'A' from {TOPIC} (before: 'B' from {PARAMETER})"
    assert rule.say(" ", PARAMETER) == f"instruction: none, {PARAMETER} emptied it (before: 'A' from {TOPIC})"
