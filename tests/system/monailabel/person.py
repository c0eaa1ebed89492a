"""People at 3D Slicer: they sign in and ask as its module does, with MONAI Label's real client."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import nrrd
import numpy as np
import pytest
import requests

from biosegment.volume import Region
from tests.system.monailabel.lab import Lab

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it parses answers with `cgi`
    from monailabel.client import MONAILabelClient
    from monailabel.client.client import MONAILabelClientException

__all__ = [
    "MARKS",
    "MONAILabelClient",
    "MONAILabelClientException",
    "Person",
    "make_people",
    "refused",
    "region_of",
]

MARKS = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    # MONAI Label's client leaves its connections and files to the garbage collector.
    *(
        pytest.mark.filterwarnings(f"ignore:{text}")
        for text in (
            "unclosed <socket.socket:ResourceWarning",
            "unclosed file <_io.BufferedReader:ResourceWarning",
            "Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
            "Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
        )
    ),
]
PEOPLE = {"ada": "annotator", "bob": "annotator", "rita": "reviewer", "vera": "viewer"}


def make_people(lab: Lab) -> dict[str, str]:
    """API tokens of people with all roles, and of one who is no member."""
    found = {"admin": lab.token}
    with lab.platform.connect() as client:
        for user, role in {**PEOPLE, "mallory": ""}.items():
            client.platform.create_user(user)
            if role:
                client.projects.set_member("projects/em", user, role)
            found[user] = client.platform.create_token(user_id=user).secret
    return found


class Person:
    """Somebody at 3D Slicer: signs in as the plugin does."""

    def __init__(self, lab: Lab, tokens: dict[str, str], user: str, folder: Path) -> None:
        self.client: Any = MONAILabelClient(lab.url, str(folder), user)
        assert self.client.auth_enabled()
        self.token = self.client.auth_token(user, tokens[user])
        self.client.update_auth(self.token)
        assert self.client.auth_valid_token()
        self.headers = {"Authorization": f"{self.token['token_type']} {self.token['access_token']}"}
        self.url, self.folder = lab.url, folder

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, headers=self.headers, timeout=300, **options)

    def image(self, image_id: str) -> tuple[np.ndarray, dict[str, Any], Path]:
        """Voxels (x, y, z), header and file of an image; without a token, as the plugin downloads it."""
        answer = requests.get(f"{self.url}/datastore/image?image={quote_plus(image_id)}", timeout=300)
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["content-length"]) == len(answer.content)
        path = self.folder / "image.nrrd"
        path.write_bytes(answer.content)
        voxels, header = nrrd.read(str(path))
        return voxels, header, path

    def label(self, image_id: str, labels: np.ndarray, names: list[str], **options: Any) -> dict[str, Any]:
        """Submit labels (x, y, z) as the plugin does."""
        _, header, _ = self.image(image_id)
        path = self.folder / "label.nrrd"
        kept = ("space", "space directions", "space origin", "kinds")
        nrrd.write(str(path), labels, {key: header[key] for key in kept})
        info = [{"name": name, "idx": number + 3} for number, name in enumerate(names)]
        answer: dict[str, Any] = self.client.save_label(
            image_id, str(path), params={"label_info": info}, **options
        )
        return answer


def region_of(image_id: str) -> Region:
    """From the name: `tissue_z0-32_y64-128_x0-64`, with what carries a permission after it."""
    ranges = [part[1:].split("-") for part in image_id.partition("~")[0].split("_")[1:]]
    return Region(tuple(int(low) for low, _ in ranges), tuple(int(high) for _, high in ranges))


def refused(call: Callable[[], Any]) -> int:
    """Status with which a call of the client is refused."""
    with pytest.raises(MONAILabelClientException) as caught:
        call()
    return int(caught.value.status_code or str(caught.value.msg).split()[1].rstrip(";"))
