"""Everything over HTTP, on a running platform: the examples of docs/http.md, and all that the OpenAPI document
describes, asked with what the document allows and with what it does not. Whatever is wrong is said, and nothing is a
fault of the server.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import requests
import schemathesis
import tifffile
from biosegment_gateway.contract import public_services
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from biosegment.client.connection import find_connection
from tests.system.platform import running, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

EXAMPLES: Final = 12
"""Of each method in each of both modes; half as many of what is no method."""
OTHERS: Final = "others"
DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "http.md"
LAST: Final = ("Delete", "Remove", "Revoke", "Leave")
"""Methods after which less is left to ask for."""

_METHODS: Final = tuple(f"/api/{name}/" for name in public_services())
Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Site:
    """A platform with a little of everything.

    Attributes:
        url: Of its HTTP port.
        session: Sends the administrator's token.
        schema: The OpenAPI document.
        names: What fields, by their name, may refer to.
        output: Of the platform.
    """

    url: str
    session: requests.Session
    schema: Any
    names: dict[str, list[str]]
    logs: Path

    def ask(self, method: str, **body: Any) -> Any:
        answer = self.session.post(f"{self.url}/api/{method}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with running(folder, import_root=folder) as platform:
        found = find_connection(data_dir=platform.data_dir)
        session = requests.Session()
        session.headers["authorization"] = f"Bearer {found.token}"
        document = session.get(f"{found.http_url}/api/openapi.json", timeout=60).json()
        schema = schemathesis.openapi.from_dict(document)
        site = Site(found.http_url, session, schema, {}, platform.data_dir / "logs")
        site.names.update(_content(site))
        yield site


def _content(site: Site) -> dict[str, list[str]]:
    project = site.ask("DatastoreService/CreateProject", projectId="em", project=_project())["project"][
        "name"
    ]
    file = io.BytesIO()
    tifffile.imwrite(
        file, np.random.default_rng(1).integers(0, 255, (4, 160, 160), np.uint8), photometric="minisblack"
    )
    upload = {"fileName": "a.tif", "sizeBytes": str(len(file.getvalue()))}
    begun = [
        site.ask("DatastoreService/CreateUpload", parent=project, upload=upload, requestId=str(uuid.uuid4()))
        for _ in range(2)
    ]
    uploads = [each["upload"]["name"] for each in begun]
    sent = site.session.put(f"{site.url}/api/uploads/{uploads[0]}", data=file.getvalue(), timeout=60)
    assert sent.status_code == 200, sent.text
    size = {"zNm": 40, "yNm": 10, "xNm": 10}
    spec = {"importVolume": {"upload": uploads[0], "volumeId": "brain", "voxelSize": size}}
    volume = _done(site, project, spec)["result"]["volume"]
    exported = _done(site, project, {"export": {"source": volume, "format": "FORMAT_TIFF"}})
    samples = site.ask("SamplerService/ClaimSamples", parent=project, count=2)["samples"]
    site.ask("IdentityService/CreateUser", userId="ann")
    token = site.ask("IdentityService/CreateToken", parent="users/ann")["token"]["name"]
    things = [
        project,
        volume,
        exported["name"],
        exported["result"]["artifact"],
        uploads[1],
        samples[0]["name"],
    ]
    return {
        "name": [*things, f"{project}/pool", f"{project}/members/ann", "users/ann", token, "models/none"],
        "parent": [project, volume, "users/ann"],
        "project": [project, "em"],
        "volume": [volume, "brain"],
        "source": [volume],
        "sample": [samples[0]["name"]],
        "upload": [uploads[1], uploads[1].rpartition("/")[2]],
        "artifact": [exported["result"]["artifact"].rpartition("/")[2]],
        "model": ["models/none"],
        "strategy": ["entropy", "stratified"],
        "user": ["users/ann", "ann"],
    }


def _project() -> dict[str, Any]:
    return {"displayName": "Cells", "classes": [{"displayName": "mitochondria"}]}


def _done(site: Site, project: str, spec: dict[str, Any]) -> Any:
    made = site.ask("JobService/CreateJob", project=project, spec=spec, requestId=str(uuid.uuid4()))["job"]
    seen: list[Any] = [made]

    def has_ended() -> bool:
        seen.append(site.ask("JobService/GetJob", name=made["name"])["job"])
        return seen[-1]["state"] in ("STATE_SUCCEEDED", "STATE_FAILED")

    until(has_ended, 120, made["name"])
    assert seen[-1]["state"] == "STATE_SUCCEEDED", seen[-1]
    return seen[-1]


def _operations(schema: Any, group: str) -> list[Any]:
    """Of one service, or all that are no methods; events would go on for ever."""
    found = [result.ok() for result in schema.get_all_operations()]
    chosen = [
        operation
        for operation in found
        if (
            operation.path.startswith(f"/api/{group}/")
            if group != OTHERS
            else not operation.path.startswith(_METHODS) and not operation.path.startswith("/api/events/")
        )
    ]
    return sorted(chosen, key=lambda each: each.path.rpartition("/")[2].startswith(LAST))


def _named(value: Any, names: dict[str, list[str]], draw: Draw) -> Any:
    """A request in which most of the references are to something that there is."""
    if isinstance(value, dict):
        return {
            key: draw(st.sampled_from([*names[key], *names[key], item]))
            if key in names and isinstance(item, str)
            else _named(item, names, draw)
            for key, item in value.items()
        }
    return [_named(item, names, draw) for item in value] if isinstance(value, list) else value


def _faults(site: Site, operation: Any, mode: GenerationMode) -> list[str]:
    """What the server was at fault for, in requests for one operation."""
    faults: list[str] = []
    is_method = operation.path.startswith(_METHODS)

    @settings(
        max_examples=EXAMPLES if is_method else EXAMPLES // 2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: Any, data: Any) -> None:
        case.body = _named(case.body, site.names, data.draw)
        if case.path_parameters:
            case.path_parameters = _named(dict(case.path_parameters), site.names, data.draw)
        answer = case.call(base_url=site.url, session=site.session, timeout=120)
        if answer.status_code >= 500:
            faults.append(f"{answer.status_code} {operation.label} {case.body!r:.400} {answer.text[:300]}")

    ask()
    return faults


def test_the_examples_of_the_documentation_work(site: Site, tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 255, (4, 160, 160), np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", image, photometric="minisblack")
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    script = "\n".join(["set -euo pipefail", *blocks])
    token = str(site.session.headers["authorization"]).removeprefix("Bearer ")
    environment = {"PATH": os.environ["PATH"], "URL": site.url, "TOKEN": token}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert np.array_equal(tifffile.imread(tmp_path / "ca1.ome.tif"), image)
    assert len((tmp_path / "beginning").read_bytes()) == 100


@pytest.mark.parametrize("group", [*public_services(), OTHERS])
def test_no_request_is_a_fault_of_the_server(site: Site, group: str) -> None:
    operations = _operations(site.schema, group)
    assert operations
    faults = [
        fault
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for operation in operations
        for fault in _faults(site, operation, mode)
    ]
    assert not faults, "\n".join(faults)
