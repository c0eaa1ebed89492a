"""Bundles between a folder on disk and the object store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from biosegment.storage.objects import BlockingObjects

WEIGHTS: Final = "models/model.pt"


def upload_bundle(objects: BlockingObjects, folder: Path, key: str) -> str:
    """Write the files of a bundle below `key`, the weights last; return the weights' SHA-256 in
    hexadecimal.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digest = ""
    for path in sorted(paths, key=lambda path: path == WEIGHTS):
        data = (folder / path).read_bytes()
        if path == WEIGHTS:
            digest = hashlib.sha256(data).hexdigest()
        objects.put(f"{key}/{path}", data)
    return digest


def download_bundle(objects: BlockingObjects, key: str, folder: Path) -> None:
    """Write the files of the bundle below `key` into `folder`."""
    for name in objects.list(f"{key}/"):
        path = folder / name.removeprefix(f"{key}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects.get(name))
