"""What is projected record by record, in whatever batches, is what a rebuild makes: the same bytes in every object."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.errors import FailedPrecondition
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

# Two shards in y and x, so that annotations lie across their borders.
SHAPE = (5, 300, 280)
CORNERS = st.tuples(st.integers(0, 3), st.sampled_from((0, 120, 240, 250)), st.sampled_from((0, 130, 235)))
SCOPES = ([2], [3], [2, 3], [4])
KINDS = (pb.Annotation.KIND_DENSE, pb.Annotation.KIND_SCRIBBLES, pb.Annotation.KIND_INSTANCES)

COMMITS = st.tuples(
    st.just("commit"),
    CORNERS,
    st.sampled_from(((1, 40, 40), (2, 30, 45), (1, 8, 8))),
    st.sampled_from(KINDS),
    st.sampled_from(SCOPES),
    st.integers(0, 2**31),
)
CHANGES = st.tuples(st.sampled_from(("revert", "accept", "reject")), st.integers(0, 30))
STEPS = st.lists(st.one_of(COMMITS, COMMITS, CHANGES, st.just(("read",))), min_size=4, max_size=14)


class Scene:
    """A volume, what was done to it, and what must come of it by definition."""

    def __init__(self, datastore: RunningDatastore, ada: Caller, volume: str) -> None:
        self._datastore = datastore
        self._ada = ada
        self._volume = volume
        self._made: list[Any] = []
        self._said: dict[str, tuple[Region, Any, list[int], bool]] = {}
        self._held: dict[str, bool] = {}

    async def do(self, step: tuple[Any, ...]) -> None:
        if step[0] == "commit":
            await self._commit(*step[1:])
        elif step[0] == "read":
            await self._ada.read(f"{self._volume}/layers/annotations")
        elif self._made:
            await self._change(step[0], self._made[step[1] % len(self._made)])

    async def _commit(self, corner: Any, shape: Any, kind: int, scope: list[int], seed: int) -> None:
        region = Region.of_shape(shape, corner)
        random = np.random.default_rng(seed)
        are_ids = kind == pb.Annotation.KIND_INSTANCES
        scope = scope[:1] if are_ids else scope
        values = [0, 7, 90_000, 0xFFFFFFFF] if are_ids else [0, 1, *scope]
        labels = np.kron(
            random.choice(values, (shape[0], shape[1] // 4, -(-shape[2] // 4))), np.ones((1, 4, 4))
        )
        labels = labels[:, : shape[1], : shape[2]]
        labels = np.pad(labels, [(0, full - cut) for full, cut in zip(shape, labels.shape, strict=True)])
        labels = labels.astype(np.uint32 if are_ids else np.uint8)
        made = await self._ada.commit(self._volume, region, labels, kind=kind, class_scope=scope)
        self._made.append(made)
        classes = np.select([labels == 0, labels == 0xFFFFFFFF], [0, 1], scope[0]) if are_ids else labels
        self._said[made.name] = (region, classes, scope, are_ids)
        self._held[made.name] = True

    async def _change(self, action: str, annotation: Any) -> None:
        with contextlib.suppress(FailedPrecondition):
            if action == "revert":
                request = pb.RevertAnnotationRequest(name=annotation.name)
                await self._ada.annotations.RevertAnnotation(request)
            else:
                review = pb.ReviewAnnotationRequest(
                    name=annotation.name, accepted=action == "accept", comment="so"
                )
                await self._ada.annotations.ReviewAnnotation(review)
            self._held[annotation.name] = action == "accept"

    def expected(self) -> Any:
        """Voxel by voxel from the definition, without any code of the product."""
        layer = np.zeros(SHAPE, np.uint8)
        names = [each.name for each in self._made if self._held[each.name]]
        for are_ids in (False, True):
            for name in names:
                region, labels, scope, is_instances = self._said[name]
                if is_instances == are_ids:
                    below = layer[region.slices]
                    says = (labels >= 2) | ((labels == 1) & ((below < 2) | np.isin(below, scope)))
                    below[says] = labels[says]
        return layer

    async def objects(self) -> tuple[Any, dict[str, str]]:
        """Voxels of the layer, and a digest of every object of its array, by name."""
        voxels = await self._ada.read(f"{self._volume}/layers/annotations")
        request = datastore_pb2.GetLayerRequest(name=f"{self._volume}/layers/annotations")
        uri = (await self._ada.datastore.GetLayer(request)).layer.uri
        folder = Path(uri.removeprefix("file://"))
        files = await asyncio.to_thread(lambda: [path for path in folder.rglob("*") if path.is_file()])
        return voxels, {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }

    async def rebuild(self) -> None:
        request = pb.RebuildAnnotationsLayerRequest(parent=self._volume)
        await self._ada.annotations.RebuildAnnotationsLayer(request)


async def check(folder: Path, keys: Path, steps: list[tuple[Any, ...]]) -> None:
    async with running_datastore(folder, keys) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em", ("mitochondria", "membrane", "vesicle"))
        path = datastore.write_tiff("stack.tif", np.zeros(SHAPE, np.uint8))
        volume = await ada.import_volume(project.name, path, "brain")
        scene = Scene(datastore, ada, volume.name)
        for step in steps:
            await scene.do(step)
        voxels, objects = await scene.objects()
        assert (voxels == scene.expected()).all()
        await scene.rebuild()
        again, rebuilt = await scene.objects()
    assert (again == voxels).all()
    assert rebuilt == objects


FIXED: list[tuple[Any, ...]] = [
    ("commit", (1, 120, 130), (1, 40, 40), pb.Annotation.KIND_INSTANCES, [2], 1),
    ("read",),
    ("commit", (1, 120, 130), (2, 30, 45), pb.Annotation.KIND_DENSE, [2, 3], 2),
    ("commit", (1, 250, 235), (2, 30, 45), pb.Annotation.KIND_DENSE, [3], 3),
    ("commit", (1, 240, 235), (1, 40, 40), pb.Annotation.KIND_INSTANCES, [3], 4),
    ("reject", 2),
    ("commit", (1, 120, 130), (1, 8, 8), pb.Annotation.KIND_SCRIBBLES, [4], 5),
    ("read",),
    ("revert", 4),
    ("accept", 2),
]


@pytest.mark.timeout(300)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@example(steps=FIXED)
@given(steps=STEPS)
def test_a_rebuilt_layer_has_the_same_bytes_in_every_object(
    tmp_path_factory: pytest.TempPathFactory, keys: Path, steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(check(tmp_path_factory.mktemp("rebuild"), keys, steps))
