"""Routes of the MONAI Label API about data: next sample, images, labels, sessions."""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from biosegment.auth import Permission
from biosegment.errors import InvalidArgument, NotFound
from biosegment.ids import new_id
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.monailabel_form import flag, query, read_form, read_object
from biosegment_gateway.monailabel.api import MonaiLabel
from biosegment_gateway.monailabel.cache import CachedFile
from biosegment_gateway.monailabel.dataset import Dataset, image_info
from biosegment_gateway.monailabel.file_writer import extension_of
from biosegment_gateway.monailabel.link import plain_name
from biosegment_gateway.monailabel.record import FINAL
from biosegment_gateway.monailabel.session import session_document
from biosegment_gateway.settings import MAX_PART_VOXELS

_MAX_CASES: Final = 100
_BINARY: Final = "application/octet-stream"


class MonaiLabelData:
    """Endpoints."""

    def __init__(self, api: MonaiLabel, root_project: str) -> None:
        self._api = api
        self._root_project = root_project

    @property
    def routes(self) -> list[Route]:
        """Below the address of a project."""
        return [
            Route("/activelearning/{strategy}", self.next_sample, methods=["POST"]),
            Route("/datastore/", self.datastore, methods=["GET"]),
            Route("/datastore/", self.put_image, methods=["PUT"]),
            Route("/datastore/", self.delete_image, methods=["DELETE"]),
            Route("/datastore/image", self.image, methods=["GET"]),
            Route("/datastore/image", self.put_image, methods=["PUT"]),
            Route("/datastore/image", self.delete_image, methods=["DELETE"]),
            Route("/datastore/image/info", self.image_info, methods=["GET"]),
            Route("/datastore/image/info", self.put_image_info, methods=["PUT"]),
            Route("/datastore/label", self.label, methods=["GET"]),
            Route("/datastore/label", self.put_label, methods=["PUT"]),
            Route("/datastore/label", self.delete_label, methods=["DELETE"]),
            Route("/datastore/label/info", self.label_info, methods=["GET"]),
            Route("/datastore/label/info", self.put_label_info, methods=["PUT"]),
            Route("/datastore/updatelabelinfo", self.put_label_info, methods=["PUT"]),
            Route("/datastore/dataset", self.archive, methods=["GET"]),
            Route("/session/", self.put_session, methods=["PUT"]),
            Route("/session/{session}", self.session, methods=["GET"]),
            Route("/session/{session}", self.delete_session, methods=["DELETE"]),
        ]

    async def next_sample(self, request: Request) -> Response:
        """The next image to label; `{}` when nothing is left."""
        principal, project_id = principal_of(request), self.project_id(request)
        params = await read_object(request)
        client_id = str(params.get("client_id") or "")[:200]
        dataset = await self._api.datasets.get(principal, project_id)
        found = await self._api.samples.next(principal, dataset, request.path_params["strategy"], client_id)
        if found is None:
            return JSONResponse({})
        image, served = found
        answer: dict[str, Any] = {
            "id": self._told(request, image.image_id),
            "name": self._api.pictures.name(image),
            # No path of this machine: a client that found it on its own would open that file instead.
            "path": f"/biosegment-has-no-shared-files/{self._api.pictures.name(image)}",
            "PatientID": image.image_id,
            "ts": served.serve_time_us // 1_000_000,
            "strategy": {request.path_params["strategy"]: {"client_id": client_id}},
            "expire_ts": served.expire_time_us // 1_000_000,
        }
        made = await self._api.pictures.peek(image)
        if made is not None:
            answer["checksum"] = f"SHA256:{made.sha256}"
        else:
            self._api.make_soon(principal, image)
        return JSONResponse(answer)

    async def datastore(self, request: Request) -> Response:
        """Images and labels: `?output=stats` (the default), `all` or `train`; `names=plain` without signatures."""
        project_id, output = self.project_id(request), query(request, "output", "stats")
        listing = await self._api.listing(principal_of(request), project_id)
        if output == "stats":
            return JSONResponse(listing.status())
        if output == "all":
            notes = await self._api.records.notes(project_id)
            document = listing.document(notes, self._api.pictures.extension)
            objects = {
                self._told(request, image_id): found for image_id, found in document["objects"].items()
            }
            return JSONResponse({**document, "objects": objects})
        if output == "train":
            return JSONResponse([self._case(request, image_id) for image_id in listing.labelled()])
        raise InvalidArgument("BAD_OUTPUT", f"output {output[:50]!r} is none of stats, all, train")

    async def image(self, request: Request) -> Response:
        """The file of an image; a HEAD with `check_sum` compares its SHA-256, 404 when it differs."""
        principal = principal_of(request)
        _, image = await self._api.image(principal, self.project_id(request), query(request, "image"))
        if request.method == "HEAD" and "check_sum" not in request.query_params:
            return Response(headers=_attachment(self._api.pictures.name(image)))
        file = await self._api.pictures.get(principal, image)
        wanted = query(request, "check_sum", "").rpartition(":")[2].lower()
        if wanted and wanted != file.sha256:
            raise NotFound("OTHER_CHECKSUM", f"image {image.image_id!r} has the SHA-256 {file.sha256}")
        return _file(file, self._api.pictures.name(image))

    async def put_image(self, request: Request) -> Response:
        """Upload an image, which becomes a volume of the project."""
        principal, project_id = principal_of(request), self.project_id(request)
        dataset = await self._api.datasets.get(principal, project_id)
        async with self._form(request) as form, form.file("file") as file:
            if file is None:
                raise InvalidArgument("NO_FILE", "the form has no file in its field 'file'")
            image_id = plain_name(query(request, "image", "")) or _stem(file.name)
            params = form.json("params")
            await self._api.uploads.add(principal, dataset, image_id, file.path, file.name, params)
        return JSONResponse({"image": query(request, "image", "") or image_id})

    async def delete_image(self, request: Request) -> Response:
        """Delete an image that was uploaded, with its labels."""
        principal = principal_of(request)
        dataset = await self._api.datasets.get(principal, self.project_id(request))
        await self._api.uploads.drop(principal, dataset, plain_name(query(request, "id")))
        return JSONResponse({})

    async def image_info(self, request: Request) -> Response:
        """What is known of an image."""
        _, image = await self._image(request, query(request, "image"))
        record = await self._api.records.image(self.project_id(request), image.image_id)
        noted = record.info if record is not None else None
        info = image_info(image.image_id, noted, self._api.pictures.extension)
        return JSONResponse({"path": "", **info})

    async def put_image_info(self, request: Request) -> Response:
        """Add to what is known of an image."""
        principal, project_id = principal_of(request), self.project_id(request)
        _, image = await self._image(request, query(request, "image"))
        await self._api.authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        async with self._form(request) as form:
            info = form.json("info", "params")
        own = {key: value for key, value in info.items() if key != "sha256"}
        await self._api.records.note(project_id, image.image_id, {**own, "user": principal.user})
        return JSONResponse(None)

    async def label(self, request: Request) -> Response:
        """The file of a label; for a HEAD the image may be called `image`."""
        principal = principal_of(request)
        name = request.query_params.get("label") or query(request, "image")
        tag = query(request, "tag")
        dataset, image = await self._image(request, name)
        await self._api.tasks.settle(principal, dataset.project.project_id)
        if request.method == "HEAD":
            found = await self._api.labels.get(dataset.project.project_id, image.image_id, tag)
            return Response(headers=_attachment(f"{image.image_id}{found.extension}"))
        file, extension = await self._api.labels.file(principal, dataset, image, tag)
        return _file(file, f"{image.image_id}{extension}")

    async def put_label(self, request: Request) -> Response:
        """Submit a label; the tag `final` makes annotations of it."""
        principal, name = principal_of(request), query(request, "image")
        tag = query(request, "tag", "") or FINAL
        dataset, image = await self._image(request, name)
        async with self._form(request) as form, form.file("label") as file:
            if file is None:
                raise InvalidArgument("NO_FILE", "the form has no file in its field 'label'")
            params = form.json("params")
            # Segments that overlap lie in layers.
            read = await self._api.read(file.path, file.name, 2 * MAX_PART_VOXELS)
            extension = extension_of(file.name)
            saved = await self._api.labels.save(principal, dataset, image, tag, read, extension, params)
        answer = {
            "image": name,
            "label": f"{saved.image_id}{extension}",
            "annotations": list(saved.annotations),
        }
        return JSONResponse(answer)

    async def delete_label(self, request: Request) -> Response:
        """Delete a label; annotations that a final one became are taken back."""
        dataset, image = await self._image(request, query(request, "id"))
        project_id = dataset.project.project_id
        await self._api.labels.drop(principal_of(request), project_id, image.image_id, query(request, "tag"))
        return JSONResponse({})

    async def label_info(self, request: Request) -> Response:
        """What is known of a label."""
        dataset, image = await self._image(request, query(request, "label"))
        found = await self._api.labels.get(dataset.project.project_id, image.image_id, query(request, "tag"))
        return JSONResponse(dict(found.info))

    async def put_label_info(self, request: Request) -> Response:
        """Add to what is known of a label; a reviewer's verdict among it."""
        dataset, image = await self._image(request, query(request, "label"))
        async with self._form(request) as form:
            info = form.json("info", "params")
        tag, project_id = query(request, "tag"), dataset.project.project_id
        await self._api.labels.note(principal_of(request), project_id, image.image_id, tag, info)
        return JSONResponse(None)

    async def archive(self, request: Request) -> Response:
        """A zip file of the labelled images, at most `limit_cases` of them, with their final labels."""
        principal = principal_of(request)
        text = query(request, "limit_cases", "") or str(_MAX_CASES)
        if not text.isdecimal() or not 0 < int(text) <= _MAX_CASES:
            raise InvalidArgument("BAD_LIMIT", f"limit_cases {text[:20]!r} is not within 1..{_MAX_CASES}")
        listing = await self._api.listing(principal, self.project_id(request))
        path = self._api.folder / new_id()
        try:
            await self._zip(request, listing.dataset, listing.labelled()[: int(text)], path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return FileResponse(
            path,
            media_type="application/zip",
            filename="dataset.zip",
            background=BackgroundTask(path.unlink, missing_ok=True),
        )

    async def put_session(self, request: Request) -> Response:
        """Keep an image for the caller alone, outside of the project's data."""
        principal, project_id = principal_of(request), self.project_id(request)
        await self._api.authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        text = query(request, "expiry", "0")
        if not text.isdecimal() or len(text) > 9:
            raise InvalidArgument("BAD_EXPIRY", f"expiry {text[:20]!r} is no number of seconds")
        async with self._form(request) as form, form.files("files") as files:
            if len(files) != 1:
                raise InvalidArgument(
                    "ONE_FILE",
                    f"{len(files)} files came; a session is of one NRRD or NIfTI file (field 'files')",
                )
            extension_of(files[0].name)
            record = await self._api.sessions.add(
                principal, project_id, files[0].path, files[0].name, int(text)
            )
        return JSONResponse({"session_id": record.session_id, "session_info": session_document(record)})

    async def session(self, request: Request) -> Response:
        """A session, or with `image=true` its file."""
        principal, session_id = principal_of(request), request.path_params["session"]
        record = await self._api.sessions.get(
            principal, self.project_id(request), session_id, is_use=flag(request, "update_ts")
        )
        if flag(request, "image"):
            path = self._api.sessions.path(session_id)
            return FileResponse(path, media_type=_BINARY, filename=record.name)
        return JSONResponse(session_document(record))

    async def delete_session(self, request: Request) -> Response:
        """End a session."""
        principal, session_id = principal_of(request), request.path_params["session"]
        record = await self._api.sessions.drop(principal, self.project_id(request), session_id)
        return JSONResponse(session_document(record))

    def project_id(self, request: Request) -> str:
        """The project of a request: that of its path, or the one at the root."""
        found: str = request.path_params.get("project", self._root_project)
        return found

    async def _image(self, request: Request, name: str) -> tuple[Dataset, Any]:
        return await self._api.image(principal_of(request), self.project_id(request), name)

    def _form(self, request: Request) -> Any:
        return read_form(request, self._api.folder, self._api.settings.monailabel_max_body_bytes)

    def _told(self, request: Request, image_id: str) -> str:
        """The name of an image as this client is told it."""
        wants_plain = request.query_params.get("names") == "plain" or request.scope["state"]["needs_no_link"]
        is_open = wants_plain or self._api.settings.monailabel_auth == "off"
        return self._api.told_name(principal_of(request), self.project_id(request), image_id, is_open)

    def _case(self, request: Request, image_id: str) -> dict[str, str]:
        base = str(request.base_url).rstrip("/")
        name = quote_plus(image_id)
        return {
            "image": f"{base}/datastore/image?image={name}",
            "label": f"{base}/datastore/label?label={name}&tag={FINAL}",
        }

    async def _zip(self, request: Request, dataset: Dataset, images: list[str], path: Path) -> None:
        principal = principal_of(request)
        listed = []
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for image_id in images:
                image = dataset.image(image_id, self._api.pictures.unit)
                picture = await self._api.pictures.get(principal, image)
                label, extension = await self._api.labels.file(principal, dataset, image, FINAL)
                names = f"image/{self._api.pictures.name(image)}", f"label/{image_id}{extension}"
                for file, name in zip((picture, label), names, strict=True):
                    await asyncio.to_thread(archive.write, file.path, name)
                noted = await self._api.labels.get(dataset.project.project_id, image_id, FINAL)
                listed.append({"image": names[0], "label": names[1], "info": dict(noted.info)})
            metadata = {"name": dataset.project.display_name, "cases": listed}
            archive.writestr("metadata.json", json.dumps(metadata, indent=1))


def _file(file: CachedFile, name: str) -> FileResponse:
    # The answer of a link may be kept by nobody, and everything else neither.
    return FileResponse(
        file.path, media_type=_BINARY, filename=name, headers={"etag": f'"{file.sha256[:32]}"'}
    )


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _stem(name: str) -> str:
    try:
        return name[: -len(extension_of(name))]
    except InvalidArgument:
        return name.partition(".")[0]
