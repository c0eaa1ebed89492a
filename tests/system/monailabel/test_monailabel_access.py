"""Who may do what through the MONAI Label API, and what its requests cannot do."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import nrrd
import numpy as np
import pytest
import requests

from tests.system.monailabel.lab import Lab
from tests.system.monailabel.person import (
    MARKS,
    MONAILabelClient,
    MONAILabelClientException,
    Person,
    refused,
)

pytestmark = MARKS


def test_roles_decide_what_one_may_do(
    lab: Lab, person: Callable[[str], Person], tokens: dict[str, str], tmp_path: Path
) -> None:
    vera, ada, admin = person("vera"), person("ada"), person("admin")
    image_id = next(iter(vera.client.datastore()["objects"]))
    assert vera.get("/auth/token/valid").json()["roles"] == ["monailabel-user"]
    assert "monailabel-admin" in admin.get("/auth/token/valid").json()["roles"]
    labels = np.zeros((64, 64, 32), np.uint8)
    assert refused(lambda: vera.label(image_id, labels, ["mitochondria"])) == 403
    assert refused(lambda: vera.client.next_sample("random", {})) == 403
    assert refused(lambda: vera.client.infer("segmentation", image_id, {})) == 403
    assert refused(lambda: ada.client.train_start("segmentation", {})) == 403
    _, _, path = ada.image(ada_image := next(iter(ada.client.datastore()["objects"])))
    assert refused(lambda: ada.client.upload_image(str(path), "mine")) == 403
    assert ada.get("/logs/?text=true").status_code == 403
    assert admin.get("/logs/?text=true").status_code == 200
    settings = requests.put(f"{ada.url}/settings", json={"part": "32,32,32"}, headers=ada.headers, timeout=60)
    assert settings.status_code == 403
    # Without a token, with a wrong one, for somebody who is no member.
    mallory = {"Authorization": f"Bearer {tokens['mallory']}"}
    forged = {"Authorization": f"Bearer {tokens['ada'][:-4]}0000"}
    for path_ in (
        "/info/",
        "/datastore/?output=all",
        "/train/",
        f"/datastore/label?label={ada_image}&tag=final",
    ):
        assert requests.get(lab.url + path_, timeout=60).status_code == 401
        assert requests.get(lab.url + path_, headers=forged, timeout=60).status_code == 401
        assert requests.get(lab.url + path_, headers=mallory, timeout=60).status_code == 404
    assert refused(lambda: MONAILabelClient(lab.url, str(tmp_path)).auth_token("bob", tokens["ada"])) == 401
    assert refused(lambda: MONAILabelClient(lab.url, str(tmp_path)).auth_token("ada", "secret")) == 401


def test_an_image_is_fetched_without_a_token_by_the_name_that_was_given_alone(
    lab: Lab, person: Callable[[str], Person]
) -> None:
    ada = person("ada")
    name = next(iter(ada.client.datastore()["objects"]))
    plain, _, rest = name.partition("~")
    assert rest.startswith("ada~")
    assert requests.get(f"{lab.url}/datastore/image?image={quote_plus(name)}", timeout=300).status_code == 200
    others = [each.partition("~")[0] for each in ada.client.datastore()["objects"]]
    for wrong in (plain, f"{others[1]}~{rest}", f"{plain}~bob~{rest.partition('~')[2]}"):
        answer = requests.get(f"{lab.url}/datastore/image?image={quote_plus(wrong)}", timeout=60)
        assert answer.status_code == 401, wrong
    for path in (
        f"/datastore/label?label={quote_plus(name)}&tag=final",
        f"/datastore/image/info?image={quote_plus(name)}",
    ):
        assert requests.get(lab.url + path, timeout=60).status_code == 401
    assert requests.delete(f"{lab.url}/datastore/image?id={quote_plus(name)}", timeout=60).status_code == 401
    # With a token the plain name does as well.
    assert ada.get(f"/datastore/image?image={plain}").status_code == 200


def test_the_reviewer_knows_nothing_but_an_address(lab: Lab, tokens: dict[str, str]) -> None:
    address = f"{lab.http}/monailabel/t/{tokens['rita']}/em"
    assert requests.get(address, timeout=60).status_code == 200
    assert requests.get(f"{address}/auth/", timeout=60).status_code == 404  # nothing to sign in for
    objects = requests.get(f"{address}/datastore/?output=all", timeout=60).json()["objects"]
    image_id = next(iter(objects))
    assert "~" not in image_id
    assert requests.get(f"{address}/datastore/image?image={image_id}", timeout=300).status_code == 200
    assert tokens["rita"] not in lab.platform.log("gateway")
    wrong = f"{lab.http}/monailabel/t/{tokens['rita'][:-3]}000/em/info/"
    assert requests.get(wrong, timeout=60).status_code == 401


def test_what_cannot_be_says_why_and_costs_nothing(
    lab: Lab, person: Callable[[str], Person], tmp_path: Path
) -> None:
    ada = person("ada")
    image_id = next(iter(ada.client.datastore()["objects"])).partition("~")[0]
    wrong = np.zeros((10, 10, 10), np.uint8)
    assert refused(lambda: ada.client.save_label(image_id, save(tmp_path / "w.nrrd", wrong))) == 400
    for labels, names in (
        (np.full((64, 64, 32), 9, np.uint8), ["mitochondria"]),
        (np.zeros((64, 64, 32), np.uint8), ["nucleus"]),
    ):
        with pytest.raises(MONAILabelClientException) as caught:
            ada.label(next(iter(ada.client.datastore()["objects"])), labels, names)
        assert "mitochondria" in caught.value.msg
    put = f"{ada.url}/datastore/label?image={image_id}"
    infer = f"{ada.url}/infer/segmentation?image={image_id}"
    for method, url, body, status in (
        ("PUT", put, {"data": b"no form"}, 400),
        ("PUT", put, {"files": {"label": ("x.exe", b"MZ")}}, 400),
        ("PUT", put, {"files": {"label": ("x.nrrd", b"NRRD0005\n")}}, 400),
        ("PUT", f"{put}&tag=a/b", {"files": {"label": ("x.nrrd", b"")}}, 400),
        ("POST", infer, {"files": {"params": (None, "{no json")}}, 400),
        ("POST", infer, {"files": {"params": (None, "[1]")}}, 400),
        ("POST", infer, {"files": {"params": (None, '{"result_extension": "/../x"}')}}, 400),
        ("POST", infer, {"files": {"params": (None, '{"result_dtype": "object"}')}}, 400),
        ("POST", f"{infer}&output=dicom_seg", {"files": {"params": (None, "{}")}}, 404),
        ("POST", f"{ada.url}/infer/wsi_v2/x", {}, 404),
        ("GET", f"{ada.url}/logs/gpu", {}, 404),
        ("GET", f"{ada.url}/datastore/image?image=..%2F..%2Fetc%2Fpasswd", {}, 404),
        ("GET", f"{ada.url}/session/..%2F..%2Ftoken", {}, 404),
        ("GET", f"{ada.url}/datastore/image", {}, 422),
        ("GET", f"{ada.url}/no/such/path", {}, 404),
        ("POST", f"{ada.url}/info/", {}, 405),
        ("GET", f"{lab.http}/monailabel/UPPER/info/", {}, 400),
        ("GET", f"{lab.http}/monailabel/absent/info/", {}, 404),
    ):
        answer = requests.request(method, url, headers=ada.headers, timeout=60, **body)
        assert answer.status_code == status, (method, url, answer.status_code, answer.text)
        assert answer.json()["message"]
    place = urlsplit(lab.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.putrequest("PUT", f"{place.path}/datastore/label?image={image_id}")
    for name, value in {
        **ada.headers,
        "content-length": str(1 << 40),
        "content-type": "multipart/form-data; boundary=x",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413  # before anything was sent
    connection.close()


def save(path: Path, labels: np.ndarray) -> str:
    nrrd.write(str(path), labels)
    return str(path)
