"""Models of others come in, learn, predict and go out again; shipped ones are everybody's."""

from __future__ import annotations

import asyncio
import io
import zipfile

import onnxruntime
import pytest
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.auth import Kind, Principal
from biosegment.errors import InvalidArgument, PermissionDenied
from tests.rpc.trainer.bundle_file import exported, imported, zipped
from tests.rpc.trainer.conftest import annotate
from tests.unit.trainer.learning.conftest import untrained
from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, write_zoo_bundle

pytestmark = pytest.mark.timeout(400)

SMALL = {"batch_size": 2, "patch_size": 32}
GENERAL = "mitochondria_vem_general"


async def test_expressions_are_evaluated_for_administrators_who_trust_them_alone(
    datastore, em, trainer, tmp_path
):
    owned = tmp_path / "owned"
    module, definition = built(TINY_NETWORKS["UNet 2D"], 1, 2)
    definition["out_channels"] = f"$[open('{owned}', 'w').close(), 2][1]"
    data = zipped(write_zoo_bundle(tmp_path / "zoo", definition, module.state_dict()))
    ada = trainer.as_user("ada")
    root = trainer.stubs("gateway", Principal(Kind.USER, "root", is_admin=True))
    with pytest.raises(InvalidArgument) as refused:
        await imported(ada, data)
    assert refused.value.reason == "BUNDLE_NOT_TRUSTED"
    with pytest.raises(PermissionDenied) as denied:
        await imported(ada, data, trusted=True)
    assert denied.value.reason == "ADMIN_ONLY"
    with pytest.raises(InvalidArgument):
        await imported(root, data)
    assert not owned.exists()
    model = await imported(root, data, trusted=True)
    assert list(model.class_names) == ["spleen"]
    assert owned.exists()

    onnx = await exported(ada, model.name, trainer_pb2.ExportModelRequest.FORMAT_ONNX)
    assert onnxruntime.InferenceSession(onnx).get_inputs()[0].name == "image"
    with pytest.raises(InvalidArgument):
        await exported(ada, model.name, 17)


@pytest.mark.system
async def test_a_package_for_bioimage_io_goes_out_and_comes_in(datastore, em, trainer, tmp_path):
    ada = trainer.as_user("ada")
    module, definition = built(TINY_NETWORKS["UNet 2D"], 1, 2)
    channels = {"0": "background", "1": "mitochondria"}
    write_zoo_bundle(tmp_path / "zoo", definition, module.state_dict(), channels=channels)
    model = await imported(ada, zipped(tmp_path / "zoo"))
    assert list(model.class_values) == [2]
    package = await exported(ada, model.name, trainer_pb2.ExportModelRequest.FORMAT_BIOIMAGE_IO)
    again = await imported(ada, package, display_name="again")
    assert (list(again.class_values), again.data_license) == ([2], model.data_license)
    assert again.working_resolution_nm == model.working_resolution_nm


async def test_a_shipped_model_is_everybodys_parent_and_nobodys_to_change(datastore, em, trainer, tmp_path):
    shipped = tmp_path / "shipped"
    model = untrained(TINY_NETWORKS["UNet 2D"], (LabelClass(3, "Mitochondria"), LabelClass(2, "elsewhere")))
    (shipped / "empty").mkdir(parents=True)
    write_bundle(
        ModelBundle("Everything", "1.0.0", model, 10.0, data_license="research, non-commercial"),
        shipped / GENERAL,
    )
    await trainer.stop()
    await trainer.start(BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR=str(shipped))
    ada = trainer.as_user("ada")
    async with asyncio.timeout(90):
        while not (found := (await ada.models.ListModels(trainer_pb2.ListModelsRequest())).models):
            await asyncio.sleep(0.1)
    (parent,) = found
    assert (parent.project, parent.shared, parent.data_license) == ("", True, "research, non-commercial")
    assert (await trainer.as_user("eve").model(parent.name)).network == "unet2d"
    for user in (ada, trainer.stubs("gateway", Principal(Kind.USER, "root", is_admin=True))):
        with pytest.raises(PermissionDenied) as refused:
            await user.models.DeleteModel(trainer_pb2.DeleteModelRequest(name=parent.name))
        assert refused.value.reason == "SHARED_MODEL"
        renamed = trainer_pb2.Model(name=parent.name, display_name="mine")
        with pytest.raises(PermissionDenied):
            await user.models.UpdateModel(trainer_pb2.UpdateModelRequest(model=renamed))

    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=2, options=SMALL)
    job = await ada.succeeded(await ada.create_job(train=spec))
    child = await ada.model(job.result.model)
    assert (child.parent, child.data_license) == (parent.name, "research, non-commercial")
    for text in (await ada.log(job.name), " ".join(child.remarks)):
        assert "shipped with the platform" in text
        assert "research, non-commercial" in text
    scratch = job_pb2.TrainSpec(max_steps=2, options=SMALL, from_scratch=True)
    free = await ada.model((await ada.succeeded(await ada.create_job(train=scratch))).result.model)
    assert (free.parent, free.data_license) == ("", "")
    lineage = await ada.models.GetModelLineage(trainer_pb2.GetModelLineageRequest(name=child.name))
    assert [item.name for item in lineage.models] == [child.name, parent.name]
    # It predicts in the project's own words, and goes out like any other.
    predict = job_pb2.PredictSpec(model=parent.name, volume=em.name, probabilities=True)
    layers = (await ada.succeeded(await ada.create_job(predict=predict))).result.layers
    assert [name.rpartition("-")[2] for name in layers] == ["labels", "p2"]
    assert zipfile.is_zipfile(io.BytesIO(await exported(ada, parent.name)))
