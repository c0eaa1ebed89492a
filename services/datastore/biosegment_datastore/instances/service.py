"""What callers may do with the objects of layers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.storage.objects import Objects
from biosegment.volume import Index, Region
from biosegment_datastore.admission import Admission
from biosegment_datastore.annotations.annotation import (
    Labels,
    block_stream,
    decode_labels,
    decode_labels_block,
    encode_block,
)
from biosegment_datastore.instances.catalogue import MAX_ID, Catalogue
from biosegment_datastore.instances.check import (
    Wish,
    cropped,
    place_of,
    require_alive,
    require_object,
    require_parts,
    require_rest,
    require_size,
    seeded_parts,
    sources_of,
    step_of,
)
from biosegment_datastore.instances.edit import Edit, EditKind, Step
from biosegment_datastore.instances.history import Histories, History
from biosegment_datastore.instances.lister import Lister
from biosegment_datastore.instances.reading import EditedArray
from biosegment_datastore.label_blocks import LabelBlocks
from biosegment_datastore.layer import Layer, LayerKind, LayerState, edits_key
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project import check_text
from biosegment_datastore.reading import OpenArrays
from biosegment_datastore.request import Request
from biosegment_datastore.sql.instance import NewEdit, SqlInstances
from biosegment_datastore.sql.layer import SqlLayers, layer_not_found
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.volume import SqlVolumes

_NOT_STORED = (AlreadyExists, Conflict, NotFound, ResourceExhausted)
"""After these no row was written for certain."""

_LOOKED_AT_BYTES = 512 << 20
"""Voxels that all edits which are being checked hold in memory together."""

_TRIES = 20
"""Others may edit the same layer between looking and storing; then it is looked at again."""


class InstanceService:
    """Edits of objects for those who ask.

    Args:
        instances: The rows.
        layers: The rows of layers.
        volumes: For voxel sizes.
        projects: For classes and places.
        authorizer: Decides who may do what.
        objects: Where blocks are kept.
        open_arrays: Where layers are read.
        histories: The edits that were made.
        lister: Knows the objects that layers were written with.
    """

    def __init__(
        self,
        instances: SqlInstances,
        layers: SqlLayers,
        volumes: SqlVolumes,
        projects: SqlProjects,
        authorizer: Authorizer,
        objects: Objects,
        open_arrays: OpenArrays,
        histories: Histories,
        lister: Lister,
    ) -> None:
        self._instances = instances
        self._layers = layers
        self._volumes = volumes
        self._projects = projects
        self._authorizer = authorizer
        self._objects = objects
        self._open_arrays = open_arrays
        self._histories = histories
        self._lister = lister
        self._blocks = LabelBlocks(objects.blocking)
        self._room = Admission(_LOOKED_AT_BYTES)

    async def commit(
        self,
        principal: Principal,
        name: tuple[str, str, str],
        wish: Wish,
        data: bytes,
        is_zlib: bool,
        request_id: str,
        base_sequence: int | None,
    ) -> Edit:
        """Make an edit; it is durable when this returns. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, name[0])
        if not request_id:
            raise InvalidArgument(
                "BAD_REQUEST_ID", "an edit needs a request_id, so that it can be repeated; send a UUID"
            )
        check_text("comment", wish.comment, 0, 10_000)
        wish.check()
        if wish.seeds and data:
            raise InvalidArgument("BAD_EDIT", "a split takes either seeds or labels, not both")
        what = (principal.user, *name, repr(wish), data, str(is_zlib), str(base_sequence))
        request = Request.of(name[0], request_id, "instance edit", *what)
        layer = await self._layer(name)
        earlier = await self._instances.replayed(layer, request)
        if earlier is not None:
            return earlier
        try:
            return await self._try(principal, layer, wish, data, is_zlib, request, base_sequence)
        except BiosegmentError:
            # The same request may have been carried out meanwhile: then its objects are as it made them.
            earlier = await self._instances.replayed(layer, request)
            if earlier is None:
                raise
            return earlier

    async def revert(
        self, principal: Principal, name: tuple[str, str, str], edit_id: str, request_id: str
    ) -> Edit:
        """Take an edit back: one's own, or anybody's with the permission to review."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, name[0])
        layer = await self._layer(name)
        present = await self._instances.get(layer, edit_id)
        if present.author != principal.user:
            await self._authorizer.authorize(principal, Permission.REVIEW, name[0])
        request = Request.of(name[0], request_id, "revert edit", principal.user, *name, edit_id)
        return await self._instances.revert(layer, edit_id, principal.user, request)

    async def get(
        self, principal: Principal, name: tuple[str, str, str], edit_id: str, with_labels: bool
    ) -> tuple[Edit, bytes]:
        """One edit, and its labels as a zlib stream when asked for and when it has any."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, name[0])
        found = await self._instances.get(await self._layer(name), edit_id)
        if not with_labels or not found.step.key or found.step.region is None:
            return found, b""
        block = await self._objects.get(found.step.key)
        await asyncio.to_thread(decode_labels_block, block, found.step.sha256, found.step.region, found.name)
        return found, block_stream(block)

    async def list(
        self,
        principal: Principal,
        name: tuple[str, str, str],
        instance: int,
        after_sequence: int,
        page_size: int,
        page_token: str,
    ) -> Page[Edit]:
        """The edits of a layer in order; with an `instance` only those that touched it."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, name[0])
        if instance > MAX_ID:
            raise InvalidArgument("BAD_EDIT", f"id {instance} is larger than any object's: {MAX_ID} at most")
        layer = await self._layer(name)
        query = ("instance edits", *name, instance, after_sequence)
        page = PageRequest.of(page_size, page_token, *query, largest=1000, default=100)
        return await self._instances.list(layer, page, instance, max(0, after_sequence))

    async def at(
        self, principal: Principal, name: tuple[str, str, str], position: Index
    ) -> tuple[int, int, int]:
        """Id of the object at a voxel, the id that the layer has there, and the number of the last edit."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, name[0])
        layer = await self._layer(name)
        region = Region.of_shape((1, 1, 1), position)
        region.require_within(layer.shape, layer.name)
        history = await self._histories.of(layer)
        array = await self._open_arrays.get(layer.key, immutable=True)
        stored = await array.read_async(region)
        edited = await asyncio.to_thread(history.composition.ids, stored, region, self._blocks.get)
        return int(edited.item()), int(stored.item()), history.sequence

    async def edited(self, layer: Layer, as_of_us: int | None) -> EditedArray:
        """The voxels of a committed layer with its edits, now or at a moment; InvalidArgument NOT_INSTANCES."""
        _require_instances(layer)
        history = await self._histories.of(layer, as_of_us)
        return await self._array(layer, history)

    async def _try(
        self,
        principal: Principal,
        layer: Layer,
        wish: Wish,
        data: bytes,
        is_zlib: bool,
        request: Request,
        base_sequence: int | None,
    ) -> Edit:
        labels: Labels | None = None
        if wish.region is not None:
            wish.region.require_within(layer.shape, layer.name)
            require_size(wish.region)
            if not wish.seeds:
                decoded = await asyncio.to_thread(decode_labels, data, is_zlib, wish.region)
                labels = decoded.view(np.uint8)
        if base_sequence is not None:
            # Before the objects are looked at: 'somebody merged it' says more than 'there is no such object'.
            reassigned = wish.region if wish.kind is EditKind.REASSIGN else None
            await self._instances.require_base(layer, wish.known, base_sequence, reassigned)
        await self._lister.catalogue(layer)
        return await self._store(principal, layer, wish, labels, request, base_sequence)

    async def _store(
        self,
        principal: Principal,
        layer: Layer,
        wish: Wish,
        labels: Labels | None,
        request: Request,
        base_sequence: int | None,
    ) -> Edit:
        for _ in range(_TRIES):
            history = await self._histories.of(layer)
            step, new_count, block = await self._checked(layer, history, wish, labels)
            if base_sequence is not None and base_sequence < history.sequence and labels is not None:
                await self._require_sources(layer, history, wish, labels, base_sequence)
            edit = await self._made(principal, layer, wish, step, block)
            new = NewEdit(edit, new_count, _largest_id(layer), history.sequence, base_sequence, request)
            try:
                stored = await self._instances.commit(new)
            except _NOT_STORED as error:
                await self._drop(edit)
                if error.reason != "GROUND_CHANGED":
                    raise
                continue
            failpoint("datastore.instances.row_written")
            if stored.id != edit.id:  # the same request, at the same time
                await self._drop(edit)
            return stored
        raise Conflict(
            "LAYER_BUSY", f"the objects of {layer.name} are being edited by too many at once; try again"
        )

    async def _require_sources(
        self, layer: Layer, history: History, wish: Wish, labels: Labels, base_sequence: int
    ) -> None:
        """Raise Conflict BASE_OUTDATED when an object that lost voxels here, as the author saw it, was touched since.

        It may be gone, so that it is not among those that the voxels are of now.
        """
        if wish.kind is not EditKind.REASSIGN or wish.region is None:
            return
        composition = await asyncio.to_thread(history.at, base_sequence)
        array = EditedArray(await self._open_arrays.get(layer.key, immutable=True), composition, self._blocks)
        room = await self._room.enter(wish.region.size * array.dtype.itemsize)
        try:
            ids = await array.read_async(wish.region)
            seen = await asyncio.to_thread(np.unique, ids[labels != 0])
        finally:
            room.close()
        await self._instances.require_base(layer, seen.tolist(), base_sequence, None)

    async def _made(self, principal: Principal, layer: Layer, wish: Wish, step: Step, block: bytes) -> Edit:
        edit_id = new_id()
        if block:
            step = replace(step, key=f"{edits_key(layer.storage_key)}/{edit_id}")
            await self._objects.put(step.key, block)
            failpoint("datastore.instances.block_written")
        return Edit(
            project_id=layer.project_id,
            volume_id=layer.volume_id,
            layer_id=layer.id,
            id=edit_id,
            step=step,
            author=principal.user,
            create_time_us=0,
            comment=wish.comment,
        )

    async def _checked(
        self, layer: Layer, history: History, wish: Wish, labels: Labels | None
    ) -> tuple[Step, int, bytes]:
        """The step without its number and key, how many ids it makes, and its block ('' for none)."""
        catalogue = await self._lister.catalogue(layer)
        require_alive(wish.known, layer.name, catalogue, history)
        if wish.kind is EditKind.RECLASSIFY:
            await self._require_class(layer, wish.class_value)
        if wish.kind not in (EditKind.SPLIT, EditKind.REASSIGN):
            return step_of(wish), 0, b""
        array = await self._array(layer, history)
        region = wish.region
        if region is None:
            region = place_of(wish.instances[0], catalogue, history, layer.name)
            require_size(region)
        room = await self._room.enter(region.size * array.dtype.itemsize)
        try:
            return await self._block_step(layer, history, catalogue, array, wish, labels, region)
        finally:
            room.close()

    async def _block_step(
        self,
        layer: Layer,
        history: History,
        catalogue: Catalogue,
        array: EditedArray,
        wish: Wish,
        labels: Labels | None,
        region: Region,
    ) -> tuple[Step, int, bytes]:
        ids = await array.read_async(region)
        if wish.kind is EditKind.REASSIGN:
            assert labels is not None
            return await asyncio.to_thread(_reassigned, ids, labels, region, wish.target)
        (instance,) = wish.instances
        if wish.seeds:
            size = (await self._volumes.get(layer.project_id, layer.volume_id)).voxel_size
            edges = tuple(size.scaled(layer.downsampling))
            labels = await asyncio.to_thread(seeded_parts, ids, region, instance, wish.seeds, edges)
        assert labels is not None
        made = await asyncio.to_thread(_split, ids, labels, region, instance)
        place = place_of(instance, catalogue, history, layer.name)
        await require_rest(array, instance, place, labels, region, layer.name)
        return made

    async def _require_class(self, layer: Layer, class_value: int) -> None:
        project = await self._projects.get(layer.project_id)
        if not layer.class_value:
            raise FailedPrecondition(
                "LAYER_HAS_NO_CLASS", f"{layer.name} does not say which class its objects are of"
            )
        if class_value not in project.class_values:
            raise InvalidArgument(
                "UNKNOWN_CLASS",
                f"the project has no class {class_value}; it has {sorted(project.class_values)}",
            )
        if class_value == layer.class_value:
            raise InvalidArgument(
                "NOTHING_CHANGES", f"the objects of {layer.name} are of class {class_value}"
            )

    async def _layer(self, name: tuple[str, str, str]) -> Layer:
        layer = await self._layers.get(*name)
        if layer.state is not LayerState.COMMITTED:
            raise layer_not_found(layer.name)
        _require_instances(layer)
        return layer

    async def _array(self, layer: Layer, history: History) -> EditedArray:
        array = await self._open_arrays.get(layer.key, immutable=True)
        return EditedArray(array, history.composition, self._blocks)

    async def _drop(self, edit: Edit) -> None:
        if edit.step.key:
            with contextlib.suppress(BiosegmentError):
                await self._objects.delete(edit.step.key)


def _reassigned(ids: Any, labels: Labels, region: Region, target: int) -> tuple[Step, int, bytes]:
    if labels.max() > 1:
        raise InvalidArgument("BAD_EDIT", f"labels of a reassignment are 0 or 1, and not {int(labels.max())}")
    sources = sources_of(ids, labels != 0, target)
    step = Step(0, EditKind.REASSIGN, tuple(sources), target)
    return _with_block(step, labels, region, 0 if target else 1)


def _split(ids: Any, labels: Labels, region: Region, instance: int) -> tuple[Step, int, bytes]:
    count = require_parts(labels)
    require_object(labels != 0, ids, instance, region)
    return _with_block(Step(0, EditKind.SPLIT, (instance,)), labels, region, count)


def _with_block(step: Step, labels: Labels, region: Region, new_count: int) -> tuple[Step, int, bytes]:
    labels, region = cropped(labels, region)
    sha256 = hashlib.sha256(labels.tobytes()).hexdigest()
    return replace(step, region=region, sha256=sha256), new_count, encode_block(labels)


def _largest_id(layer: Layer) -> int:
    return (1 << 32) - 1 if layer.data_type == "uint32" else MAX_ID


def _require_instances(layer: Layer) -> None:
    if layer.kind is not LayerKind.INSTANCES:
        raise InvalidArgument(
            "NOT_INSTANCES", f"{layer.name} is a layer of {layer.kind}; only layers of instances have edits"
        )
