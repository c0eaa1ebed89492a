"""Routes of the MONAI Label API about work: inference, training, scoring, models, logs."""

from __future__ import annotations

import asyncio
import html
import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from biosegment.auth import Permission
from biosegment.errors import InvalidArgument, NotFound
from biosegment.ids import new_id
from biosegment.volume import Index
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.monailabel_data import MonaiLabelData
from biosegment_gateway.http.monailabel_form import Form, flag, query, read_form, read_object
from biosegment_gateway.monailabel.api import MonaiLabel
from biosegment_gateway.monailabel.dataset import Dataset, Image
from biosegment_gateway.monailabel.file_reader import ReadFile
from biosegment_gateway.monailabel.file_writer import Segment, write_file
from biosegment_gateway.monailabel.geometry import Geometry
from biosegment_gateway.monailabel.inference import MODELS, Inferred
from biosegment_gateway.monailabel.info import SCORES, train_stats
from biosegment_gateway.monailabel.link import plain_name
from biosegment_gateway.monailabel.project import Project
from biosegment_gateway.monailabel.record import FINAL, ORIGINAL
from biosegment_gateway.monailabel.segmenter import Picture
from biosegment_gateway.monailabel.task import SEGMENTATION, brief, is_running
from biosegment_gateway.settings import MAX_PART_VOXELS

_IMAGES: Final = ("all", "labeled", "unlabeled")
_LOGGED_JOBS: Final = 5
_MAX_LINES: Final = 5000


class MonaiLabelWork:
    """Endpoints."""

    def __init__(self, api: MonaiLabel, data: MonaiLabelData) -> None:
        self._api = api
        self._project_id = data.project_id

    @property
    def routes(self) -> list[Route]:
        """Below the address of a project."""
        return [
            Route("/infer/wsi/{model}", self.no_slides, methods=["POST"]),
            Route("/infer/wsi_v2/{model}", self.no_slides, methods=["POST"]),
            Route("/infer/{model}", self.infer, methods=["POST"]),
            Route("/batch/infer", self.batches, methods=["GET"]),
            Route("/batch/infer", self.stop_batch, methods=["DELETE"]),
            Route("/batch/infer/{model}", self.start_batch, methods=["POST"]),
            Route("/train/", self.trainings, methods=["GET"]),
            Route("/train/", self.start_all_trainings, methods=["POST"]),
            Route("/train/", self.stop_training, methods=["DELETE"]),
            Route("/train/{model}", self.start_training, methods=["POST"]),
            Route("/scoring/", self.scorings, methods=["GET"]),
            Route("/scoring/", self.start_all_scorings, methods=["POST"]),
            Route("/scoring/", self.stop_scoring, methods=["DELETE"]),
            Route("/scoring/{method}", self.start_scoring, methods=["POST"]),
            Route("/model/info/{model}", self.model_info, methods=["GET"]),
            Route("/model/{model}", self.model, methods=["GET"]),
            Route("/model/{model}", self.no_model_change, methods=["PUT", "DELETE"]),
            Route("/logs/gpu", self.no_gpu, methods=["GET"]),
            Route("/logs/", self.logs, methods=["GET"]),
        ]

    async def infer(self, request: Request) -> Response:
        """Run a model on an image of the project, on a file that comes along, or on a session."""
        principal, project_id = principal_of(request), self._project_id(request)
        name, session_id = query(request, "image", ""), query(request, "session_id", "")
        output = query(request, "output", "") or "all"
        if output not in ("all", "json", "image"):
            raise NotFound("NO_SUCH_OUTPUT", f"output {output[:30]!r} is none of all, image, json")
        async with AsyncExitStack() as stack:
            form = await stack.enter_async_context(self._form(request))
            params = form.json("params")
            dataset = await self._api.datasets.get(principal, project_id)
            image, picture, geometry = await self._picture(stack, request, form, dataset, name, session_id)
            strokes = await stack.enter_async_context(form.file("label"))
            label: ReadFile | None = None
            if strokes is not None:
                label = await self._api.read(strokes.path, strokes.name, MAX_PART_VOXELS)
            found = await self._api.inference.infer(
                principal, dataset.project, request.path_params["model"], picture, geometry, params, label
            )
        if params.get("save_label") is True:
            if image is None:
                raise InvalidArgument("NO_IMAGE", "save_label is for an image of the project; give its name")
            await self._save(request, dataset, image, found, params)
        if output == "json":
            return JSONResponse(found.params)
        data = await asyncio.to_thread(self._written, found, geometry, dataset)
        file_name = f"{request.path_params['model']}-{new_id()}{found.extension}"
        if output == "image":
            headers = {"content-disposition": f'attachment; filename="{file_name}"'}
            return Response(data, headers=headers, media_type="application/octet-stream")
        return _multipart(found.params, file_name, data)

    async def trainings(self, request: Request) -> Response:
        """The last training, or all of them; 404 without any, or with `check_if_running` none that runs."""
        return await self._status(request, "train")

    async def start_training(self, request: Request) -> Response:
        """Start a training; 429 while one runs."""
        self._api.projects.forget(self._project_id(request))
        principal, project = await self._project(request)
        params = await read_object(request)
        if flag(request, "enqueue"):
            params["enqueue"] = True
        model = request.path_params["model"]
        return JSONResponse(await self._api.tasks.train(principal, project, model, params))

    async def start_all_trainings(self, request: Request) -> Response:
        """Start every trainer, of which there is one."""
        principal, project = await self._project(request)
        task = await self._api.tasks.train(principal, project, SEGMENTATION, await read_object(request))
        return JSONResponse({SEGMENTATION: {"result": task, "detail": ""}})

    async def stop_training(self, request: Request) -> Response:
        """Stop the training that runs; null when none does."""
        principal, project = await self._project(request)
        return JSONResponse(await self._api.tasks.stop(principal, project, "train"))

    async def scorings(self, request: Request) -> Response:
        """The last scoring; as for trainings."""
        return await self._status(request, "score")

    async def start_scoring(self, request: Request) -> Response:
        """Score the volumes by a measure."""
        principal, project = await self._project(request)
        await read_object(request)
        return JSONResponse(await self._score(principal, project, request.path_params["method"]))

    async def start_all_scorings(self, request: Request) -> Response:
        """Score the volumes by every measure."""
        principal, project = await self._project(request)
        await read_object(request)
        found = {}
        for method in SCORES:
            found[method] = {"result": await self._score(principal, project, method), "detail": ""}
        return JSONResponse(found)

    async def stop_scoring(self, request: Request) -> Response:
        """Stop the scoring that runs; null when none does."""
        principal, project = await self._project(request)
        return JSONResponse(await self._api.tasks.stop(principal, project, "score"))

    async def start_batch(self, request: Request) -> Response:
        """Predict all images, those with or those without a final label."""
        principal, project_id = principal_of(request), self._project_id(request)
        model, images = request.path_params["model"], query(request, "images", "all")
        if model != SEGMENTATION:
            raise NotFound("NO_SUCH_MODEL", f"{model[:100]!r} does not run by itself; {SEGMENTATION!r} does")
        if images not in _IMAGES:
            raise InvalidArgument("BAD_IMAGES", f"images {images[:30]!r} is none of {', '.join(_IMAGES)}")
        params = await read_object(request)
        listing = await self._api.listing(principal, project_id)
        chosen = {"all": listing.ids, "labeled": listing.labelled, "unlabeled": listing.unlabelled}[images]()
        asked = {"model": model, "images": images, **params}
        return JSONResponse(await self._api.tasks.infer(principal, listing.dataset, chosen, asked))

    async def batches(self, request: Request) -> Response:
        """The last prediction of many images; as for trainings."""
        principal, project = await self._project(request)
        found = await self._api.tasks.batches(project)
        if flag(request, "all"):
            return JSONResponse([await self._api.tasks.batch(principal, task) for task in found])
        if not found:
            raise NotFound("NO_TASK", "no images were predicted yet")
        document = await self._api.tasks.batch(principal, found[0])
        if flag(request, "check_if_running") and document["status"] not in ("RUNNING", "SUBMITTED"):
            raise NotFound("NO_TASK", "no images are being predicted")
        return JSONResponse(document)

    async def stop_batch(self, request: Request) -> Response:
        """Stop predicting images; null when none are predicted."""
        principal, project = await self._project(request)
        return JSONResponse(await self._api.tasks.stop_batch(principal, project))

    async def model_info(self, request: Request) -> Response:
        """Checksum and time of the newest model."""
        self._api.projects.forget(self._project_id(request))
        principal, project_id = principal_of(request), self._project_id(request)
        dataset = await self._api.datasets.get(principal, project_id)
        model = self._newest(request, dataset.project)
        found: dict[str, Any] = {
            "checksum": f"SHA256:{model.weights_sha256}",
            "modified_time": model.create_time.ToSeconds(),
            "name": model.name,
        }
        job = next((job for job in dataset.project.jobs_of("train") if job.name == model.job), None)
        if job is not None:
            found["train_stats"] = train_stats(job, dataset.project)
        return JSONResponse(found)

    async def model(self, request: Request) -> Response:
        """The newest model as a zip file of its MONAI bundle."""
        self._api.projects.forget(self._project_id(request))
        principal, project = await self._project(request)
        model = self._newest(request, project)
        path = self._api.folder / new_id()
        try:
            await self._api.services.fetch_model(principal, model.name, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        name = f"{request.path_params['model']}.zip"
        clean = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename=name, background=clean)

    async def logs(self, request: Request) -> Response:
        """The last lines of what the project's newest jobs say, for those who may change its settings."""
        principal, project = await self._project(request)
        await self._api.authorizer.authorize(principal, Permission.PROJECT_UPDATE, project.project_id)
        text = query(request, "lines", "300")
        if not text.isdecimal() or len(text) > 9:
            raise InvalidArgument("BAD_LINES", f"lines {text[:20]!r} is no number")
        count, lines = max(1, min(int(text), _MAX_LINES)), []
        for job in reversed(project.jobs[:_LOGGED_JOBS]):
            kind = job.spec.WhichOneof("kind")
            lines.append(f"{job.name} ({kind}): {brief(job)['status']}")
            lines += [f"    {line}" for line in await self._api.tasks.log(principal, job.name, count)]
            lines += [f"    {line}" for line in brief(job)["details"]]
        body = "\n".join(lines[-count:]) or "no job has run yet"
        if flag(request, "text"):
            return Response(body, media_type="text/plain")
        refresh = query(request, "refresh", "0")
        page = f"<!doctype html><title>Logs</title><pre>{html.escape(body)}</pre>"
        headers = {"refresh": refresh} if refresh.isdecimal() and 0 < int(refresh[:6]) else {}
        return Response(page, headers=headers, media_type="text/html")

    async def no_slides(self, request: Request) -> Response:
        """Whole-slide images are of light microscopy."""
        raise NotFound("NO_SLIDES", "the platform has volumes and no whole-slide images; use /infer/{model}")

    async def no_model_change(self, request: Request) -> Response:
        """Models are versions that nobody overwrites."""
        raise NotFound(
            "NO_MODEL_CHANGE",
            "models are not changed here: `biosegment model import` registers a new version, `biosegment model delete` "
            "removes one",
        )

    async def no_gpu(self, request: Request) -> Response:
        """GPUs are not the gateway's."""
        raise NotFound("NO_GPU", "the gateway has no GPU; `biosegment status` tells of the trainer")

    async def _status(self, request: Request, kind: str) -> Response:
        principal, project = await self._project(request)
        found = project.jobs_of(kind)
        if flag(request, "all"):
            return JSONResponse([brief(job) for job in found])
        if flag(request, "check_if_running"):
            running = next((job for job in found if is_running(job)), None)
            if running is None:
                raise NotFound("NO_TASK", f"nothing is running ({kind})")
            return JSONResponse(brief(running))
        job = await self._api.tasks.newest(principal, project, kind)
        if job.state != found[0].state:
            # Who is told of the end must not be told of the time before it afterwards.
            self._api.projects.forget(project.project_id)
        return JSONResponse(await self._api.tasks.document(principal, job))

    async def _score(self, principal: Any, project: Project, method: str) -> Any:
        if method not in SCORES:
            raise NotFound(
                "NO_SUCH_METHOD", f"there is no scoring {method[:100]!r}; there are {', '.join(SCORES)}"
            )
        return await self._api.tasks.score(principal, project, method)

    def _newest(self, request: Request, project: Project) -> Any:
        name = request.path_params["model"]
        if name not in MODELS:
            raise NotFound("NO_SUCH_MODEL", f"there is no model {name[:100]!r}; there is {SEGMENTATION!r}")
        if name != SEGMENTATION or project.model is None:
            raise NotFound(
                "NO_MODEL", f"the project has no file of a model {name!r}; train {SEGMENTATION!r} first"
            )
        return project.model

    async def _picture(
        self,
        stack: AsyncExitStack,
        request: Request,
        form: Form,
        dataset: Dataset,
        name: str,
        session_id: str,
    ) -> tuple[Image | None, Picture, Geometry]:
        principal = principal_of(request)
        if session_id:
            record = await self._api.sessions.get(principal, dataset.project.project_id, session_id)
            path = self._api.sessions.path(session_id)
            return None, *await self._sent(path, record.name)
        file = await stack.enter_async_context(form.file("file"))
        if file is not None:
            return None, *await self._sent(file.path, file.name)
        if not name:
            raise InvalidArgument("NO_IMAGE", "name an image, send a file, or give a session")
        image = dataset.image(plain_name(name), self._api.pictures.unit)
        return image, Picture(image.region.shape, image.volume.name, image.region), image.geometry

    async def _sent(self, path: Path, name: str) -> tuple[Picture, Geometry]:
        read = await self._api.read(path, name, MAX_PART_VOXELS)
        if read.voxels.ndim != 3:
            raise InvalidArgument("BAD_FILE", f"{name!r} has {read.voxels.ndim} axes; an image has three")
        if read.geometry is None:
            raise InvalidArgument("NO_VOXEL_SIZE", f"{name!r} does not say how large its voxels are")
        size = read.geometry.voxel_size(read.unit or self._api.pictures.unit)
        shape = Index(*read.voxels.shape)
        return Picture(shape, voxels=_storable(read), voxel_size=size), read.geometry

    async def _save(
        self, request: Request, dataset: Dataset, image: Image, found: Inferred, params: dict[str, Any]
    ) -> None:
        tag = str(params.get("label_tag") or ORIGINAL)
        if tag == FINAL:
            raise InvalidArgument(
                "BAD_TAG", "a prediction is no final label; submit it as one, or choose another tag"
            )
        info = {
            "model": request.path_params["model"],
            "params": found.params,
            "client_id": params.get("client_id"),
        }
        labels, names = found.labels.astype("uint8"), dataset.project.classes.names
        if request.path_params["model"] == "scribbles" or "foreground" in params:
            names = tuple(found.names)
        principal, project_id = principal_of(request), dataset.project.project_id
        await self._api.authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        extension = found.extension
        await self._api.labels.put(project_id, image.image_id, tag, labels, names, extension, info, principal)

    def _written(self, found: Inferred, geometry: Geometry, dataset: Dataset) -> bytes:
        colors = dataset.project.classes.colors
        segments = [Segment(value, name, colors.get(name, 0xFFFFFF)) for name, value in found.names.items()]
        path = self._api.folder / new_id()
        try:
            write_file(path, found.labels, geometry, self._api.pictures.unit, found.extension, segments)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    async def _project(self, request: Request) -> tuple[Any, Project]:
        principal = principal_of(request)
        return principal, await self._api.projects.get(principal, self._project_id(request))

    def _form(self, request: Request) -> Any:
        return read_form(request, self._api.folder, self._api.settings.monailabel_max_body_bytes)


def _storable(read: ReadFile) -> Any:
    """Voxels of a type that the trainer takes."""
    voxels = read.voxels
    if voxels.dtype.name in ("uint8", "int8", "uint16", "int16", "float32"):
        return voxels
    return voxels.astype("float32")


def _multipart(params: dict[str, Any], file_name: str, data: bytes) -> Response:
    """Parameters and a file in one piece of known length: the client reads no other."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file_name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body = head + data + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
