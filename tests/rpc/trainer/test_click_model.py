"""A shipped model that takes clicks is listed and exported like the others, and does nothing else that they do."""

from __future__ import annotations

import asyncio
import io
import zipfile

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import FailedPrecondition
from tests.rpc.trainer.bundle_file import exported
from tests.rpc.trainer.conftest import annotate
from tests.rpc.trainer.tiny_clicks import write_click_bundle

pytestmark = pytest.mark.timeout(400)


async def test_a_click_model_neither_predicts_nor_is_a_parent(datastore, em, trainer, tmp_path):
    write_click_bundle(tmp_path / "shipped")
    await trainer.stop()
    await trainer.start(BIOSEGMENT_TRAINER__SHIPPED_BUNDLES_DIR=str(tmp_path / "shipped"))
    ada = trainer.as_user("ada")
    async with asyncio.timeout(60):
        while not (found := (await ada.models.ListModels(trainer_pb2.ListModelsRequest())).models):
            await asyncio.sleep(0.1)
    (model,) = found
    assert (model.shared, model.network, list(model.class_names)) == (True, "unet2d", ["mitochondria"])
    await annotate(datastore, em)
    for spec in (
        {"predict": job_pb2.PredictSpec(model=model.name, volume=em.name)},
        {"score": job_pb2.ScoreSpec(model=model.name, volumes=[em.name], measures=["entropy"])},
        {"train": job_pb2.TrainSpec(parent=model.name, max_steps=2)},
    ):
        with pytest.raises(FailedPrecondition, match="choose a model that segments") as refused:
            await ada.create_job(**spec)
        assert refused.value.reason == "CLICK_MODEL"
    with pytest.raises(FailedPrecondition) as refused:
        await exported(ada, model.name, trainer_pb2.ExportModelRequest.FORMAT_ONNX)
    assert refused.value.reason == "CANNOT_EXPORT"
    assert zipfile.is_zipfile(io.BytesIO(await exported(ada, model.name)))
