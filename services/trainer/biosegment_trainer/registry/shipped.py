"""Models that are shipped with the platform: bundles beside the code, registered when a trainer starts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from biosegment.errors import BiosegmentError, NotFound
from biosegment.storage.objects import Objects
from biosegment_trainer.registry.bundle_files import WEIGHTS, upload_bundle
from biosegment_trainer.registry.model import CLICKS, SHARED_PROJECT, Model, ModelClass, NewModel, bundle_key
from biosegment_trainer.sql import SqlModels

AUTO: Final = "auto"
_RETRY_S: Final = 10.0
_METADATA: Final = "configs/metadata.json"
_log = structlog.get_logger("biosegment_trainer.shipped")


def shipped_folder(setting: str) -> Path | None:
    """The folder whose subfolders are shipped bundles; None for none.

    Args:
        setting: A folder, '' for none, `auto` for that of the installed package or of the checkout.
    """
    if setting != AUTO:
        return Path(setting) if setting else None
    package = Path(__file__).parents[1]
    # In a wheel the bundles lie in the package, in a checkout at its root.
    for folder in (package / "bundles", package.parents[2] / "bundles"):
        if folder.is_dir():
            return folder
    return None


class ShippedModels:
    """Registers the bundles of a folder, each as one model that all projects share.

    Args:
        models: The registry.
        objects: Where bundles are kept.
        folder: Its subfolders are bundles; None for none.
        default_parent: Name of the subfolder whose model the first training of a project starts from; '' for none.
    """

    def __init__(self, models: SqlModels, objects: Objects, folder: Path | None, default_parent: str) -> None:
        self._models = models
        self._objects = objects
        self._folder = folder
        self._default_parent = default_parent
        self._registering = asyncio.Lock()
        self._registered: dict[str, Model] | None = None

    async def run(self) -> None:
        """Register them; again and again while the store or the database is away."""
        while True:
            try:
                found = await self.registered()
                break
            except BiosegmentError as error:
                _log.warning("not_registered", reason=error.reason, message=error.message)
                await asyncio.sleep(_RETRY_S)
        if self._default_parent and self._default_parent not in found:
            _log.warning(
                "no_default_parent",
                message=f"there is no shipped model {self._default_parent!r} in {self._folder}: "
                "trainings of new projects start from random weights",
            )

    async def default_parent(self) -> str:
        """Id of the model that the first training of a project starts from; '' for none."""
        model = (await self.registered()).get(self._default_parent)
        return model.model_id if model else ""

    async def registered(self) -> dict[str, Model]:
        """All of them by the name of their folder; those that are new are registered.

        A bundle with other weights is another model: what was trained from the older one keeps its parent.
        """
        async with self._registering:
            if self._registered is None:
                folders = await asyncio.to_thread(self._folders)
                found = {folder.name: await self._readable(folder) for folder in folders}
                self._registered = {name: model for name, model in found.items() if model is not None}
            return self._registered

    async def _readable(self, folder: Path) -> Model | None:
        try:
            return await self._model(folder)
        except (KeyError, TypeError, ValueError, OSError) as error:
            # Somebody else's bundle, say: it is imported into a project, where it is checked.
            _log.warning("not_a_shipped_bundle", folder=str(folder), error=repr(error))
            return None

    def _folders(self) -> list[Path]:
        if self._folder is None:
            return []
        return sorted(
            path.parents[1] for path in self._folder.glob(f"*/{WEIGHTS}") if _is_whole(path.parents[1])
        )

    async def _model(self, folder: Path) -> Model:
        digest = await asyncio.to_thread(_digest, folder / WEIGHTS)
        model_id = f"{folder.name.replace('_', '-')[:50]}-{digest[:8]}"
        try:
            return await self._models.get(model_id)
        except NotFound:
            pass
        metadata, inference = await asyncio.to_thread(_configurations, folder)
        await asyncio.to_thread(upload_bundle, self._objects.blocking, folder, bundle_key(model_id))
        model = await self._models.register_shared(_new_model(model_id, digest, metadata, inference))
        _log.info("registered", model=model.name, display_name=model.display_name)
        return model


def _is_whole(folder: Path) -> bool:
    return (folder / _METADATA).is_file() and (folder / "configs/inference.json").is_file()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _configurations(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        json.loads((folder / _METADATA).read_text(encoding="utf-8")),
        json.loads((folder / "configs/inference.json").read_text(encoding="utf-8")),
    )


def _new_model(
    model_id: str, digest: str, metadata: Mapping[str, Any], inference: Mapping[str, Any]
) -> NewModel:
    own, definition = metadata["biosegment"], inference["network_def"]
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    values = own["class_values"]
    lineage = own.get("lineage", {})
    config = dict(lineage.get("configuration", {}))
    is_click_model = own.get("role") == CLICKS
    # A click model sees a mask and clicks in its other channels, not slices.
    dims = "2.5" if definition["in_channels"] > 1 and not is_click_model else definition["spatial_dims"]
    if is_click_model:
        config["role"] = CLICKS
    metrics = {k: float(v) for k, v in lineage.get("metrics", {}).items() if isinstance(v, int | float)}
    return NewModel(
        model_id=model_id,
        project_id=SHARED_PROJECT,
        display_name=f"{metadata['name']} {metadata['version']}"[:200],
        parent="",
        network=f"{str(definition['_target_']).rpartition('.')[2].lower()}{dims}d",
        classes=tuple(
            ModelClass(int(values[name]), name)
            for _, name in sorted((int(channel), name) for channel, name in names.items())
            if name in values
        ),
        working_resolution_nm=float(own["working_resolution_nm"]),
        weights_sha256=digest,
        config=config,
        metrics=metrics,
        data_license=str(own.get("data_license", "")),
        remarks=("shipped with the platform",),
    )
