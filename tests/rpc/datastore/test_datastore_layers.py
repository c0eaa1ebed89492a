from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2, volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.storage.arrays import Arrays
from biosegment.volume import Index, Region
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

LABELS = volume_pb2.Layer.KIND_LABELS
DTYPES = {
    "uint8": geometry_pb2.DATA_TYPE_UINT8,
    "float16": geometry_pb2.DATA_TYPE_FLOAT16,
    "float32": geometry_pb2.DATA_TYPE_FLOAT32,
}


@pytest.fixture
def trainer(datastore: RunningDatastore) -> Caller:
    return datastore.as_service("trainer")


async def create(caller: Caller, volume: Any, layer_id: str = "", request_id: str = "", **fields: Any) -> Any:
    fields.setdefault("kind", LABELS)
    request = pb.CreateLayerRequest(
        parent=volume.name, layer_id=layer_id, layer=volume_pb2.Layer(**fields), request_id=request_id
    )
    return (await caller.datastore.CreateLayer(request)).layer


async def write(
    caller: Caller, layer: Any, array: Any, start: tuple[int, int, int] = (0, 0, 0), **changes: Any
) -> None:
    region = Region.of_shape(array.shape, start)
    header = geometry_pb2.ArrayHeader(
        shape=index_to_proto(changes.get("shape", region.shape)), data_type=DTYPES[array.dtype.name]
    )
    data = changes.get("data", array.tobytes())
    attempt = changes.get("attempt", layer.attempt)

    async def requests() -> AsyncIterator[pb.WriteRegionRequest]:
        yield pb.WriteRegionRequest(
            name=layer.name,
            attempt=attempt,
            region=region_to_proto(region),
            chunk=geometry_pb2.ArrayChunk(header=header),
        )
        for offset in range(0, len(data), 1000):
            piece = data[offset : offset + 1000]
            yield pb.WriteRegionRequest(chunk=geometry_pb2.ArrayChunk(offset=offset, data=piece))

    await caller.datastore.WriteRegion(requests())


async def commit(caller: Caller, layer: Any, attempt: int = 0) -> Any:
    request = pb.CommitLayerRequest(name=layer.name, attempt=attempt or layer.attempt)
    return (await caller.datastore.CommitLayer(request)).layer


async def test_a_layer_is_written_by_a_service_and_seen_after_its_commit(
    datastore: RunningDatastore, ada: Caller, trainer: Caller, volume: Any, image: Any
) -> None:
    layer = await create(trainer, volume, "prediction", model="models/m", job="jobs/trainer-1")
    assert (layer.state, layer.attempt) == (volume_pb2.Layer.STATE_WRITING, 1)
    assert layer.data_type == geometry_pb2.DATA_TYPE_UINT8
    labels = (image % 3).astype(np.uint8)
    await write(trainer, layer, labels)
    request = pb.GetLayerRequest(name=layer.name)
    with pytest.raises(NotFound):
        await ada.datastore.GetLayer(request)
    with pytest.raises(NotFound):
        await ada.read(layer.name)
    assert (await trainer.read(layer.name) == labels).all()
    listing = pb.ListLayersRequest(parent=volume.name)
    assert not (await ada.datastore.ListLayers(listing)).layers
    assert len((await trainer.datastore.ListLayers(listing)).layers) == 1
    committed = await commit(trainer, layer)
    assert committed.state == volume_pb2.Layer.STATE_COMMITTED
    assert await commit(trainer, layer) == committed
    assert (await ada.datastore.GetLayer(request)).layer == committed
    assert (await ada.read(layer.name) == labels).all()
    # Who has access to the object storage reads the same.
    key = committed.uri.removeprefix(f"{datastore.settings.object_store_url}/")
    assert (Arrays(datastore.settings).open(key).read(Region.of_shape(image.shape)) == labels).all()


async def test_a_score_map_is_coarse_half_precision_and_empty_where_nothing_was_scored(
    trainer: Caller, volume: Any
) -> None:
    layer = await create(
        trainer,
        volume,
        kind=volume_pb2.Layer.KIND_SCORE_MAP,
        measure="entropy",
        downsampling=geometry_pb2.Index(z=1, y=16, x=16),
    )
    assert (layer.shape.z, layer.shape.y, layer.shape.x) == (6, 5, 6)
    await write(trainer, layer, np.full((1, 5, 6), 0.5, np.float16), (2, 0, 0))
    scores = await trainer.read(layer.name)
    assert (scores.dtype, float(scores[2].mean())) == (np.float16, 0.5)
    assert np.isnan(scores[[0, 1, 3, 4, 5]]).all()


async def test_a_score_map_of_versions_holds_them_exactly(trainer: Caller, volume: Any) -> None:
    layer = await create(
        trainer,
        volume,
        kind=volume_pb2.Layer.KIND_SCORE_MAP,
        data_type=geometry_pb2.DATA_TYPE_FLOAT32,
        measure="model_version",
        downsampling=geometry_pb2.Index(z=1, y=16, x=16),
    )
    await write(trainer, layer, np.full((1, 5, 6), 2049, np.float32), (2, 0, 0))
    versions = await trainer.read(layer.name)
    assert (versions.dtype, set(versions[2].flat)) == (np.float32, {2049})
    assert np.isnan(versions[[0, 1, 3, 4, 5]]).all()


async def test_a_layer_of_several_channels_holds_them_beside_each_other(
    datastore: RunningDatastore, trainer: Caller, volume: Any
) -> None:
    layer = await create(
        trainer,
        volume,
        kind=volume_pb2.Layer.KIND_SCORE_MAP,
        measure="embedding",
        downsampling=I(z=1, y=16, x=16),
        channels=7,
        chunk_shape=I(z=2, y=4, x=28),
        shard_shape=I(z=4, y=4, x=28),
    )
    assert (layer.shape.z, layer.shape.y, layer.shape.x, layer.channels) == (6, 5, 6, 7)
    vectors = np.random.default_rng(0).random((6, 5, 6, 7)).astype(np.float16)
    await write(trainer, layer, vectors.reshape(6, 5, 42))
    assert ((await trainer.read(layer.name)).reshape(vectors.shape) == vectors).all()
    listed = await trainer.datastore.ListLayers(pb.ListLayersRequest(parent=volume.name))
    assert [each.channels for each in listed.layers] == [7]
    await commit(trainer, layer)
    spec = job_pb2.ExportSpec(source=layer.name, format=job_pb2.ExportSpec.FORMAT_TIFF)
    with pytest.raises(InvalidArgument) as error:
        await datastore.as_user("ada").create_job("projects/em", export=spec)
    assert error.value.reason == "SEVERAL_CHANNELS"


async def test_an_older_attempt_can_change_nothing_any_more(
    ada: Caller, trainer: Caller, volume: Any
) -> None:
    first = await create(trainer, volume, "prediction")
    ones = np.ones((6, 70, 90), np.uint8)
    await write(trainer, first, ones)
    second = (await trainer.datastore.RestartLayer(pb.RestartLayerRequest(name=first.name))).layer
    assert (second.attempt, second.state) == (2, volume_pb2.Layer.STATE_WRITING)
    assert second.uri != first.uri
    assert not (await trainer.read(first.name)).any()
    for call in (write(trainer, first, ones, attempt=1), commit(trainer, first, 1)):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.reason == "ATTEMPT_OUTDATED"
    await write(trainer, second, 2 * ones)
    await commit(trainer, second)
    assert (await ada.read(first.name)).min() == 2
    for late in (
        write(trainer, second, ones),
        trainer.datastore.RestartLayer(pb.RestartLayerRequest(name=first.name)),
    ):
        with pytest.raises(FailedPrecondition) as finished:
            await late
        assert finished.value.reason == "LAYER_COMMITTED"
    assert (await ada.read(first.name)).min() == 2


async def test_a_repeated_request_makes_one_layer(trainer: Caller, volume: Any) -> None:
    request_id = str(uuid.uuid4())
    layer = await create(trainer, volume, request_id=request_id)
    assert await create(trainer, volume, request_id=request_id) == layer
    with pytest.raises(AlreadyExists) as reused:
        await create(trainer, volume, request_id=request_id, display_name="other")
    assert reused.value.reason == "REQUEST_ID_REUSED"
    await create(trainer, volume, "taken")
    with pytest.raises(AlreadyExists) as exists:
        await create(trainer, volume, "taken")
    assert exists.value.reason == "LAYER_EXISTS"


I = geometry_pb2.Index  # noqa: E741


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": Index(1, 70, 90)}, "ARRAY_WRONG_SIZE"),
        ({"data": bytes(100)}, "ARRAY_WRONG_SIZE"),
        ({"data": bytes(6 * 70 * 90 + 1)}, "ARRAY_WRONG_SIZE"),
        ({"array": np.zeros((6, 70, 90), np.float16)}, "BAD_DATA_TYPE"),
        ({"array": np.zeros((7, 70, 90), np.uint8)}, "REGION_OUT_OF_BOUNDS"),
    ],
)
async def test_a_wrong_write_is_refused_and_changes_nothing(
    trainer: Caller, volume: Any, changes: dict[str, Any], reason: str
) -> None:
    layer = await create(trainer, volume)
    array = changes.pop("array", np.ones((6, 70, 90), np.uint8))
    with pytest.raises(InvalidArgument) as caught:
        await write(trainer, layer, array, **changes)
    assert caught.value.reason == reason
    assert not (await trainer.read(layer.name)).any()


async def test_layers_are_listed_newest_first_by_kind_and_model(trainer: Caller, volume: Any) -> None:
    names = []
    for number in range(3):
        layer = await create(trainer, volume, f"l{number}", model=f"models/m{number % 2}")
        names.append(layer.name)

    async def listed(**query: Any) -> Any:
        return await trainer.datastore.ListLayers(pb.ListLayersRequest(parent=volume.name, **query))

    first = await listed(page_size=2)
    second = await listed(page_size=2, page_token=first.next_page_token)
    assert [layer.name for layer in (*first.layers, *second.layers)] == names[::-1]
    assert [layer.name for layer in (await listed(model="models/m1")).layers] == [names[1]]
    assert not (await listed(kinds=[volume_pb2.Layer.KIND_SCORE_MAP])).layers
    with pytest.raises(InvalidArgument):
        await listed(model="models/m1", page_token=first.next_page_token)


async def test_a_deleted_layer_is_gone_and_the_annotations_layer_stays(
    datastore: RunningDatastore, ada: Caller, trainer: Caller, volume: Any
) -> None:
    layer = await create(trainer, volume)
    await commit(trainer, layer)
    await ada.datastore.DeleteLayer(pb.DeleteLayerRequest(name=layer.name))
    with pytest.raises(NotFound):
        await ada.read(layer.name)
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/layers/") == []
    annotations = f"{volume.name}/layers/annotations"
    assert not (await ada.read(annotations)).any()
    with pytest.raises(FailedPrecondition) as caught:
        await ada.datastore.DeleteLayer(pb.DeleteLayerRequest(name=annotations))
    assert caught.value.reason == "LAYER_PERMANENT"


async def test_who_may_not_write_layers_is_refused(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    member = project_pb2.Member(name="projects/em/members/ann", role=project_pb2.ROLE_ANNOTATOR)
    await ada.datastore.SetMember(pb.SetMemberRequest(member=member))
    for caller in (datastore.as_user("ann"), datastore.as_service("sampler")):
        with pytest.raises(PermissionDenied):
            await create(caller, volume)


async def test_writers_together_hold_no_more_than_one_largest_region(tmp_path: Path, keys: Path) -> None:
    shape = (4, 64, 64)
    voxels = np.arange(4 * 64 * 64, dtype=np.uint32).reshape(shape).astype(np.uint8) % 3
    async with running_datastore(tmp_path, keys, max_region_bytes=voxels.size) as datastore:
        ada, trainer = datastore.as_user("ada"), datastore.as_service("trainer")
        project = await ada.create_project("em", ("mitochondria",))
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", voxels), "brain")
        slow, other = [await create(trainer, volume, name) for name in ("slow", "other")]
        release = asyncio.Event()
        header = geometry_pb2.ArrayHeader(shape=index_to_proto(voxels.shape), data_type=DTYPES["uint8"])

        async def requests() -> AsyncIterator[pb.WriteRegionRequest]:
            yield pb.WriteRegionRequest(
                name=slow.name,
                attempt=slow.attempt,
                region=region_to_proto(Region.of_shape(shape)),
                chunk=geometry_pb2.ArrayChunk(header=header),
            )
            await release.wait()
            yield pb.WriteRegionRequest(chunk=geometry_pb2.ArrayChunk(data=voxels.tobytes()))

        async def write_slowly() -> None:
            await trainer.datastore.WriteRegion(requests())

        first = asyncio.create_task(write_slowly())
        for _ in range(50):
            second = asyncio.create_task(write(trainer, other, voxels))
            if not (await asyncio.wait({second}, timeout=1))[0]:
                break  # else the first one's header was still on its way
        else:
            pytest.fail("a second writer never waited for the first one")
        release.set()
        await asyncio.gather(first, second)
        for layer in (slow, other):
            await commit(trainer, layer)
            assert (await ada.read(layer.name) == voxels).all()
