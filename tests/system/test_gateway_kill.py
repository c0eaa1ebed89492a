"""The gateway dies again and again while people work through it: nobody of them notices, and nothing is half done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

import nrrd
import numpy as np
import pytest
import requests

from benchmarks.gateway_crowd import Crowd
from biosegment.client import Client
from biosegment.errors import BiosegmentError
from tests.system.monailabel.person import MARKS, MONAILabelClient, region_of
from tests.system.platform import Platform, running, until
from tests.system.tissue import VOXEL_SIZE, Tissue, write_tissue

pytestmark = [*MARKS]

SHAPE = (24, 256, 256)
PART = "16,32,32"
"""Of which there are more than anybody labels here."""
SETTINGS = {"BIOSEGMENT_GATEWAY__MONAILABEL_PART": PART}


@dataclass(slots=True)
class Scene:
    """A platform with a project for the SDK, and one for 3D Slicer."""

    platform: Platform
    client: Client
    tissue: Tissue
    folder: Path

    @property
    def connection(self) -> tuple[str, str, str]:
        found = self.client.connection
        return found.address, found.token, f"{found.http_url}/monailabel/slicer"

    def kill_gateway(self) -> None:
        """Kill it as soon as it serves, and wait until it does so again."""
        process = self.platform.process("gateway")
        process.kill()
        process.wait(30)
        until(self._serves, 90, "the gateway serves again")

    def _serves(self) -> bool:
        try:
            return bool(self.client.platform.status())
        except BiosegmentError:
            return False


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    tissue = write_tissue(folder / "in", SHAPE)
    with (
        running(folder, import_root=folder / "in", environment=SETTINGS) as platform,
        platform.connect() as client,
    ):
        for name in ("crowd", "slicer"):
            project = client.projects.create(name, classes=["mitochondria"], working_resolution_nm=8)
            job = client.jobs.import_volume(
                project.name, str(tissue.path), volume_id="tissue", voxel_size=VOXEL_SIZE
            )
            client.samples.configure(
                project.name,
                volumes=[client.jobs.wait(job.name).volume],
                sample_shape=(1, 32, 32),
                manual_training=True,
                slice_distance=1,
            )
        yield Scene(platform, client, tissue, folder)


def test_clients_of_the_sdk_notice_nothing_and_every_write_is_there_once(scene: Scene) -> None:
    crowd = Crowd(
        scene.platform.connect,
        "projects/crowd",
        "projects/crowd/volumes/tissue",
        scene.tissue.raw,
        scene.folder,
    )
    crowd.start()
    for _ in range(3):
        before = dict(crowd.counts)
        scene.kill_gateway()
        # Everybody gets on with it before the next death.
        for what in ("commit", "read"):
            until(
                lambda what=what, before=before: (
                    crowd.failures != [] or crowd.counts[what] > before.get(what, 0) + 1
                ),
                90,
                f"{what} goes on",
            )
    crowd.stop()
    assert not crowd.mistakes(scene.client)
    assert crowd.imported
    assert len(crowd.commits) > 3


@dataclass
class Labeller:
    """Somebody at 3D Slicer, whose client repeats nothing: they press the button again until it works.

    Attributes:
        url: Of the project.
        token: Theirs.
        labels: What was answered, by image.
        failures: What no pressing mended.
    """

    url: str
    token: str
    labels: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._one()
        except Exception as error:
            self.failures.append(repr(error))

    def stop(self) -> None:
        self._stopping.set()

    def _one(self) -> None:
        found = self._again("POST", "/activelearning/random", json={"client_id": "slicer"}).json()
        if not found:
            self._stopping.wait(0.2)
            return
        region = region_of(found["id"])
        head = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {' '.join(map(str, region.shape[::-1]))}\n"
        labels = np.ones(region.shape, np.uint8)
        files = {"label": ("label.nrrd", f"{head}encoding: raw\n\n".encode() + labels.tobytes())}
        data = {"params": json.dumps({"label_info": [{"name": "mitochondria", "idx": 1}]})}
        address = f"/datastore/label?image={quote_plus(found['id'])}"
        answer = self._again("PUT", address, data=data, files=files).json()
        self.labels[found["id"].partition("~")[0]] = answer["annotations"]

    def _again(self, method: str, address: str, **options: object) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        deadline = time.monotonic() + 90
        while True:
            try:
                answer = requests.request(method, self.url + address, headers=headers, timeout=60, **options)  # type: ignore[arg-type]
                if answer.status_code == 200:
                    return answer
                assert answer.status_code == 503, answer.text
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_labels_of_monai_label_clients_are_recorded_once_and_whole(scene: Scene) -> None:
    _, token, url = scene.connection
    labeller = Labeller(url, token)
    thread = threading.Thread(target=labeller.work)
    thread.start()
    for _ in range(3):
        before = len(labeller.labels)
        scene.kill_gateway()
        until(
            lambda before=before: bool(labeller.failures) or len(labeller.labels) > before, 90, "work goes on"
        )
    labeller.stop()
    thread.join(120)
    assert not labeller.failures
    annotations = {one.name: one for one in scene.client.annotations.list("projects/slicer")}
    told = [name for names in labeller.labels.values() for name in names]
    assert sorted(annotations) == sorted(told)
    for image_id, names in labeller.labels.items():
        assert sum(annotations[name].region.size for name in names) == region_of(image_id).size
    info = requests.get(f"{url}/info/", headers={"Authorization": f"Bearer {token}"}, timeout=60).json()
    assert info["datastore"]["completed"] == len(labeller.labels)


def _labelled(client: MONAILabelClient, image: str, labels: np.ndarray, folder: Path, tag: str) -> None:
    path = folder / "label.nrrd"
    nrrd.write(str(path), labels)
    client.save_label(image, str(path), tag=tag, params={"label_info": [{"name": "mitochondria", "idx": 1}]})


def test_sessions_tags_and_files_survive(scene: Scene, tmp_path: Path) -> None:
    _, token, url = scene.connection
    # It goes on with the content type of a form once it has sent one: another one for the session.
    client, other = (MONAILabelClient(url, str(tmp_path), name) for name in ("survivor", "another"))
    for each in (client, other):
        each.update_auth({"access_token": token, "token_type": "Bearer"})
    image = next(iter(client.datastore()["objects"])).partition("~")[0]
    region = region_of(image)
    labels = np.ones(region.shape[::-1], np.uint8)
    _labelled(client, image, labels, tmp_path, "version_1")
    source = tmp_path / "own.nrrd"
    nrrd.write(str(source), np.arange(1000, dtype=np.uint8).reshape(10, 10, 10))
    session = other.create_session(str(source))["session_id"]
    headers = {"Authorization": f"Bearer {token}"}

    def get(path: str) -> requests.Response:
        return requests.get(url + path, headers=headers, timeout=60)

    paths = (
        f"/datastore/image?image={image}",
        f"/datastore/label?label={image}&tag=version_1",
        f"/datastore/label/info?label={image}&tag=version_1",
        f"/session/{session}?image=true",
    )
    before = [get(path) for path in paths]
    assert [answer.status_code for answer in before] == [200] * len(paths)
    tags = client.info()["datastore"]["label_tags"]
    scene.kill_gateway()
    after = [get(path) for path in paths]
    assert [answer.content for answer in after] == [answer.content for answer in before]
    assert client.info()["datastore"]["label_tags"] == tags
    assert other.get_session(session)["name"] == session
