"""What MONAI Label's real client does with a project, and what becomes of it on the platform."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus

import nrrd
import numpy as np
import pytest
import requests

from biosegment.volume import BACKGROUND, FIRST_CLASS, Region
from tests.system.monailabel.lab import SHAPE, Lab
from tests.system.monailabel.person import (
    MARKS,
    MONAILabelClient,
    MONAILabelClientException,
    Person,
    refused,
    region_of,
)
from tests.system.platform import until

pytestmark = MARKS
VOLUME = "projects/em/volumes/tissue"


def test_a_final_label_is_dense_over_its_part_of_the_volume_and_comes_back(
    lab: Lab, person: Callable[[str], Person]
) -> None:
    ada = person("ada")
    sample = ada.client.next_sample("random", {})
    region = region_of(sample["id"])
    voxels, header, _ = ada.image(sample["id"])
    assert (voxels.transpose(2, 1, 0) == lab.tissue.raw[region.slices]).all()
    assert np.allclose(np.diag(header["space directions"]), [8e-6, 8e-6, 12e-6], rtol=1e-9)
    assert np.allclose(header["space origin"], np.array([8e-6, 8e-6, 12e-6]) * region.start[::-1])
    truth = lab.tissue.truth[region.slices]
    answer = ada.label(sample["id"], truth.transpose(2, 1, 0).astype(np.uint8), ["mitochondria"])
    with lab.platform.connect() as client:
        (stored,) = client.annotations.list(VOLUME, region=region)
        assert answer["annotations"] == [stored.name]
        assert (stored.region, stored.kind, stored.author) == (region, "dense", "ada")
        assert stored.class_scope == (2,)
        assert stored.sample  # the lease of the whole part was answered
        assert client.samples.get(stored.sample).state == "annotated"
        labels = client.annotations.labels(stored.name)
    assert (labels == np.where(truth, FIRST_CLASS, BACKGROUND)).all()
    came = Path(ada.client.download_label(sample["id"], "final"))
    back, back_header = nrrd.read(str(came))
    assert (back.transpose(2, 1, 0) == truth).all()
    assert np.allclose(back_header["space origin"], header["space origin"])
    assert ada.client.info()["datastore"]["label_tags"] == {"final": 1}
    # A reviewer's verdict is one of the platform's.
    rita = person("rita")
    meta = {"segmentationMeta": {"status": "flagged", "level": "hard", "comment": "wrong in the corner"}}
    url = f"{rita.url}/datastore/updatelabelinfo?label={quote_plus(sample['id'])}&tag=final"
    for headers, status in ((ada.headers, 403), (rita.headers, 200)):
        done = requests.put(url, data={"params": json.dumps(meta)}, headers=headers, timeout=60)
        assert done.status_code == status, done.text
    with lab.platform.connect() as client:
        judged = client.annotations.get(stored.name)
        assert (judged.state, judged.review_comment) == ("rejected", "wrong in the corner")
    # Deleting takes the annotation back; the record stays.
    url = f"{ada.url}/datastore/label?id={quote_plus(sample['id'])}&tag=final"
    assert requests.delete(url, headers=ada.headers, timeout=60).status_code == 200
    with lab.platform.connect() as client:
        assert client.annotations.get(stored.name).state == "reverted"
    assert ada.client.info()["datastore"]["completed"] == 0


def test_nobody_is_given_what_somebody_else_has(lab: Lab, person: Callable[[str], Person]) -> None:
    people = [person("ada"), person("bob")]
    two_programs = [MONAILabelClient(lab.url, str(people[0].folder), name) for name in ("one", "two")]
    for client in two_programs:
        client.update_auth(people[0].token)
    askers = [people[0].client, people[1].client, *two_programs]
    with concurrent.futures.ThreadPoolExecutor(len(askers)) as pool:
        given = list(pool.map(lambda client: client.next_sample("random", {})["id"], askers))
    parts = [region_of(image_id) for image_id in given]
    assert len(set(parts)) == len(askers), given
    # Who asks again gets another one, and no other asker's.
    again = region_of(people[1].client.next_sample("random", {})["id"])
    assert again not in parts
    with lab.platform.connect() as client:
        held = {sample.region for sample in client.samples.list("projects/em", state="leased")}
    assert {*parts, again} <= held


def test_clicks_and_strokes_make_what_the_models_of_the_platform_make(
    lab: Lab, person: Callable[[str], Person]
) -> None:
    ada = person("ada")
    truth = lab.tissue.truth
    listed = [each for each in ada.client.datastore()["objects"] if each.startswith("tissue")]
    image_id = max(listed, key=lambda each: int(truth[region_of(each).slices].sum()))
    region = region_of(image_id)
    raw = lab.tissue.raw[region.slices]
    params = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    path, said = ada.client.infer("segmentation", image_id, dict(params))
    predicted = nrrd.read(path)[0].transpose(2, 1, 0)
    with lab.platform.connect() as client:
        direct = client.segmentation.by_model(VOLUME, region)
    assert (predicted == (direct == FIRST_CLASS)).all()
    assert said["label_names"] == ({"mitochondria": 1} if predicted.any() else {})
    # The tiny model calls bright what is brighter than its slice.
    z = region.shape.z // 2
    y, x = np.unravel_index(int(np.argmax(raw[z])), raw[z].shape)
    click = {"label": "mitochondria", "foreground": [[int(x), int(y), z]], "background": [], "slice": z}
    path, said = ada.client.infer("clicks_2d", image_id, {**params, **click})
    clicked = nrrd.read(path)[0].transpose(2, 1, 0)
    assert clicked[z, y, x] == 1
    assert not np.delete(clicked, z, 0).any()  # in its slice alone
    with lab.platform.connect() as client:
        position = (region.start.z + z, region.start.y + int(y), region.start.x + int(x))
        answer = client.segmentation.segment(VOLUME, region, class_value=2, clicks=[(position, True)])
    assert (clicked == answer.mask).all()
    strokes = np.zeros(region.shape, np.uint8)
    inside = truth[region.slices]
    z = int(np.argmax(inside.sum((1, 2))))
    strokes[z][inside[z]], strokes[z][~inside[z]] = 4, 3
    strokes[z, ::2] = 0
    file = ada.folder / "strokes.nrrd"
    _, header, _ = ada.image(image_id)
    kept = ("space", "space directions", "space origin", "kinds")
    nrrd.write(str(file), strokes.transpose(2, 1, 0), {key: header[key] for key in kept})
    named = [{"name": name, "id": number} for number, name in enumerate(
        ("mitochondria", "background", "background_scribbles", "foreground_scribbles"), 1
    )]  # fmt: skip
    drawn = {
        **params,
        "label_info": named,
        "selected_label_name": "mitochondria",
        "roi": [8, 55, 0, 63, 0, 31],
    }
    path, _ = ada.client.infer("scribbles", image_id, drawn, str(file))
    mask = nrrd.read(path)[0].transpose(2, 1, 0)
    agreement = (mask[z, :, 8:56] == inside[z, :, 8:56]).mean()
    assert agreement > 0.9
    assert not mask[:, :, :8].any()
    assert not mask[:, :, 56:].any()


def test_an_image_of_ones_own_in_a_session_survives_a_restart(
    lab: Lab, person: Callable[[str], Person]
) -> None:
    ada = person("ada")
    image_id = next(iter(ada.client.datastore()["objects"]))
    _, _, path = ada.image(image_id)
    session = ada.client.create_session(str(path))["session_id"]
    assert refused(lambda: person("bob").client.get_session(session)) == 404
    by_name, _ = ada.client.infer("segmentation", image_id, {"result_extension": ".nrrd"})
    ada.client.save_label(image_id, by_name, tag="version_1", params={"note": "kept"})
    lab.platform.kill("gateway")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if requests.get(lab.url, timeout=5).status_code == 200:
                break
        except requests.RequestException:
            time.sleep(0.2)
    assert ada.client.get_session(session)["image"] == "image.nrrd"
    path_, _ = ada.client.infer("segmentation", "", {"result_extension": ".nii.gz"}, session_id=session)
    assert path_.endswith(".nii.gz")
    content = ada.get(f"/session/{session}?image=true").content
    assert content == path.read_bytes()
    labels = ada.client.datastore()["objects"][image_id]["labels"]
    assert labels["version_1"]["info"]["note"] == "kept"
    back = nrrd.read(ada.client.download_label(image_id, "version_1"))[0]
    assert (back == nrrd.read(by_name)[0]).all()
    ada.client.remove_session(session)
    assert refused(lambda: ada.client.get_session(session)) == 404


def test_an_upload_becomes_a_volume_under_its_name(
    lab: Lab, person: Callable[[str], Person], tmp_path: Path
) -> None:
    admin = person("admin")
    image = np.random.default_rng(3).integers(0, 60_000, (40, 30, 20)).astype(np.uint16)
    directions = np.array([[0, 4e-6, 0], [-5e-6, 0, 0], [0, 0, 6e-6]])
    header = {"space": "left-posterior-superior", "space directions": directions, "space origin": [1, 2, 3]}
    file = tmp_path / "scan.nrrd"
    nrrd.write(str(file), image, header)
    assert admin.client.upload_image(str(file), "My scan_1") == {"image": "My scan_1"}
    assert admin.client.upload_image(str(file), "My scan_1") == {"image": "My scan_1"}  # the same again
    other = tmp_path / "other.nrrd"
    nrrd.write(str(other), image + 1, header)
    assert refused(lambda: admin.client.upload_image(str(other), "My scan_1")) == 409
    name = next(each for each in admin.client.datastore()["objects"] if each.startswith("My scan_1"))
    back, back_header, _ = admin.image(name)
    assert back.dtype == np.uint16
    assert (back == image).all()
    assert np.allclose(back_header["space directions"], directions)
    assert np.allclose(back_header["space origin"], [1, 2, 3])
    with lab.platform.connect() as client:
        volume = next(each for each in client.volumes.list("projects/em") if each.display_name == "My scan_1")
        assert tuple(volume.shape) == (20, 30, 40)
        assert tuple(volume.voxel_size) == pytest.approx((6.0, 5.0, 4.0))
    labels = np.zeros((40, 30, 20), np.uint8)
    labels[3, 4, 5] = 1
    admin.label(name, labels, ["mitochondria"])
    with lab.platform.connect() as client:
        (stored,) = client.annotations.list(volume.name)
        assert np.argwhere(client.annotations.labels(stored.name) == FIRST_CLASS).tolist() == [[5, 4, 3]]
    delete = f"{admin.url}/datastore/image?id="
    answers = [
        requests.delete(delete + quote_plus(each), headers=admin.headers, timeout=60).status_code
        for each in ("My scan_1", "My scan_1", "tissue_z0-32_y0-64_x0-64")
    ]
    assert answers == [200, 404, 409]  # the lab's own volume is nobody's to delete from here
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(MONAILabelClientException) as caught:
        admin.client.upload_image(str(broken), "broken")
    assert '"INVALID_ARGUMENT"' in caught.value.msg


def test_info_answers_while_a_model_labels(lab: Lab, person: Callable[[str], Person]) -> None:
    ada = person("ada")
    image_id = next(iter(ada.client.datastore()["objects"]))

    def infer(number: int) -> float:
        ada_too = MONAILabelClient(lab.url, str(ada.folder), "ada")
        ada_too.update_auth(ada.token)
        for _ in range(8):
            ada_too.infer("segmentation", image_id, {"result_extension": ".nrrd"})
        return time.monotonic()

    answered = []
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(infer, number) for number in range(3)]
        while not all(each.done() for each in running):
            assert ada.get("/info/").status_code == 200
            answered.append(time.monotonic())
        ended = max(each.result() for each in running)
    assert sum(moment < ended for moment in answered) >= 3


def test_parts_have_the_size_that_the_project_chose(lab: Lab, person: Callable[[str], Person]) -> None:
    admin = person("admin")
    before = admin.get("/settings").json()
    assert before == {"part": "32,64,64", "unit": "mm", "format": "nrrd"}
    try:
        for wrong in ("1,2", "8,64,64", "4096,4096,4096", "x"):
            answer = requests.put(
                f"{admin.url}/settings", json={"part": wrong}, headers=admin.headers, timeout=60
            )
            assert answer.status_code == 400
        done = requests.put(
            f"{admin.url}/settings", json={"part": "64,128,64"}, headers=admin.headers, timeout=60
        )
        assert done.status_code == 200, done.text
        ids = [each.partition("~")[0] for each in admin.client.datastore()["objects"]]
        assert [each for each in ids if each.startswith("tissue")] == [
            "tissue_z0-64_y0-128_x0-64",
            "tissue_z0-64_y0-128_x64-128",
        ]
        # Names of before still fetch what they say.
        assert admin.get("/datastore/image?image=tissue_z0-32_y0-64_x0-64").status_code == 200
        assert admin.get(f"/datastore/image?image=tissue_z0-{SHAPE[0] + 1}_y0-64_x0-64").status_code == 404
    finally:
        requests.put(
            f"{admin.url}/settings", json={"part": before["part"]}, headers=admin.headers, timeout=60
        )


def test_who_goes_on_without_labelling_keeps_four_images_from_others(
    lab: Lab, person: Callable[[str], Person]
) -> None:
    admin = person("admin")
    place, before = f"{admin.url}/settings", admin.get("/settings").json()["part"]
    try:
        requests.put(place, json={"part": "16,32,32"}, headers=admin.headers, timeout=60)
        given = [region_of(admin.client.next_sample("random", {})["id"]) for _ in range(7)]
        # What was given back may come again, what is held does not.
        assert all(len(set(given[n : n + 5])) == 5 for n in range(3))
        with lab.platform.connect() as client:

            def held() -> set[Region]:
                samples = client.samples.list("projects/em", state="leased", holder="admin")
                return {sample.region for sample in samples}

            # The answer does not wait for what is given back.
            until(lambda: held() == set(given[-4:]), 60, "only the last four stay held")
        assert region_of(person("bob").client.next_sample("random", {})["id"]) not in given[-4:]
    finally:
        requests.put(place, json={"part": before}, headers=admin.headers, timeout=60)
