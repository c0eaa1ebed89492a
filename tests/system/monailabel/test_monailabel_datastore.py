"""A project as the data store of a MONAI Label app, by the interface of the real package."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nrrd
import numpy as np
import pytest
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from biosegment import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated, Unavailable
from biosegment.monailabel import BiosegmentDatastore
from biosegment.volume import BACKGROUND, FIRST_CLASS
from tests.system.monailabel.lab import Lab

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

VOLUME = "projects/em/volumes/tissue"
IMAGE = "tissue_z32-64_y64-128_x0-64"
PLACE = (slice(32, 64), slice(64, 128), slice(0, 64))
FINAL, ORIGINAL = DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value


@pytest.fixture
def store(lab: Lab, tmp_path: Path) -> Iterator[BiosegmentDatastore]:
    found = BiosegmentDatastore(lab.url, lab.token, tmp_path / "files")
    yield found
    found._http.close()


def test_it_is_a_datastore_with_every_method_as_the_interface_has_it() -> None:
    assert issubclass(BiosegmentDatastore, Datastore)
    assert not BiosegmentDatastore.__abstractmethods__
    for name in Datastore.__abstractmethods__:
        wanted = inspect.signature(getattr(Datastore, name)).parameters
        assert list(inspect.signature(getattr(BiosegmentDatastore, name)).parameters) == list(wanted), name


def test_an_app_reads_and_writes_volumes_and_annotations(
    lab: Lab, store: BiosegmentDatastore, tmp_path: Path
) -> None:
    assert len(store.list_images()) == 8
    assert IMAGE in store.list_images()
    assert store.get_unlabeled_images() == store.list_images()
    image, header = nrrd.read(store.get_image_uri(IMAGE))
    assert (image.transpose(2, 1, 0) == lab.tissue.raw[PLACE]).all()
    assert nrrd.read_header(iter(store.get_image(IMAGE).read().split(b"\n\n")[0].decode().split("\n")))
    truth = lab.tissue.truth[PLACE]
    file = tmp_path / "label.nrrd"
    kept = ("space", "space directions", "space origin", "kinds")
    nrrd.write(str(file), truth.transpose(2, 1, 0).astype(np.uint8), {key: header[key] for key in kept})
    info = {"label_info": [{"name": "mitochondria", "idx": 1}], "client_id": "app"}
    assert store.save_label(IMAGE, str(file), FINAL, dict(info)) == IMAGE
    assert store.save_label(IMAGE, str(file), ORIGINAL, {"model": "unet"}) == IMAGE
    assert store.get_labels_by_image_id(IMAGE) == {FINAL: IMAGE, ORIGINAL: IMAGE}
    assert store.get_label_by_image_id(IMAGE, FINAL) == IMAGE
    assert store.get_label_by_image_id(IMAGE, "version_1") == ""
    assert store.get_labeled_images() == [IMAGE]
    assert store.get_labeled_images(labels=["mitochondria"]) == [IMAGE]
    assert store.get_labeled_images(labels=["nucleus"]) == []
    assert IMAGE not in store.get_unlabeled_images()
    assert store.status() == {"total": 8, "completed": 1, "label_tags": {FINAL: 1, ORIGINAL: 1}}
    assert store.get_label_info(IMAGE, FINAL)["client_id"] == "app"
    (case,) = store.datalist()
    assert case["image"] == store.get_image_uri(IMAGE)
    assert (nrrd.read(case["label"])[0].transpose(2, 1, 0) == truth).all()
    assert store.get_label(IMAGE, FINAL).read() == Path(case["label"]).read_bytes()
    with lab.platform.connect() as client:
        (stored,) = client.annotations.list(VOLUME)
        labels = client.annotations.labels(stored.name)
    assert (labels == np.where(truth, FIRST_CLASS, BACKGROUND)).all()
    archive = store.get_dataset_archive(5)
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    assert names == [f"image/{IMAGE}.nrrd", f"label/{IMAGE}.nrrd", "metadata.json"]
    store.update_label_info(IMAGE, FINAL, {"note": "good"})
    store.update_image_info(IMAGE, {"microscope": "SBF"})
    assert store.get_label_info(IMAGE, FINAL)["note"] == "good"
    assert store.get_image_info(IMAGE)["microscope"] == "SBF"
    assert store.json()["objects"][IMAGE]["image"]["info"]["microscope"] == "SBF"
    store.remove_label(IMAGE, FINAL)
    assert store.get_label_uri(IMAGE, FINAL) == ""
    assert store.get_label(IMAGE, FINAL) is None
    assert store.get_label_info(IMAGE, FINAL) == {}
    with lab.platform.connect() as client:
        assert client.annotations.get(stored.name).state == "reverted"
    store.remove_label(IMAGE, ORIGINAL)


def test_images_are_added_and_removed_and_the_project_is_described(
    lab: Lab, store: BiosegmentDatastore, tmp_path: Path
) -> None:
    file = tmp_path / "mine.nrrd"
    voxels = np.random.default_rng(5).integers(0, 255, (30, 20, 10)).astype(np.uint8)
    header = {
        "space": "left-posterior-superior",
        "space directions": np.eye(3) * 8e-6,
        "space origin": [0, 0, 0],
    }
    nrrd.write(str(file), voxels, header)
    assert store.add_image("", str(file), {"source": "app"}) == "mine"
    assert "mine" in store.list_images()
    assert store.get_image_info("mine")["source"] == "app"
    uri = store.get_image_uri("mine")
    assert (nrrd.read(uri)[0] == voxels).all()
    written = Path(uri).stat().st_mtime_ns
    assert store.get_image_uri("mine") == uri
    assert Path(uri).stat().st_mtime_ns == written  # it is the same: nothing was fetched
    Path(uri).write_bytes(b"somebody spoilt it")
    assert (nrrd.read(store.get_image_uri("mine"))[0] == voxels).all()
    store.remove_image("mine")
    assert "mine" not in store.list_images()
    with pytest.raises(FailedPrecondition) as caught:
        store.remove_image(IMAGE)
    assert caught.value.reason == "NOT_UPLOADED"
    store.set_name("Mitochondria of a mouse")
    store.set_description("SBF-SEM")
    assert (store.name(), store.description()) == ("Mitochondria of a mouse", "SBF-SEM")
    with lab.platform.connect() as client:
        assert client.projects.get("projects/em").display_name == "Mitochondria of a mouse"


def test_errors_are_those_of_the_platform(lab: Lab, store: BiosegmentDatastore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.get_image_uri("absent")
    with pytest.raises(InvalidArgument):
        store.get_image_uri("../absent")
    file = tmp_path / "l.nrrd"
    nrrd.write(str(file), np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(InvalidArgument) as caught:
        store.save_label(IMAGE, str(file), FINAL, {})
    assert caught.value.reason == "GEOMETRY_MISMATCH"
    with pytest.raises(Unauthenticated):
        BiosegmentDatastore(lab.url, "bsg_wrong", tmp_path).status()
    with pytest.raises(Unavailable):
        BiosegmentDatastore("http://127.0.0.1:9/monailabel/em", lab.token, tmp_path).status()
