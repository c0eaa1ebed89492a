from __future__ import annotations

import pytest

from biosegment.cli.argument import layer_name
from biosegment.cli.instance_edit import parse_points
from biosegment.errors import InvalidArgument


def test_points_are_read() -> None:
    assert parse_points("1,2,3") == [(1, 2, 3)]
    assert parse_points(" 1,2,3  40,50,60;7,8,9 ") == [(1, 2, 3), (40, 50, 60), (7, 8, 9)]
    for text in ("", "1,2", "1,2,3,4", "1,2,x", "1, 2, 3"):
        with pytest.raises(InvalidArgument) as caught:
            parse_points(text)
        assert caught.value.reason == "BAD_POSITION"


def test_a_layer_is_named_by_volume_and_id() -> None:
    whole = "projects/em/volumes/brain/layers/cells"
    assert layer_name(whole, "") == whole
    assert layer_name("brain/cells", "em") == whole
    assert layer_name("brain/cells", "projects/em") == whole
    for text, project, reason in (
        ("cells", "em", "BAD_NAME"),
        ("brain/", "em", "BAD_NAME"),
        ("brain/cells", "", "NO_PROJECT"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            layer_name(text, project)
        assert caught.value.reason == reason
