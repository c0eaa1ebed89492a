"""What a training says of working pixels that are not those of its parent, or not square."""

from __future__ import annotations

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from tests.rpc.trainer.conftest import annotate, image_and_truth

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

OPTIONS = {"network.channels": "4,8", "batch_size": 2, "patch_size": 32}


async def test_another_resolution_than_the_parent_s_and_oblong_voxels_are_said(datastore, ada, project_id):
    user = datastore.as_user("ada")
    project = await user.create_project(project_id)
    path = datastore.write_tiff(f"{project_id}.tif", image_and_truth()[0])

    async def trained(**spec):
        job = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=1, **spec)))
        return await ada.model(job.result.model), await ada.log(job.name)

    square = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10.9)
    names = await annotate(
        datastore, await user.import_volume(project.name, path, "square", voxel_size=square)
    )
    first, log = await trained(annotations=names, from_scratch=True, options=OPTIONS)
    assert not [
        line for line in (*first.remarks, log) if "working resolution" in line or "knows pixels" in line
    ]
    same, log = await trained(
        annotations=names, parent=first.name, options={"batch_size": 2, "patch_size": 32}
    )
    assert "knows pixels" not in " ".join((*same.remarks, log))

    wide = geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=12)
    names = await annotate(datastore, await user.import_volume(project.name, path, "wide", voxel_size=wide))
    options = {"batch_size": 2, "patch_size": 32, "working_resolution_nm": 20.0}
    child, log = await trained(annotations=names, parent=first.name, options=options)
    for said in (" ".join(child.remarks), log):
        assert f"{first.name} knows pixels of 10 nm, and its weights go on with 20 nm" in said
        assert "volumes/wide are 10 nm high and 12 nm wide" in said
    spec = job_pb2.PretrainSpec(volumes=[f"{project.name}/volumes/wide"], max_steps=1, options=OPTIONS)
    job = await ada.succeeded(await ada.create_job(pretrain=spec))
    model = await ada.model(job.result.model)
    for said in (" ".join(model.remarks), await ada.log(job.name)):
        assert "volumes/wide are 10 nm high and 12 nm wide" in said


async def test_volumes_that_are_coarser_than_the_working_resolution_are_said_to_be(
    datastore, ada, project_id
):
    user = datastore.as_user("ada")
    project = await user.create_project(project_id)
    path = datastore.write_tiff(f"{project_id}.tif", image_and_truth()[0])

    async def volume(name, nm):
        size = geometry_pb2.VoxelSize(z_nm=nm, y_nm=nm, x_nm=nm)
        return await user.import_volume(project.name, path, name, voxel_size=size)

    coarse, coarsest = await volume("coarse", 40), await volume("coarsest", 100)
    names = await annotate(datastore, coarse)
    spec = job_pb2.TrainSpec(annotations=names, max_steps=1, from_scratch=True, options=OPTIONS)
    job = await ada.succeeded(await ada.create_job(train=spec))
    model = await ada.model(job.result.model)
    assert model.working_resolution_nm == 40
    for said in (" ".join(model.remarks), await ada.log(job.name)):
        assert "volumes/coarse are 40 nm, those of the working resolution 10 nm" in said
        assert "recorded with the pixels of 40 nm" in said

    async def logged(**spec):
        return await ada.log((await ada.succeeded(await ada.create_job(**spec))).name)

    region = {"start": {"z": 0, "y": 0, "x": 0}, "stop": {"z": 1, "y": 32, "x": 32}}
    said = await logged(predict=job_pb2.PredictSpec(model=model.name, volume=coarse.name, region=region))
    assert "times as" not in said
    said = await logged(predict=job_pb2.PredictSpec(model=model.name, volume=coarsest.name, region=region))
    assert (
        f"volumes/coarsest are 100 nm, those of {model.name} 40 nm: objects in it look 2.5 times as small"
        in said
    )
    both = job_pb2.ScoreSpec(model=model.name, volumes=[coarse.name, coarsest.name], measures=["entropy"])
    said = await logged(score=both)
    assert "volumes/coarsest are 100 nm" in said
    assert "volumes/coarse are" not in said
