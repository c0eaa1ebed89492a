"""Which of several annotations of one place a training learns from."""

from __future__ import annotations

from typing import Any

from biosegment_trainer.datastore_client import AnnotationView
from biosegment_trainer.training.contradiction import undisputed

from biosegment.volume import Region

HERE, THERE = Region.of_shape((1, 8, 8)), Region.of_shape((1, 8, 8), (0, 0, 4))
CLASSES = (2, 3)


def view(number: int, author: str, region: Region = HERE, **fields: Any) -> AnnotationView:
    fields.setdefault("scope", frozenset())
    name = f"projects/p/volumes/v/annotations/a{number}"
    return AnnotationView(name, region, holds=True, author=author, **fields)


def kept(*views: AnnotationView) -> list[str]:
    return [each.name.rpartition("/a")[2] for each in undisputed(views, CLASSES)]


def test_the_later_one_of_an_author_stands_for_the_earlier_ones() -> None:
    assert kept(view(1, "ann"), view(2, "ann", THERE), view(3, "ann"), view(4, "ann")) == ["2", "4"]


def test_an_accepted_one_stands_for_what_nobody_judged() -> None:
    assert kept(view(1, "ann"), view(2, "bob")) == ["1", "2"]
    assert kept(view(1, "ann", is_accepted=True), view(2, "bob")) == ["1"]
    assert kept(view(1, "ann"), view(2, "bob", is_accepted=True), view(3, "rev")) == ["2"]
    assert kept(view(1, "ann", is_accepted=True), view(2, "bob", is_accepted=True)) == ["1", "2"]
    # The later one of its author counts, although the earlier one was accepted.
    assert kept(view(1, "ann", is_accepted=True), view(2, "ann")) == ["2"]


def test_what_says_less_stands_for_nothing() -> None:
    assert kept(view(1, "ann"), view(2, "ann", is_dense=False)) == ["1", "2"]
    assert kept(view(1, "ann", is_dense=False), view(2, "ann")) == ["2"]
    assert kept(view(1, "ann"), view(2, "ann", scope=frozenset({2}))) == ["1", "2"]
    assert kept(view(1, "ann", scope=frozenset({2})), view(2, "ann", scope=frozenset({2, 3}))) == ["2"]
    assert kept(view(1, "ann", scope=frozenset({2})), view(2, "ann", scope=frozenset({3}))) == ["1", "2"]


def test_other_volumes_are_other_places() -> None:
    other = AnnotationView("projects/p/volumes/w/annotations/a2", HERE, frozenset(), True, author="ann")
    assert len(undisputed([view(1, "ann"), other], CLASSES)) == 2
