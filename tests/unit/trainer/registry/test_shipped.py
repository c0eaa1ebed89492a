from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil

import biosegment_trainer
import pytest
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.clicks.model import ROLE
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.registry.foreign import read_foreign
from biosegment_trainer.registry.model import CLICKS, ModelClass
from biosegment_trainer.registry.shipped import AUTO, ShippedModels, shipped_folder
from biosegment_trainer.sql import SqlModels

from biosegment.database import Database, migrate
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_objects
from tests.unit.trainer.learning.conftest import untrained
from tests.unit.trainer.learning.family import TINY_NETWORKS

MITOCHONDRIA = LabelClass(2, "mitochondria")


@pytest.fixture
async def place(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/trainer.db"
    await asyncio.to_thread(migrate, url, "biosegment_trainer")
    database = Database.open(url)
    objects = open_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/objects"))
    yield SqlModels(database), objects
    await objects.close()
    await database.close()


def bundle(folder, name="UNet 2D", seed=0, terms="research, non-commercial"):
    model = untrained(TINY_NETWORKS[name], (MITOCHONDRIA, LabelClass(0, "golgi")), seed=seed)
    write_bundle(ModelBundle("Mine", "1.2.0", model, 9.0, data_license=terms), folder)


async def test_bundles_are_registered_once_and_anew_when_their_weights_change(place, tmp_path):
    models, objects = place
    bundle(tmp_path / "b/one")
    bundle(tmp_path / "b/deep_one", "UNet 2.5D")
    (tmp_path / "b/half/configs").mkdir(parents=True)
    found = await ShippedModels(models, objects, tmp_path / "b", "one").registered()
    assert sorted(found) == ["deep_one", "one"]
    one = found["one"]
    assert (one.is_shared, one.display_name, one.new.network) == (True, "Mine 1.2.0", "unet2d")
    assert found["deep_one"].new.network == "unet2.5d"
    assert one.new.classes == (ModelClass(2, "mitochondria"), ModelClass(0, "golgi"))
    assert one.new.data_license == "research, non-commercial"
    again = ShippedModels(models, objects, tmp_path / "b", "one")
    assert await again.default_parent() == one.model_id
    assert len(await models.list("", None, 10)) == 2
    shutil.rmtree(tmp_path / "b/one")
    bundle(tmp_path / "b/one", seed=1)
    newer = await ShippedModels(models, objects, tmp_path / "b", "one").registered()
    assert newer["one"].model_id != one.model_id
    assert await models.get(one.model_id)
    assert await objects.get(f"{one.bundle_key}/models/model.pt")


async def test_several_trainers_that_start_at_once_register_a_bundle_once(place, tmp_path):
    models, objects = place
    bundle(tmp_path / "b/one")
    shipped = [ShippedModels(models, objects, tmp_path / "b", "one") for _ in range(4)]
    found = await asyncio.gather(*(each.registered() for each in shipped))
    assert len({each["one"].model_id for each in found}) == 1
    assert len(await models.list("", None, 10)) == 1


async def test_without_bundles_there_is_no_default_parent(place, tmp_path):
    models, objects = place
    for folder, name in ((None, "one"), (tmp_path / "none", "one"), (tmp_path, "")):
        shipped = ShippedModels(models, objects, folder, name)
        await shipped.run()
        assert await shipped.default_parent() == ""


async def test_a_shared_model_speaks_of_each_projects_classes(place, tmp_path):
    models, objects = place
    bundle(tmp_path / "b/one")
    model = (await ShippedModels(models, objects, tmp_path / "b", "").registered())["one"]
    seen = model.seen_by((ModelClass(2, "golgi"), ModelClass(7, "Mitochondria")))
    assert seen.new.classes == (ModelClass(7, "mitochondria"), ModelClass(2, "golgi"))
    assert model.seen_by(()).new.classes == (ModelClass(0, "mitochondria"), ModelClass(0, "golgi"))
    model.require_use_by("any")
    own = dataclasses.replace(model, new=dataclasses.replace(model.new, project_id="a"))
    own.require_use_by("a")
    with pytest.raises(NotFound):
        own.require_use_by("b")
    with pytest.raises(FailedPrecondition):
        dataclasses.replace(own, deleted=True).require_use_by("a")


def test_the_folder_is_that_of_the_installation_unless_another_is_named(tmp_path):
    assert shipped_folder("") is None
    assert shipped_folder(str(tmp_path)) == tmp_path
    found = shipped_folder(AUTO)
    assert found is not None
    assert found.name == "bundles"
    assert found.parent in list(type(found)(biosegment_trainer.__file__).parents)
    for metadata in found.glob("*/configs/metadata.json"):
        assert "non-commercial" in json.loads(metadata.read_text())["biosegment"]["data_license"]


def as_click_model(folder):
    """Makes a bundle into one of a model that corrects masks with clicks."""
    for name, change in (
        ("metadata", lambda content: content["biosegment"].update(role=ROLE)),
        ("inference", lambda content: content["network_def"].update(in_channels=4)),
    ):
        path = folder / f"configs/{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


async def test_a_click_model_is_for_clicks_alone(place, tmp_path):
    models, objects = place
    bundle(tmp_path / "b/one")
    bundle(tmp_path / "b/clicks", seed=1)
    as_click_model(tmp_path / "b/clicks")
    await ShippedModels(models, objects, tmp_path / "b", "one").registered()
    found = {m.is_click_model: m for m in await models.list("", None, 10)}
    assert len(found) == 2
    assert found[True].new.network == "unet2d"
    found[True].require_clicks_by("any")
    with pytest.raises(FailedPrecondition, match="can neither predict nor be a parent") as error:
        found[True].require_use_by("any")
    assert error.value.reason == "CLICK_MODEL"
    found[False].require_use_by("any")
    with pytest.raises(FailedPrecondition, match="does not correct with clicks") as error:
        found[False].require_clicks_by("any")
    assert error.value.reason == "NOT_A_CLICK_MODEL"
    with pytest.raises(FailedPrecondition, match="deleted"):
        dataclasses.replace(found[True], deleted=True).require_clicks_by("any")


def test_a_click_model_is_not_imported_as_one_that_segments(tmp_path):
    bundle(tmp_path)
    as_click_model(tmp_path)
    assert CLICKS == ROLE
    with pytest.raises(InvalidArgument, match="folder of shipped bundles") as error:
        read_foreign(tmp_path, trusted=False, fallback_resolution_nm=10.0)
    assert error.value.reason == "CLICK_MODEL"


async def test_what_this_repository_ships_is_registered(place):
    models, objects = place
    found = await ShippedModels(models, objects, shipped_folder(AUTO), "").registered()
    assert "mitochondria_vem_segmentation" in found
    assert [name for name, model in found.items() if model.is_click_model] == ["mitochondria_vem_clicks"]
    for model in found.values():
        assert [item.name for item in model.new.classes] == ["mitochondria"]
        assert "non-commercial" in model.new.data_license
