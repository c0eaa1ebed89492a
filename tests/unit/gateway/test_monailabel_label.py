"""Values of label files, clicks and strokes as clients say them, the cache of files, names that carry a permission."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from biosegment_gateway.monailabel import link as links
from biosegment_gateway.monailabel.cache import FileCache
from biosegment_gateway.monailabel.file_reader import NamedSegment
from biosegment_gateway.monailabel.inference import clicks_in, strokes_in
from biosegment_gateway.monailabel.label import slabs
from biosegment_gateway.monailabel.label_map import (
    ClassNames,
    from_classes,
    names_in,
    positions,
    to_classes,
)

from biosegment.errors import InvalidArgument, Unauthenticated
from biosegment.volume import Index, Region

CLASSES = ClassNames({"mitochondria": 2, "ER": 5, "membrane": 3}, {})
SHAPE = Index(3, 20, 30)


def test_labels_are_numbered_by_position_with_background_last() -> None:
    labels = CLASSES.as_labels()
    assert list(labels) == ["mitochondria", "ER", "membrane", "background"]
    assert labels == {"mitochondria": 1, "ER": 2, "membrane": 3, "background": 0}


def test_a_label_is_read_by_the_position_of_its_names_and_not_by_idx() -> None:
    info = [{"name": "er", "idx": 4}, {"name": "Mitochondria", "idx": 7}]
    names = names_in(info, CLASSES)
    file = np.array([[[0, 1, 2, 2]]], np.int16)
    values, scope = to_classes(positions(file, (), names), names, CLASSES)
    # 0 was looked at and is none of them; of `membrane` nothing is said.
    assert values.tolist() == [[[1, 5, 2, 2]]]
    assert scope == (2, 5)


def test_what_is_no_class_is_refused_with_the_classes() -> None:
    with pytest.raises(InvalidArgument, match=r"'nucleus'.*mitochondria, ER, membrane"):
        to_classes(np.zeros((1, 1, 1), np.uint8), ["nucleus"], CLASSES)
    with pytest.raises(InvalidArgument, match="value 4; there are 3"):
        positions(np.array([[[4]]]), (), CLASSES.names)
    with pytest.raises(InvalidArgument, match="-1"):
        positions(np.array([[[-1]]]), (), CLASSES.names)
    with pytest.raises(InvalidArgument, match="not whole"):
        positions(np.array([[[0.5]]]), (), CLASSES.names)
    with pytest.raises(InvalidArgument):
        to_classes(np.zeros((1, 1, 1), np.uint8), ["background"], CLASSES)
    for wrong in ("text", [1], [{"idx": 1}], {"name": "ER"}):
        with pytest.raises(InvalidArgument) as caught:
            names_in(wrong, CLASSES)
        assert caught.value.reason == "BAD_LABEL_INFO"


def test_segments_that_name_themselves_and_overlap() -> None:
    layers = np.zeros((2, 1, 1, 3), np.uint8)
    layers[0, 0, 0] = [3, 3, 0]
    layers[1, 0, 0] = [0, 1, 1]
    segments = (NamedSegment("ER", 3, 0), NamedSegment("membrane", 1, 1))
    found = positions(layers, segments, ("ER", "membrane"))
    assert found.tolist() == [[[1, 2, 2]]]
    with pytest.raises(InvalidArgument, match="layer 9"):
        positions(layers, (NamedSegment("ER", 1, 9),), ("ER",))


def test_scribbles_and_background_among_the_segments_are_no_classes() -> None:
    names = ("background", "ER", "foreground_scribbles")
    values, scope = to_classes(np.array([[[0, 1, 2, 3]]], np.uint8), names, CLASSES)
    assert values.tolist() == [[[1, 1, 5, 1]]]
    assert scope == (5,)


def test_only_classes_that_occur_are_named() -> None:
    labels, names = from_classes(np.array([[[1, 3, 0]]], np.uint8), CLASSES)
    assert labels.tolist() == [[[0, 3, 0]]]
    assert names == {"membrane": 3}


def test_clicks_in_both_ways_to_say_them() -> None:
    multi = {
        "mitochondria": [[1, 2, 0], [3, 4, 1]],
        "ER": [[9, 9, 2]],
        "membrane": [],
        "background": [[5, 6, 0]],
    }
    found = clicks_in({**multi, "label": "ER"}, CLASSES, SHAPE)
    assert found[2] == [
        (Index(0, 2, 1), True),
        (Index(1, 4, 3), True),
        (Index(2, 9, 9), False),
        (Index(0, 6, 5), False),
    ]
    assert found[5][0] == (Index(2, 9, 9), True)
    assert 3 not in found
    single = {"label": "membrane", "foreground": [[29, 19, 2]], "background": [[0, 0, 0]]}
    assert clicks_in(single, CLASSES, SHAPE) == {3: [(Index(2, 19, 29), True), (Index(0, 0, 0), False)]}
    assert clicks_in({name: [] for name in CLASSES.names}, CLASSES, SHAPE) == {}
    assert clicks_in({}, CLASSES, SHAPE) == {}
    only_background = {**{name: [] for name in CLASSES.names}, "background": [[0, 0, 0]], "label": "ER"}
    assert clicks_in(only_background, CLASSES, SHAPE) == {5: [(Index(0, 0, 0), False)]}
    for wrong in ([[30, 0, 0]], [[-1, 0, 0]], [[1, 2]], ["x"], "x", [[None, 1, 2]]):
        with pytest.raises(InvalidArgument) as caught:
            clicks_in({"foreground": wrong, "label": "ER"}, CLASSES, SHAPE)
        assert caught.value.reason == "BAD_CLICK"


def test_strokes_by_the_names_that_the_client_gives_its_values() -> None:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[0, 0, :3] = [2, 7, 1]
    info = [{"name": "foreground_scribbles", "id": 7}, {"name": "background_scribbles", "id": 2}]
    assert strokes_in(drawn, info, 5, CLASSES)[0, 0, :4].tolist() == [1, 5, 0, 0]
    usual = np.zeros(SHAPE, np.uint8)
    usual[0, 0, :2] = [5, 6]  # four labels with the background, then background and foreground
    assert strokes_in(usual, None, 2, CLASSES)[0, 0, :2].tolist() == [1, 2]
    with pytest.raises(InvalidArgument, match="no voxel of 7 or of 2"):
        strokes_in(np.where(drawn == 7, 0, drawn), info, 5, CLASSES)


def test_a_large_label_becomes_records_of_bounded_size() -> None:
    region = Region((3, 5, 7), (3 + 64, 5 + 700, 7 + 512))
    cut = slabs(region)
    assert sum(part.size for part in cut) == region.size
    assert all(part.size <= 4 << 20 and region.contains(part) for part in cut)
    assert len({part.start for part in cut}) == len(cut)
    assert slabs(Region((0, 0, 0), (4, 4, 4))) == [Region((0, 0, 0), (4, 4, 4))]
    wide = slabs(Region((0, 0, 0), (2, 5000, 4096)))
    assert max(part.size for part in wide) <= 4 << 20


async def test_files_are_made_once_survive_and_go_when_there_is_no_room(tmp_path: Path) -> None:
    made: list[str] = []

    def maker(text: str, size: int = 1000) -> object:
        async def make(path: Path) -> None:
            made.append(text)
            await asyncio.sleep(0.01)
            path.write_text(text.ljust(size, "."))

        return make

    cache = FileCache(tmp_path / "files", 3500)
    found = await asyncio.gather(*(cache.get("a", maker("a")) for _ in range(5)))
    assert made == ["a"]
    assert len(set(found)) == 1
    assert found[0].path.read_text().startswith("a")
    again = FileCache(tmp_path / "files", 3500)
    assert (await again.get("a", maker("other"))).sha256 == found[0].sha256
    for key in "bcd":
        await again.get(key, maker(key))
    assert await again.peek("d") is not None
    assert await again.peek("a") is None
    assert sum(path.stat().st_size for path in (tmp_path / "files").iterdir()) < 4000

    async def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await again.get("e", fails)
    assert await again.peek("e") is None
    # However many come, and however long there is room before.
    for number in range(12):
        await again.get(f"n{number}", maker("n", 300 + 100 * number))
        kept = [path for path in (tmp_path / "files").iterdir() if path.suffix != ".json"]
        assert sum(path.stat().st_size for path in kept) <= 3500
        assert await again.peek(f"n{number}") is not None
    assert not [path for path in (tmp_path / "files").iterdir() if path.name.startswith(".")]


def test_a_name_with_permission_is_of_one_image_one_user_and_some_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(links, "time", SimpleNamespace(time=lambda: now))
    made = links.ImageLinks(b"key", 7200)
    name = made.name("em", "brain_z0-8_y0-8_x0-8", "ada")
    assert links.plain_name(name) == "brain_z0-8_y0-8_x0-8"
    assert links.plain_name("brain~with~tildes") == "brain~with~tildes"
    assert made.user("em", name) == "ada"
    assert made.name("em", "brain_z0-8_y0-8_x0-8", "ada") == name  # clients find it again in lists
    for wrong in (name.replace("~ada~", "~eve~"), name.replace("z0-8", "z8-9"), name[:-1] + "a"):
        if wrong != name:
            with pytest.raises(Unauthenticated) as caught:
                made.user("em", wrong)
            assert caught.value.reason == "BAD_LINK"
    with pytest.raises(Unauthenticated):
        made.user("other", name)
    with pytest.raises(Unauthenticated):
        links.ImageLinks(b"other key", 7200).user("em", name)
    with pytest.raises(Unauthenticated) as caught:
        made.user("em", "brain")
    assert caught.value.reason == "NO_TOKEN"
    now += 3590
    assert made.user("em", name) == "ada"  # half of the time at least
    now += 3700
    with pytest.raises(Unauthenticated) as caught:
        made.user("em", name)
    assert caught.value.reason == "LINK_EXPIRED"
    assert links.ImageLinks(b"key", 0).name("em", "brain", "ada") == "brain"
