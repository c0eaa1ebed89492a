"""A region labelled without a prompt, through a real trainer and the process that answers clicks."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.rpc.geometry import data_type_to_proto, index_to_proto, region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore_server import RunningDatastore
from tests.rpc.trainer.conftest import TrainerProcess, image_and_truth
from tests.rpc.trainer.tiny import import_tiny_model

pytestmark = pytest.mark.timeout(300)


def _asked(volume: Any, region: Region, model: str = "") -> pb.SegmentByModelRequest:
    image = pb.VolumeImage(volume=volume.name, region=region_to_proto(region))
    return pb.SegmentByModelRequest(project="projects/em", volume_image=image, model=model)


async def _patiently(stub: Any, request: pb.SegmentByModelRequest) -> np.ndarray:
    """Ask again where the process starts for longer than a call may last, as others use all cores."""
    async with asyncio.timeout(240):
        while True:
            try:
                answer = await stub.SegmentByModel(request)
            except DeadlineExceeded:
                await asyncio.sleep(1)
            else:
                return np.frombuffer(zlib.decompress(answer.labels), np.uint8)


async def test_a_region_is_labelled_as_the_model_predicts_the_whole_volume(
    datastore: RunningDatastore, em: Any, trainer: TrainerProcess, tmp_path: Path
) -> None:
    from biosegment_trainer.learning.bundle import read_bundle
    from biosegment_trainer.learning.normalisation import SliceStatistics
    from biosegment_trainer.learning.prediction import PredictionConfig, predict_block

    ada = trainer.as_user("ada")
    image, _ = image_and_truth()
    region = Region((1, 30, 50), (min(3, image.shape[0]), 96, 141))
    with pytest.raises(FailedPrecondition) as caught:
        await ada.segmentation.SegmentByModel(_asked(em, region))
    assert caught.value.reason == "NO_MODEL"
    name = await import_tiny_model(ada, tmp_path)
    labels = (await _patiently(ada.segmentation, _asked(em, region))).reshape(region.shape)

    model = read_bundle(tmp_path / "tiny-0").model
    statistics = SliceStatistics.of_slices(list(image))
    whole = predict_block(
        model, lambda part: image[part.slices], Region.of_shape(image.shape), image.shape, statistics,
        PredictionConfig(measures=(), backend="eager"), "cpu",
    )  # fmt: skip
    assert whole.labels is not None
    expected = whole.labels[region.slices]
    assert set(np.unique(expected)) == {1, 2}  # else nothing was compared
    # The platform's statistics are of every voxel and float32: single voxels on the edge may differ.
    assert (labels != expected).mean() < 0.01

    sent = pb.Image(
        shape=index_to_proto(image.shape),
        data_type=data_type_to_proto(image.dtype),
        data=zlib.compress(np.ascontiguousarray(image).tobytes()),
        voxel_size=geometry_pb2.VoxelSize(z_nm=10, y_nm=10, x_nm=10),
    )
    request = pb.SegmentByModelRequest(project="projects/em", image=sent, model=name)
    elsewhere = (await _patiently(ada.segmentation, request)).reshape(image.shape)
    assert (elsewhere != whole.labels).mean() < 0.01


async def test_what_cannot_be_labelled_says_why(em: Any, trainer: TrainerProcess, tmp_path: Path) -> None:
    ada = trainer.as_user("ada").segmentation
    await import_tiny_model(trainer.as_user("ada"), tmp_path)
    inside, outside = Region((0, 0, 0), (1, 16, 16)), Region((0, 0, 0), (1, 16, 99_999))
    level = _asked(em, inside)
    level.volume_image.level = 0
    for request, kind, reason in (
        (_asked(em, outside), InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        (_asked(em, Region((0, 0, 0), (1 << 10, 1 << 10, 1 << 10))), ResourceExhausted, "REGION_TOO_LARGE"),
        (_asked(em, inside, "models/absent"), NotFound, "MODEL_NOT_FOUND"),
        (pb.SegmentByModelRequest(project="projects/em"), InvalidArgument, "NO_INPUT"),
        (level, InvalidArgument, "UNKNOWN_LEVEL"),
    ):
        with pytest.raises(kind) as caught:
            await ada.SegmentByModel(request)
        assert caught.value.reason == reason
    with pytest.raises((NotFound, PermissionDenied)):
        await trainer.as_user("mallory").segmentation.SegmentByModel(_asked(em, inside))
