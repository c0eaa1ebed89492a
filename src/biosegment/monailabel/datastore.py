"""`monailabel.interfaces.datastore.Datastore` over a project of the platform; needs the extra `monailabel`.

It speaks to the gateway's MONAI Label API, so that an app on a MONAI Label server and people at 3D Slicer see the same
images, labels by tag and notes, and final labels are annotations of the platform in either case.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import requests
from monailabel.interfaces.datastore import Datastore

from biosegment.errors import (
    BY_GRPC_CODE,
    BiosegmentError,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)

_PIECE: Final = 1 << 20
_FINAL: Final = "final"
_FRESH_S: Final = 1.0
"""How long a list is used again: apps ask for one image after the other."""


class BiosegmentDatastore(Datastore):  # type: ignore[misc]
    """Images and labels of a project; files are fetched when they are asked for, images kept while they are the same.

    Args:
        url: Of the project, `http://HOST:PORT/monailabel/PROJECT`.
        token: API token of a user; what they may do in the project, the app may.
        folder: For files, for nothing else.
        timeout_s: Of a request, an import among them.

    Raises:
        BiosegmentError: From every method: what the platform says, with its reason; Unavailable when it is away.
    """

    def __init__(self, url: str, token: str, folder: str | Path, timeout_s: float = 600.0) -> None:
        self._url = url.rstrip("/")
        self._folder = Path(folder)
        self._timeout_s = timeout_s
        self._http = requests.Session()
        self._http.headers["authorization"] = f"Bearer {token}"
        self._read_s = 0.0
        self._known: dict[str, Any] = {}

    def name(self) -> str:
        """Name of the project."""
        return str(self._document()["name"])

    def set_name(self, name: str) -> None:
        """Rename the project."""
        self._change("PUT", "/settings", json={"name": name})

    def description(self) -> str:
        """Description of the project."""
        return str(self._document()["description"])

    def set_description(self, description: str) -> None:
        """Describe the project anew."""
        self._change("PUT", "/settings", json={"description": description})

    def datalist(self) -> list[dict[str, Any]]:
        """Files of the images that have a final label, and of these labels."""
        return [
            {"image": self.get_image_uri(image_id), "label": self.get_label_uri(image_id, _FINAL)}
            for image_id in self.get_labeled_images()
        ]

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Label ids by tag: a label is called as its image. {} for an image that is not listed."""
        labels = self._document()["objects"].get(image_id, {}).get("labels", {})
        return {tag: image_id for tag in labels}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """Id of a label, '' when there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """The file of an image, as a stream."""
        return io.BytesIO(Path(self.get_image_uri(image_id)).read_bytes())

    def get_image_uri(self, image_id: str) -> str:
        """Path of the file of an image; NotFound IMAGE_NOT_FOUND."""
        place = f"/datastore/image?image={quote_plus(image_id)}"
        path = self._folder / "images" / f"{_file_name(image_id)}{self._extension(image_id)}"
        if path.exists():
            head = self._http.head(f"{self._url}{place}&check_sum={_sha256(path)}", timeout=self._timeout_s)
            if head.status_code == 200:
                return str(path)
        self._fetch(place, path)
        return str(path)

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """The file of a label, as a stream; None when there is none."""
        uri = self.get_label_uri(label_id, label_tag)
        return io.BytesIO(Path(uri).read_bytes()) if uri else None

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of the file of a label, '' when there is none."""
        label = self._document()["objects"].get(label_id, {}).get("labels", {}).get(label_tag)
        if label is None:
            return ""
        path = self._folder / "labels" / _file_name(label_tag) / f"{_file_name(label_id)}{label['ext']}"
        self._fetch(f"/datastore/label?label={quote_plus(label_id)}&tag={quote_plus(label_tag)}", path)
        return str(path)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of an image."""
        found: dict[str, Any] = self._ask("GET", f"/datastore/image/info?image={quote_plus(image_id)}").json()
        return found

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of a label; {} when there is none."""
        place = f"/datastore/label/info?label={quote_plus(label_id)}&tag={quote_plus(label_tag)}"
        try:
            found: dict[str, Any] = self._ask("GET", place).json()
        except NotFound:
            return {}
        return found

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images with a label under a tag, the final one if none is named; with `labels` one that names any of them."""
        objects = self._document()["objects"]
        return [image_id for image_id, found in objects.items() if _is_labelled(found, label_tag, labels)]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """The others."""
        objects = self._document()["objects"]
        return [image_id for image_id, found in objects.items() if not _is_labelled(found, label_tag, labels)]

    def list_images(self) -> list[str]:
        """All images that are listed: of volumes that are too large to be sent whole, their parts."""
        return list(self._document()["objects"])

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Path of a zip file of the labelled images, at most so many, and their final labels."""
        place = "/datastore/dataset" + (f"?limit_cases={limit_cases}" if limit_cases else "")
        path = self._folder / "dataset.zip"
        self._fetch(place, path)
        return str(path)

    def refresh(self) -> None:
        """Read the list again next time."""
        self._read_s = 0.0

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Import a file as a volume under a name, the file's when it is ''; returns the name."""
        path = Path(image_filename)
        query = f"?image={quote_plus(image_id)}" if image_id else ""
        with path.open("rb") as file:
            files = {"file": (path.name, file)}
            answer = self._change(
                "PUT", f"/datastore/image{query}", files=files, data={"params": json.dumps(image_info or {})}
            )
        return str(answer["image"])

    def remove_image(self, image_id: str) -> None:
        """Delete an image that was added in this way, with its labels; FailedPrecondition NOT_UPLOADED for others."""
        self._change("DELETE", f"/datastore/image?id={quote_plus(image_id)}")

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Store a label; a final one becomes a dense annotation of the labels that `label_info["label_info"]` lists.

        Raises:
            NotFound: IMAGE_NOT_FOUND.
            InvalidArgument: GEOMETRY_MISMATCH, UNKNOWN_LABEL, BAD_LABEL and others.
        """
        path = Path(label_filename)
        place = f"/datastore/label?image={quote_plus(image_id)}&tag={quote_plus(label_tag)}"
        with path.open("rb") as file:
            files = {"label": (path.name, file)}
            self._change("PUT", place, files=files, data={"params": json.dumps(label_info or {})})
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label; annotations that a final one became are reverted."""
        self._change("DELETE", f"/datastore/label?id={quote_plus(label_id)}&tag={quote_plus(label_tag)}")

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image."""
        place = f"/datastore/image/info?image={quote_plus(image_id)}"
        self._change("PUT", place, data={"info": json.dumps(info)})

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        place = f"/datastore/label/info?label={quote_plus(label_id)}&tag={quote_plus(label_tag)}"
        self._change("PUT", place, data={"info": json.dumps(info)})

    def status(self) -> dict[str, Any]:
        """Images, those that have a final label, and labels by tag."""
        found: dict[str, Any] = self._ask("GET", "/datastore/").json()
        return found

    def json(self) -> dict[str, Any]:
        """All that is listed."""
        return self._document()

    def _document(self) -> dict[str, Any]:
        if time.monotonic() - self._read_s > _FRESH_S:
            self._known = self._ask("GET", "/datastore/?output=all&names=plain").json()
            self._read_s = time.monotonic()
        return self._known

    def _extension(self, image_id: str) -> str:
        listed = self._document()["objects"]
        found = listed.get(image_id) or next(iter(listed.values()), {"image": {"ext": ".nrrd"}})
        return str(found["image"]["ext"])

    def _change(self, method: str, place: str, **body: Any) -> Any:
        answer = self._ask(method, place, **body)
        self.refresh()
        return answer.json()

    def _fetch(self, place: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}")
        with self._ask("GET", place, stream=True) as answer, staged.open("wb") as file:
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
        staged.replace(path)

    def _ask(self, method: str, place: str, **body: Any) -> requests.Response:
        try:
            answer = self._http.request(method, self._url + place, timeout=self._timeout_s, **body)
        except requests.RequestException as error:
            raise Unavailable(
                "SERVICE_UNAVAILABLE", f"the gateway at {self._url} cannot be reached: {error}"
            ) from error
        if answer.status_code != 200:
            raise _error(answer)
        return answer


def _error(answer: requests.Response) -> BiosegmentError:
    """What the platform said."""
    try:
        found = answer.json()
        kind = BY_GRPC_CODE.get(found["code"], Internal)
        return kind(found["reason"], found["message"])
    except (ValueError, KeyError, TypeError):
        return Internal("BAD_ANSWER", f"{answer.url} answered {answer.status_code}: {answer.text[:200]}")


def _is_labelled(found: Mapping[str, Any], tag: str | None, names: list[str] | None) -> bool:
    label = found["labels"].get(tag or _FINAL)
    if label is None or not names:
        return label is not None
    listed = label["info"].get("label_info") or ()
    return any(each.get("name") in names for each in listed)


def _file_name(name: str) -> str:
    """A name as a file's; names of images may hold anything that can be printed, but no '/'."""
    if "/" in name or name in ("", ".", ".."):
        raise InvalidArgument("BAD_NAME", f"{name!r} cannot be the name of an image or a tag")
    return name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
