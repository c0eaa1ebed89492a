"""The same story on SQLite and on PostgreSQL, several instances included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2, project_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.client.annotations import Annotations
from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import AlreadyExists, Conflict, FailedPrecondition
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_layers import commit, create, write
from tests.rpc.datastore_server import RunningDatastore, running_datastore
from tests.servers import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
async def instances(
    request: Any, tmp_path: Path, keys: Path
) -> AsyncIterator[tuple[RunningDatastore, RunningDatastore]]:
    """Two instances on one database and one object store."""
    values = {}
    if request.param == "postgresql":
        values["database_url"] = request.getfixturevalue("postgres_url")
    async with (
        running_datastore(tmp_path, keys, **values) as one,
        running_datastore(tmp_path, keys, **values) as two,
    ):
        yield one, two
        await one.as_user("root", is_admin=True).datastore.DeleteProject(
            pb.DeleteProjectRequest(name="projects/em", force=True)
        )


async def test_a_project_lives_its_life_on_two_instances(
    instances: tuple[RunningDatastore, RunningDatastore], image: Any
) -> None:
    one, two = instances
    ada, also_ada = one.as_user("ada"), two.as_user("ada")
    project = await ada.create_project("em", ("mitochondria", "membrane"))
    with pytest.raises(AlreadyExists):
        await also_ada.create_project("em")
    volume = await also_ada.import_volume(project.name, two.write_tiff("stack.tif", image), "brain")
    assert (await ada.read(volume.name) == image).all()
    await _annotate_at_once(ada, also_ada, volume, image)
    await _layers(one, two, volume, image)
    await _objects(ada, also_ada, volume, image)
    await _classes_and_members(ada, also_ada, project)


async def _objects(ada: Any, also_ada: Any, volume: Any, image: Any) -> None:
    ids = np.arange(1, image.size + 1, dtype=np.uint32).reshape(image.shape)
    layer = (await Volumes(ada.channel).write_layer(volume.name, ids, kind="instances")).name
    here, there = Instances(ada.channel), Instances(also_ada.channel)
    # The first edits of two instances at once: both list the objects, and one list counts.
    merged = await asyncio.gather(
        *((here, there)[number % 2].merge(layer, [1, number]) for number in range(2, 8))
    )
    assert sorted(each.sequence for each in merged) == list(range(1, 7))
    place, one = Region.of_shape((1, 1, 2), (3, 4, 5)), np.ones((1, 1, 2), bool)
    made = await asyncio.gather(*(each.reassign(layer, one, region=place) for each in (here, there)))
    last = max(made, key=lambda each: each.sequence)
    assert sorted(each.new_instances[0] for each in made) == [image.size + 1, image.size + 2]
    assert (await there.revert(merged[0].name)).reverted
    ids[0, 0, 2:7] = 1
    ids[place.slices] = last.new_instances[0]
    for caller in (ada, also_ada):
        assert (await Volumes(caller.channel).read(layer, with_edits=True) == ids).all()
    assert await here.list(layer, instance=1) == await there.list(layer, instance=1)
    assert len(await here.list(layer, instance=1)) == 7
    with pytest.raises(Conflict) as caught:
        await there.delete(layer, [1], base_sequence=6)
    assert caught.value.reason == "BASE_OUTDATED"
    await ada.datastore.DeleteLayer(pb.DeleteLayerRequest(name=layer, force=True))


async def _annotate_at_once(ada: Any, also_ada: Any, volume: Any, image: Any) -> None:
    regions = [Region.of_shape((1, 10, 10), (n % 6, 5 * n, 5 * n)) for n in range(10)]
    made = await asyncio.gather(
        *(
            (ada, also_ada)[number % 2].commit(
                volume.name, region, np.full(region.shape, 2), request_id=f"r{number}"
            )
            for number, region in enumerate(regions)
        )
    )
    assert sorted(each.sequence for each in made) == list(range(1, 11))
    both = await asyncio.gather(
        *(
            caller.commit(volume.name, regions[0], np.full(regions[0].shape, 3), request_id="twice")
            for caller in (ada, also_ada)
        )
    )
    assert both[0] == both[1]
    with pytest.raises(AlreadyExists):
        await ada.commit(volume.name, regions[1], np.full(regions[1].shape, 3), request_id="twice")
    with pytest.raises(Conflict):
        await ada.commit(volume.name, regions[0], np.full(regions[0].shape, 3), base_sequence=10)
    revert = annotation_pb2.RevertAnnotationRequest(name=made[4].name)
    await also_ada.annotations.RevertAnnotation(revert)
    expected = np.zeros_like(image)
    for region in regions[:4] + regions[5:]:
        expected[region.slices] = 2
    expected[regions[0].slices] = 3
    for caller in (ada, also_ada):
        assert (await caller.read(f"{volume.name}/layers/annotations") == expected).all()
    feed = await also_ada.annotations.ListAnnotationRecords(
        annotation_pb2.ListAnnotationRecordsRequest(parent="projects/em", after_sequence=9)
    )
    assert [record.sequence for record in feed.records] == [10, 11, 12]
    near = {"region": region_to_proto(regions[0])}
    listed = await ada.annotations.ListAnnotations(
        annotation_pb2.ListAnnotationsRequest(parent=volume.name, **near)
    )
    expected_names = [each.name for each in sorted((made[0], both[0]), key=lambda each: each.sequence)]
    assert [each.name for each in listed.annotations] == expected_names
    history = await ada.annotations.ListAnnotationRecords(
        annotation_pb2.ListAnnotationRecordsRequest(parent="projects/em", volume=volume.name, **near)
    )
    assert [record.annotation.name for record in history.records] == expected_names
    await _drafts(ada, also_ada, volume, regions[2])


async def _drafts(ada: Any, also_ada: Any, volume: Any, region: Region) -> None:
    """One machine goes on where another one stopped; two that save at once are told."""
    name, labels = f"{volume.name}/drafts/mine", np.full(region.shape, 2, np.uint8)
    saved = await Annotations(ada.channel).save_draft(name, labels, region=region)
    both = await asyncio.gather(
        *(
            Annotations(caller.channel).save_draft(name, labels, region=region, comment=text, etag=saved.etag)
            for caller, text in ((ada, "one"), (also_ada, "two"))
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Conflict) for each in both) == 1, both
    found, resumed = await Annotations(also_ada.channel).draft(name)
    assert found in both
    assert (resumed == labels).all()
    await Annotations(also_ada.channel).delete_draft(name)


async def _layers(one: RunningDatastore, two: RunningDatastore, volume: Any, image: Any) -> None:
    trainer, again = one.as_service("trainer"), two.as_service("trainer")
    layer = await create(trainer, volume, "prediction")
    restarted = await again.datastore.RestartLayer(pb.RestartLayerRequest(name=layer.name))
    with pytest.raises(Conflict):
        await commit(trainer, layer)
    await write(again, restarted.layer, image)
    await commit(again, restarted.layer)
    assert (await one.as_user("ada").read(layer.name) == image).all()


async def _classes_and_members(ada: Any, also_ada: Any, project: Any) -> None:
    update = pb.UpdateProjectRequest(project=project_pb2.Project(name=project.name))
    update.update_mask.paths.append("classes")
    update.project.classes.add(display_name="other")
    with pytest.raises(FailedPrecondition) as caught:
        await ada.datastore.UpdateProject(update)
    assert caught.value.reason == "CLASS_IN_USE"
    member = project_pb2.Member(name=f"{project.name}/members/bob", role=project_pb2.ROLE_OWNER)
    await ada.datastore.SetMember(pb.SetMemberRequest(member=member))
    gone = await asyncio.gather(
        *(
            caller.datastore.RemoveMember(pb.RemoveMemberRequest(name=f"{project.name}/members/{user}"))
            for caller, user in ((ada, "bob"), (also_ada, "ada"))
        ),
        return_exceptions=True,
    )
    # Whoever was first; never both.
    assert sum(isinstance(each, Exception) for each in gone) == 1, gone
