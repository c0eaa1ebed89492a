"""The same tissue in a wider type: microscopes write 16 bits of which hardly eight are used."""

from __future__ import annotations

import numpy as np
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from tests.rpc.trainer.conftest import SHAPE, annotate, image_and_truth

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

VOXEL = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10)
OPTIONS = {"network.channels": "4,8", "batch_size": 4, "patch_size": 64, "learning_rate": 1e-2}


async def test_a_uint16_file_that_holds_0_to_190_is_learned_and_predicted_as_the_same_uint8_is(
    datastore, ada, project_id
):
    user = datastore.as_user("ada")
    project = await user.create_project(project_id)
    image, truth = image_and_truth()
    dim = (image.astype(int) * 190 // image.max()).astype(np.uint16)
    dim[0, 0, :2] = 0, 190
    assert (dim.min(), dim.max()) == (0, 190)
    found = []
    for voxels in (dim.astype(np.uint8), dim):
        path = datastore.write_tiff(f"{project_id}-{voxels.dtype}.tif", voxels)
        volume = await user.import_volume(project.name, path, str(voxels.dtype), voxel_size=VOXEL)
        stored = await user.read(volume.name)
        assert stored.dtype == voxels.dtype
        np.testing.assert_array_equal(stored, dim)
        names = await annotate(datastore, volume)
        spec = job_pb2.TrainSpec(annotations=names, from_scratch=True, seed=1, max_steps=60, options=OPTIONS)
        model = (await ada.succeeded(await ada.create_job(train=spec))).result.model
        predict = job_pb2.PredictSpec(
            model=model, volume=volume.name, probabilities=True, measures=["entropy"]
        )
        layers = (await ada.succeeded(await ada.create_job(predict=predict))).result.layers
        found.append([await user.read(name) for name in layers])
    labels, probabilities, entropy = zip(*found, strict=True)
    for one, other in (labels, probabilities, entropy):
        assert one.shape[0] == SHAPE[0]
        np.testing.assert_array_equal(one, other)
    # It has learned something that could differ.
    held_out = [1, 3]
    right = (labels[1][held_out] == 2) & (truth[held_out] == 2)
    assert right.sum() / ((labels[1][held_out] == 2) | (truth[held_out] == 2)).sum() > 0.5
