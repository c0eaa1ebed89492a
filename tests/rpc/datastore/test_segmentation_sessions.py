"""What a session of clicks begins with and stores, with the real datastore and without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biosegment.client.annotations import Annotations
from biosegment.client.resources import SegmentationSession
from biosegment.client.segmentation import Segmentation
from biosegment.client.volumes import Volumes
from biosegment.errors import Conflict, InvalidArgument
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller

WHERE = Region((2, 10, 20), (3, 12, 24))  # type: ignore[arg-type]


async def test_who_refreshes_after_somebody_annotated_loses_nothing(ada: Caller, volume: Any) -> None:
    client = Segmentation(ada.channel)
    session = await client.begin(volume.name, WHERE, class_value=2, mask=np.ones(WHERE.shape, np.uint8))
    strokes = np.zeros(WHERE.shape, np.uint8)
    strokes[0, 1, 2] = 1
    # As a negative click would: the right half is taken out.
    smaller = np.ones(WHERE.shape, np.uint8)
    smaller[:, :, 2:] = 0
    session.step(smaller, strokes)
    theirs = await ada.commit(volume.name, WHERE, np.full(WHERE.shape, 3))
    with pytest.raises(Conflict) as caught:
        await client.commit(session)
    assert caught.value.reason == "BASE_OUTDATED"
    await client.refresh(session)
    assert session.base_sequence == theirs.sequence
    assert (session.undo_count, session.strokes.sum()) == (1, 1)
    stored = await client.commit(session)
    expected = np.where(smaller == 1, 2, 1)
    np.testing.assert_array_equal(await Annotations(ada.channel).labels(stored.name), expected)


async def test_a_session_does_not_begin_with_the_probabilities_of_another_class(
    ada: Caller, volume: Any, image: Any
) -> None:
    probability = np.zeros(image.shape, np.uint8)
    probability[2, 10, 20:22] = 127, 128
    layer = await Volumes(ada.channel).write_layer(
        volume.name, probability, kind="probabilities", class_value=3
    )
    client = Segmentation(ada.channel)
    with pytest.raises(InvalidArgument) as caught:
        await client.begin(volume.name, WHERE, class_value=2, layer=layer.name)
    assert caught.value.reason == "BAD_BASE"
    session = await client.begin(volume.name, WHERE, class_value=3, layer=layer.name)
    assert np.argwhere(session.mask).tolist() == [[0, 0, 1]]


def test_a_click_comes_with_the_earlier_ones_of_its_slice_or_object_until_strokes_answer_anew() -> None:
    clicks = [((2, 10, 20), True), ((3, 10, 21), True), ((2, 11, 22), False)]
    for plane, own in (("xy", [0, 2]), ("xz", [0, 1]), ("yz", []), ("3d", [0, 1, 2])):
        session = SegmentationSession("projects/em/volumes/brain", WHERE, 2, plane=plane)
        for click in clicks:
            session.step(session.mask, click=click)
        new = ((2, 10, 23), True)
        assert session.clicks_with(*new) == [*(clicks[number] for number in own), new]
        session.undo()
        assert session.clicks_with(*new) == [*(clicks[number] for number in own if number < 2), new]
        session.step(session.mask, session.strokes)
        assert session.clicks_with(*new) == [new]
