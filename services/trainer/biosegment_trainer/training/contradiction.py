"""Annotations of one place that say different things: which of them a training learns from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from biosegment_trainer.datastore_client import AnnotationView


def undisputed(views: Sequence[AnnotationView], classes: Collection[int]) -> list[AnnotationView]:
    """Those that no other annotation of exactly the same region stands for, in their order.

    A dense annotation stands for an earlier one of its author, and an accepted one for those of others that nobody has
    judged, when it looked for all classes that they looked for. Of two authors of whom neither or both were accepted
    a training learns from both: nobody has said who is right. Strokes add to what is there.

    Args:
        views: Annotations that hold, oldest first.
        classes: Of the project, which an annotation without a scope looked for.
    """
    places: dict[object, list[AnnotationView]] = defaultdict(list)
    for view in views:
        places[view.volume_name, view.region].append(view)

    def is_stood_for(view: AnnotationView) -> bool:
        there = places[view.volume_name, view.region]
        number = next(number for number, each in enumerate(there) if each.name == view.name)
        return any(
            (other.scope or frozenset(classes)) >= (view.scope or frozenset(classes))
            for place, other in enumerate(there)
            if other.is_dense and _replaces(other, view, is_later=place > number)
        )

    return [
        view for view in views if len(places[view.volume_name, view.region]) == 1 or not is_stood_for(view)
    ]


def _replaces(one: AnnotationView, other: AnnotationView, *, is_later: bool) -> bool:
    if one.author == other.author:
        return is_later
    return one.is_accepted and not other.is_accepted
