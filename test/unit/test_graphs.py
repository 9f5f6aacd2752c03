"""The shelf of graphs: what is wanted, in which order it is made, what is forgotten; records as tuples of tensors."""

import threading
from typing import NamedTuple

import pytest
import torch

from specprune_ros.infer import graphs
from specprune_ros.infer.graphs import Key, Prefix, Shelf
from specprune_ros.infer.records import refilled, tensors_of
from specprune_ros.prune.layout import Layout

LAYOUT = Layout(views=2, patches=4, proprio=1, prompt=6, task=(1, 3), placeholders=8)


def key(plan, size=8):
    return Key(LAYOUT, ((size, size, 3),), True, "rgb_cosine", plan)


def fill(shelf, *keys):
    for each in keys:
        shelf.want(each, wanted=None)
        taken, _ = shelf.take()
        prefix = shelf.prefix(taken) or Prefix(None, None, f"prefix {taken.sizes}")
        shelf.put_prefix(taken, prefix)
        shelf.put_suffix(taken, prefix, f"suffix {taken.plan}")
        shelf.done(taken)


def test_a_pair_is_made_once_and_found():
    shelf = Shelf(most_suffixes=4)
    assert shelf.pair(key("a")) is None and shelf.want(key("a"), None) and shelf.outstanding == 1
    fill(shelf, key("a"))
    prefix, suffix = shelf.pair(key("a"))
    assert (prefix.captured, suffix, shelf.ready, shelf.outstanding) == ("prefix ((8, 8, 3),)", "suffix a", 1, 0)
    assert not shelf.want(key("a"), None), "it is there"
    assert shelf.want(key("b"), None), "another plan needs another suffix"


def test_what_an_inference_waits_for_comes_first():
    shelf = Shelf(most_suffixes=4)
    for plan in "abc":
        shelf.want(key(plan), None)
    shelf.want(key("c"), None, urgent=True)
    shelf.want(key("d"), None, urgent=True)
    assert [shelf.take()[0].plan for _ in range(4)] == ["d", "c", "a", "b"] and shelf.take() is None


def test_a_slider_that_is_pulled_does_not_fill_the_queue(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_WANTED", 3)
    shelf = Shelf(most_suffixes=4)
    for plan in range(9):
        shelf.want(key(plan), None, urgent=True)
    assert [shelf.take()[0].plan for _ in range(3)] == [8, 7, 6] and shelf.take() is None


def test_what_is_under_way_or_failed_is_not_wanted_again():
    shelf = Shelf(most_suffixes=4)
    shelf.want(key("a"), None)
    shelf.take()
    assert not shelf.want(key("a"), None) and shelf.outstanding == 1
    shelf.done(key("a"), "no memory")
    assert not shelf.want(key("a"), None) and (shelf.outstanding, shelf.trouble) == (0, "no memory")


def test_the_least_recently_used_suffixes_go_first():
    shelf = Shelf(most_suffixes=2)
    fill(shelf, key("a"), key("b"))
    shelf.pair(key("a"))
    fill(shelf, key("c"))
    assert [bool(shelf.pair(key(plan))) for plan in "abc"] == [True, False, True]


def test_waiting_ends_with_the_last_pair():
    shelf = Shelf(most_suffixes=2)
    assert shelf.wait(0.0)
    shelf.want(key("a"), None)
    assert not shelf.wait(0.0)
    maker = threading.Thread(target=lambda: fill(shelf, key("a")))
    maker.start()
    assert shelf.wait(60.0)
    maker.join()


class Inner(NamedTuple):
    one: torch.Tensor
    none: torch.Tensor | None
    many: tuple


class Outer(NamedTuple):
    inner: Inner
    last: torch.Tensor | None


def test_records_become_tuples_and_come_back():
    numbers = [torch.tensor(value) for value in range(4)]
    record = Outer(Inner(numbers[0], None, (numbers[1], numbers[2])), numbers[3])
    assert [int(tensor) for tensor in tensors_of(record)] == [0, 1, 2, 3]
    again = refilled(record, [10 + tensor for tensor in numbers])
    assert isinstance(again, Outer) and isinstance(again.inner, Inner) and again.inner.none is None
    assert [int(tensor) for tensor in tensors_of(again)] == [10, 11, 12, 13]
    assert tensors_of(Outer(None, None)) == ()
    for wrong in (numbers[:3], [*numbers, numbers[0]]):
        with pytest.raises(ValueError, match="tensors than"):
            refilled(record, wrong)
