from __future__ import annotations

from pathlib import Path

import pytest

from biosegment.cli.objects import measure_objects
from biosegment.errors import InvalidArgument

NAME = "projects/em/volumes/brain/layers/mitochondria"


def test_what_cannot_be_written_is_refused_before_anything_is_measured() -> None:
    for options, reason in (
        ({"output": Path("objects.xlsx")}, "UNKNOWN_FORMAT"),
        ({"mesh_format": ["ply"]}, "NO_MESHES"),
        ({"mesh_cell": 20.0}, "NO_MESHES"),
    ):
        given = {"output": Path("objects.csv"), **options}
        with pytest.raises(InvalidArgument) as caught:
            measure_objects(NAME, "", **given)  # type: ignore[arg-type]
        assert caught.value.reason == reason
