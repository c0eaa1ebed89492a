"""A whole session of clicks and strokes through gateway, trainer and its process, by the SDK and the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import biosegment
from biosegment.client import Client, aconnect
from biosegment.volume import Region, VoxelSize
from tests.rpc.trainer.tiny_clicks import write_click_bundle
from tests.system.platform import Platform, running, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SHAPE = (6, 128, 128)
REGION = Region((0, 0, 0), SHAPE)
VOLUME = "projects/em/volumes/discs"
DISCS = ((40, 40), (90, 80))
RADIUS = 18
WRONG = (slice(5, 20), slice(90, 110))
"""A part of a slice that is dark: no object."""


def disc(number: int) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return (y - DISCS[number][0]) ** 2 + (x - DISCS[number][1]) ** 2 <= RADIUS**2


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("segmentation")
    write_click_bundle(folder / "bundles")
    bright = np.where(disc(0) | disc(1), 180, 70).astype(np.uint8)
    tifffile.imwrite(folder / "discs.tif", np.repeat(bright[None], SHAPE[0], 0), photometric="minisblack")
    environment = {"BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR": str(folder / "bundles")}
    with running(folder, import_root=folder, environment=environment) as started:
        with started.connect() as client:
            project = client.projects.create("em", classes=["mitochondria"], working_resolution_nm=10)
            job = client.jobs.import_volume(
                project.name, str(folder / "discs.tif"), volume_id="discs", voxel_size=VoxelSize(30, 10, 10)
            )
            client.jobs.wait(job.name)

            def is_warm() -> bool:
                try:
                    client.segmentation.segment(VOLUME, REGION, class_value=2, clicks=[((0, 0, 0), False)])
                except biosegment.DeadlineExceeded:
                    return False
                return True

            until(is_warm, 240, "the process that segments has started")
        yield started


@pytest.fixture
def client(platform: Platform) -> Iterator[Client]:
    with platform.connect() as connected:
        yield connected


def test_a_session_from_the_first_click_to_the_annotation(client: Client) -> None:
    begun = np.zeros(SHAPE, np.uint8)
    begun[2][WRONG] = 1
    session = client.segmentation.begin(VOLUME, REGION, class_value=2, mask=begun)
    first = client.segmentation.click(session, (2, *DISCS[0]))
    one = session.mask
    assert first.mask[2][disc(0)].mean() > 0.9
    assert not first.mask[2][disc(1)].any()
    assert first.mask[2][WRONG].all()
    assert first.voxel_size == VoxelSize(30, 10, 10)
    client.segmentation.click(session, (2, *DISCS[1]))
    two = session.mask
    assert two[2][disc(0) | disc(1)].mean() > 0.9
    client.segmentation.click(session, (2, 12, 100), positive=False)
    three = session.mask
    assert not three[2][WRONG].any()
    assert (session.undo() == two).all()
    assert (session.undo() == one).all()
    assert (session.redo() == two).all()
    assert (session.undo_count, session.redo_count) == (2, 1)
    session.redo()
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[4, 38:42, 30:50], strokes[4, 2:5, 5:120] = 2, 1
    drawn = client.segmentation.scribble(session, strokes)
    assert drawn.model == ""
    assert session.mask[4][disc(0)].mean() > 0.9
    assert (session.mask[2] == three[2]).all()
    stored = client.segmentation.commit(session, comment="three clicks and a stroke")
    labels = client.annotations.labels(stored.name)
    assert stored.kind == "scribbles"
    assert ((labels == 2) == (session.mask > 0)).all()
    # What was there first and is no longer is background; of the rest nothing is said.
    assert ((labels == 1) == (begun > session.mask)).all()
    # The session goes on: its own annotation is not news to it. A new step ends what could be done again.
    assert (session.undo() == three).all()
    client.segmentation.click(session, (5, *DISCS[1]))
    assert session.redo_count == 0
    complete = client.segmentation.commit(session, complete=True)
    assert complete.kind == "dense"
    assert set(np.unique(client.annotations.labels(complete.name))) == {1, 2}
    client.annotations.revert(stored.name)
    client.annotations.revert(complete.name)


def test_a_session_begins_with_a_layer_and_what_is_taken_out_of_it_becomes_background(client: Client) -> None:
    predicted = np.ones(SHAPE, np.uint8)
    predicted[:, disc(0) | disc(1)] = 2
    predicted[(slice(None), *WRONG)] = 2
    layer = client.volumes.write_layer(VOLUME, predicted)
    session = client.segmentation.begin(VOLUME, REGION, class_value=2, plane="3d", layer=layer.name)
    client.segmentation.click(session, (2, 12, 100), positive=False)
    stored = client.segmentation.commit(session)
    labels = client.annotations.labels(stored.name)
    assert (labels[(slice(None), *WRONG)] == 1).all()  # through all slices
    assert (labels[:, disc(0) | disc(1)] == 2).all()
    assert (labels[:, 120:] == 0).all()
    client.annotations.revert(stored.name)


def test_two_clients_never_fight(platform: Platform, client: Client) -> None:
    with platform.connect() as other:
        mine = client.segmentation.begin(VOLUME, REGION, class_value=2)
        theirs = other.segmentation.begin(VOLUME, REGION, class_value=2)
        client.segmentation.click(mine, (2, *DISCS[0]))
        other.segmentation.click(theirs, (3, *DISCS[1]))
        stored = other.segmentation.commit(theirs)
        before = mine.mask
        for refused in (
            lambda: client.segmentation.click(mine, (2, *DISCS[1])),
            lambda: client.segmentation.commit(mine),
        ):
            with pytest.raises(biosegment.Conflict) as caught:
                refused()
            assert caught.value.reason == "BASE_OUTDATED"
            assert caught.value.metadata["annotation"] == stored.name
        assert mine.mask is before
        client.segmentation.refresh(mine)
        client.segmentation.click(mine, (2, *DISCS[1]))
        merged = client.segmentation.commit(mine)
        assert (client.annotations.labels(merged.name) == 2)[2][disc(0)].mean() > 0.9


def test_asynchronous_clients_are_served_one_after_the_other(platform: Platform) -> None:
    async def all_at_once() -> list[int]:
        async with aconnect(data_dir=platform.data_dir) as client:
            answers = await asyncio.gather(
                *(
                    client.segmentation.segment(
                        VOLUME, REGION, class_value=2, clicks=[((z, *DISCS[0]), True)]
                    )
                    for z in range(SHAPE[0])
                )
            )
            return [int(answer.mask[z].sum()) for z, answer in enumerate(answers)]

    sums = asyncio.run(all_at_once())
    assert len(set(sums)) == 1
    assert sums[0] > 800


def test_an_image_is_segmented_that_is_nowhere_on_the_platform(client: Client) -> None:
    image = np.where(disc(1), 30_000, 9_000).astype(np.uint16)[None]
    answer = client.segmentation.segment_image(
        "projects/em", image, VoxelSize(30, 10, 10), class_value=2, clicks=[((0, *DISCS[1]), True)],
        with_probability=True,
    )  # fmt: skip
    assert answer.mask[0][disc(1)].mean() > 0.9
    assert answer.probability is not None
    assert answer.probability[0, 5, 5] < 128


def test_as_somebody_types_it(platform: Platform, client: Client, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BIOSEGMENT_DATA": str(platform.data_dir), "BIOSEGMENT_PROJECT": "em"}
        command = [sys.executable, "-m", "biosegment.cli", "segment", "discs", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    place = ("--region", "0:6,0:128,0:128")
    output = tmp_path / "mask.npy"
    done = run(*place, "--click", "2,40,40", "--class", "mitochondria", "-o", str(output))
    assert done.returncode == 0, done.stderr
    words = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines())
    mask = np.load(output)
    assert words["level"] == "0"
    assert words["voxel size nm"] == "30 x 10 x 10"
    assert words["changed voxels"] == str(int(mask.sum()))
    assert mask[2][disc(0)].mean() > 0.9
    corrected = run(*place, "--previous", str(output), "--no-click", "2,40,40", "--json")
    report = json.loads(corrected.stdout)
    assert 0 < report["changed_voxels"] == int(mask.sum()) - report["mask_voxels"]
    stored = run(*place, "--click", "2,40,40", "--commit", "--json")
    name = json.loads(stored.stdout)["annotation"]
    assert client.annotations.get(name).voxel_counts[2] == int(mask.sum())
    # The layer of annotations by its id: nothing of it is taken out by a click on what it has.
    from_layer = run(*place, "--layer", "annotations", "--click", "2,40,40", "--json")
    assert json.loads(from_layer.stdout)["mask_voxels"] >= int(mask.sum()), from_layer.stderr
    for wrong, word in (
        (("--click", "2,40"), "is not z,y,x"),
        (("--click", "2,40,400"), "outside of the region"),
        (("--click", "2,40,40", "--class", "nuclei"), "no class 'nuclei'"),
        ((), "neither a click nor a stroke"),
    ):
        failed = run(*place, *wrong)
        assert failed.returncode == 1
        assert word in failed.stderr
