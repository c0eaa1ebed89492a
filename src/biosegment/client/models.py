"""Model versions."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from biosegment.api.trainer.v1alpha1 import trainer_pb2 as pb
from biosegment.api.trainer.v1alpha1.trainer_pb2_grpc import TrainerServiceStub
from biosegment.client.resources import Model
from biosegment.rpc.stream import CHUNK_BYTES


class Models:
    """The registry of models."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = TrainerServiceStub(channel)

    async def get(self, name: str) -> Model:
        """Return a model by its name `models/{m}`, with the annotations that it was trained on."""
        return Model.from_proto((await self._stub.GetModel(pb.GetModelRequest(name=name))).model)

    async def list(self, project: str) -> builtins.list[Model]:
        """Return the models of a project, newest first, without their annotations and configurations."""
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

    async def export(self, name: str, path: Path) -> Path:
        """Write the MONAI bundle of a model as a zip file; returns the path."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            async for answer in self._stub.ExportModel(pb.ExportModelRequest(name=name)):
                file.write(answer.data)
        part.replace(path)
        return path

    async def import_bundle(self, project: str, path: Path, *, display_name: str = "") -> Model:
        """Register a MONAI bundle (zip file)."""

        async def pieces() -> AsyncIterator[pb.ImportModelRequest]:
            yield pb.ImportModelRequest(project=project, display_name=display_name or path.stem)
            with path.open("rb") as file:
                while data := file.read(CHUNK_BYTES):
                    yield pb.ImportModelRequest(data=data)

        return Model.from_proto((await self._stub.ImportModel(pieces())).model)
