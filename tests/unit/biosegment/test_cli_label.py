from __future__ import annotations

import pytest

from biosegment.cli.label import class_value, parse_offset
from biosegment.errors import InvalidArgument
from biosegment.volume import Index

CLASSES = {"mitochondria": 2, "7": 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [("mitochondria", 2), ("7", 3), ("2", 2), ("background", 1), ("not-annotated", 0)],
)
def test_a_class_is_given_by_name_or_value(text: str, value: int) -> None:
    assert class_value(text, CLASSES) == value


def test_an_unknown_class_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidArgument, match="mitochondria, 7, not-annotated, background"):
        class_value("nucleus", CLASSES)


def test_an_offset_is_read_in_zyx_order() -> None:
    assert parse_offset("1,2,3") == Index(1, 2, 3)
    assert parse_offset("") is None
    with pytest.raises(InvalidArgument) as caught:
        parse_offset("1,2")
    assert caught.value.reason == "BAD_OFFSET"
