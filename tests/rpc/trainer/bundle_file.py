"""Bundles as files that come in and go out."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from biosegment.api.trainer.v1alpha1 import trainer_pb2
from tests.rpc.trainer.conftest import Stubs

NEEDED = {"configs/metadata.json": b"{}", "configs/inference.json": b"{}", "models/model.pt": b"x"}
"""Files without which a folder is no bundle."""


def zip_of(**files: bytes) -> bytes:
    """A zip file of files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in folder.rglob("*"):
            if path.is_file():
                archive.write(path, Path("any") / path.relative_to(folder))
    return buffer.getvalue()


async def imported(user: Stubs, data: bytes, **first: Any) -> Any:
    """The model that a bundle became."""

    async def pieces() -> Any:
        yield trainer_pb2.ImportModelRequest(project=user.project, **first)
        for start in range(0, len(data), 1 << 20):
            yield trainer_pb2.ImportModelRequest(data=data[start : start + (1 << 20)])

    return (await user.models.ImportModel(pieces())).model


async def exported(user: Stubs, name: str, file_format: int = 0) -> bytes:
    request = trainer_pb2.ExportModelRequest(name=name, format=file_format)
    return b"".join([piece.data async for piece in user.models.ExportModel(request)])
