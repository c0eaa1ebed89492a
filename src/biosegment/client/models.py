"""Model versions."""

from __future__ import annotations

import asyncio
import builtins
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from biosegment.api.trainer.v1alpha1 import trainer_pb2 as pb
from biosegment.api.trainer.v1alpha1.trainer_pb2_grpc import TrainerServiceStub
from biosegment.client.resources import Model
from biosegment.errors import InvalidArgument
from biosegment.rpc.stream import CHUNK_BYTES

_FORMATS = {
    "bundle": pb.ExportModelRequest.FORMAT_MONAI_BUNDLE,
    "onnx": pb.ExportModelRequest.FORMAT_ONNX,
    "bioimageio": pb.ExportModelRequest.FORMAT_BIOIMAGE_IO,
}


class Models:
    """The registry of models."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = TrainerServiceStub(channel)

    async def get(self, name: str) -> Model:
        """Return a model by its name `models/{m}`, with the annotations that it was trained on."""
        return Model.from_proto((await self._stub.GetModel(pb.GetModelRequest(name=name))).model)

    async def list(self, project: str = "") -> builtins.list[Model]:
        """Return the models of a project, newest first, without their annotations and configurations; without a
        project the models that are shipped with the platform.
        """
        found: builtins.list[Model] = []
        token = ""
        while True:
            request = pb.ListModelsRequest(project=project, page_size=500, page_token=token)
            page = await self._stub.ListModels(request)
            found.extend(map(Model.from_proto, page.models))
            token = page.next_page_token
            if not token:
                return found

    async def rename(self, name: str, display_name: str) -> Model:
        """Change the display name."""
        request = pb.UpdateModelRequest(model=pb.Model(name=name, display_name=display_name))
        return Model.from_proto((await self._stub.UpdateModel(request)).model)

    async def delete(self, name: str) -> None:
        """Delete the weights; the record stays, so that lineages stay whole."""
        await self._stub.DeleteModel(pb.DeleteModelRequest(name=name))

    async def lineage(self, name: str) -> builtins.list[Model]:
        """Return the model, its parent, its parent's parent and so on."""
        answer = await self._stub.GetModelLineage(pb.GetModelLineageRequest(name=name))
        return [Model.from_proto(model) for model in answer.models]

    async def export(self, name: str, path: Path, *, file_format: str = "bundle") -> Path:
        """Write a model into a file; returns the path.

        Args:
            name: `models/{m}`.
            path: The file.
            file_format: `bundle` (the MONAI bundle as a zip file), `onnx`, or `bioimageio` (a package for other
                programs).

        Raises:
            FailedPrecondition: EXTRA_MISSING when the platform lacks what the format needs.
        """
        if file_format not in _FORMATS:
            raise InvalidArgument(
                "BAD_FORMAT", f"file_format {file_format!r} is not one of {sorted(_FORMATS)}"
            )
        request = pb.ExportModelRequest(name=name, format=_FORMATS[file_format])
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            async for answer in self._stub.ExportModel(request):
                file.write(answer.data)
        part.replace(path)
        return path

    async def import_bundle(
        self, project: str, path: Path, *, display_name: str = "", trusted: bool = False
    ) -> Model:
        """Register a MONAI bundle or a bioimage.io package.

        Args:
            project: `projects/{p}`.
            path: A zip file, or a folder, which is sent as one.
            display_name: For people; the file's name by default.
            trusted: Evaluate `$` expressions of its network's definition, which runs its code; administrators only.

        Raises:
            InvalidArgument: BAD_BUNDLE for a folder with symbolic links in it, and for what is no bundle.
        """
        shown = display_name or path.stem
        if not await asyncio.to_thread(path.is_dir):
            return await self._import(project, path, shown, trusted)
        with tempfile.TemporaryDirectory(prefix="bundle-") as place:
            packed = await asyncio.to_thread(_zipped, path, Path(place) / "bundle.zip")
            return await self._import(project, packed, shown, trusted)

    async def _import(self, project: str, path: Path, display_name: str, trusted: bool) -> Model:
        async def pieces() -> AsyncIterator[pb.ImportModelRequest]:
            yield pb.ImportModelRequest(project=project, display_name=display_name, trusted=trusted)
            with path.open("rb") as file:
                while data := file.read(CHUNK_BYTES):
                    yield pb.ImportModelRequest(data=data)

        return Model.from_proto((await self._stub.ImportModel(pieces())).model)


def _zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            # Caches and the like are nobody's bundle.
            if any(part.startswith((".", "__pycache__")) for part in inside.parts):
                continue
            # It may lead to any file of this machine, which would be sent.
            if path.is_symlink():
                raise InvalidArgument(
                    "BAD_BUNDLE",
                    f"{path} is a symbolic link; put the file itself there, as `cp -rL` does, and try again",
                )
            if path.is_file():
                archive.write(path, Path("bundle") / inside)
    return target
