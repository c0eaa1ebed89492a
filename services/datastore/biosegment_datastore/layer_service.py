"""What callers may do with layers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import numpy as np

from biosegment.auth import Authorizer, Kind, Permission, Principal
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.expiring import Expiring
from biosegment.failpoint import failpoint
from biosegment.ids import check_id, new_id, parse_name
from biosegment.storage.arrays import Array, Arrays, Voxels
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region
from biosegment_datastore.admission import Admission, Part
from biosegment_datastore.annotations.projector import Projector
from biosegment_datastore.clock import now_us, require_passed
from biosegment_datastore.instances.service import InstanceService
from biosegment_datastore.layer import (
    ANNOTATIONS_LAYER,
    Layer,
    LayerKind,
    LayerRequest,
    LayerState,
    check_layout,
    check_request,
)
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.reading import OpenArrays, RegionRead, require_size
from biosegment_datastore.request import Request
from biosegment_datastore.sql.layer import SqlLayers, layer_not_found
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.volume import SqlVolumes

_KNOWN_S = 2.0
_PROJECTION_WAIT_S = 10.0


class LayerService:
    """Layers for those who ask.

    Args:
        layers: The rows.
        volumes: The rows of volumes.
        projects: The rows of projects.
        authorizer: Decides who may do what.
        arrays: Where arrays are made.
        open_arrays: Where they are read and written.
        projector: Keeps the annotations layers.
        instances: Applies edits of objects.
        max_region_bytes: Largest region of one read or write.
        admission: Memory for reads.
    """

    def __init__(
        self,
        layers: SqlLayers,
        volumes: SqlVolumes,
        projects: SqlProjects,
        authorizer: Authorizer,
        arrays: Arrays,
        open_arrays: OpenArrays,
        projector: Projector,
        instances: InstanceService,
        max_region_bytes: int,
        admission: Admission,
    ) -> None:
        self._layers = layers
        self._volumes = volumes
        self._projects = projects
        self._authorizer = authorizer
        self._arrays = arrays
        self._open_arrays = open_arrays
        self._projector = projector
        self._instances = instances
        self._max_region_bytes = max_region_bytes
        self._admission = admission
        self._writing = Admission(max_region_bytes)
        self._committed: Expiring[tuple[str, str, str], Layer] = Expiring(_KNOWN_S, 1024)

    async def create(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        layer_id: str,
        wanted: LayerRequest,
        request_id: str,
    ) -> Layer:
        """Make a layer and its array, for its writer's eyes only. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        request = Request.of(project_id, request_id, "layer", volume_id, layer_id, repr(wanted))
        if layer_id == ANNOTATIONS_LAYER:
            raise InvalidArgument(
                "BAD_ID", f"layer id {layer_id!r} is reserved for the projection of annotations"
            )
        earlier = await self._layers.replayed((project_id, volume_id), request)
        if earlier is not None:
            return earlier
        volume = await self._volumes.get(project_id, volume_id)
        project = await self._projects.get(project_id)
        data_type = check_request(wanted, volume.shape, project.class_values)
        if wanted.source_layer:
            await self._require_source(volume.name, wanted.source_layer)
        shape = Index(
            *(-(-size // factor) for size, factor in zip(volume.shape, wanted.downsampling, strict=True))
        )
        array_shape = Index(shape.z, shape.y, shape.x * wanted.channels)
        layout = _layout(wanted, array_shape, np.dtype(data_type).itemsize)
        layer = Layer(
            project_id=project_id,
            volume_id=volume_id,
            id=check_id(layer_id, "layer") if layer_id else new_id(),
            display_name=wanted.display_name or wanted.measure or wanted.kind.value,
            kind=wanted.kind,
            state=LayerState.WRITING,
            data_type=data_type,
            downsampling=wanted.downsampling,
            shape=shape,
            class_value=wanted.class_value,
            measure=wanted.measure,
            model=wanted.model,
            job=wanted.job,
            region=wanted.region,
            chunk=Index(*layout.chunk),
            shard=Index(*layout.shard),
            attempt=1,
            storage_key=f"{project.storage_key}/layers/{new_id()}",
            creator=str(principal),
            create_time_us=now_us(),
            channels=wanted.channels,
            source_layer=wanted.source_layer,
        )
        # From here on a crash leaves garbage that is known as such.
        await self._layers.reserve(layer.storage_key)
        await self._make_array(layer)
        return await self._layers.create(layer, request)

    async def restart(self, principal: Principal, project_id: str, volume_id: str, layer_id: str) -> Layer:
        """Begin the next attempt in a new place; FailedPrecondition LAYER_COMMITTED."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        layer = await self._layers.get(project_id, volume_id, layer_id)
        layer.require_attempt(layer.attempt)
        key = await self._layers.reserve_next(layer)
        # A crash between making the array and the row below leaves an array that nobody was told of.
        if not await self._open_arrays.exists(key):
            await self._make_array(layer, key)
        return await self._layers.restart(layer)

    async def get(self, principal: Principal, project_id: str, volume_id: str, layer_id: str) -> Layer:
        """One layer; one that is not committed only for its writer and for services."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._visible(principal, project_id, volume_id, layer_id)

    async def list(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        kinds: Collection[LayerKind],
        model: str,
        page_size: int,
        page_token: str,
    ) -> Page[Layer]:
        """The layers of a volume, newest first; uncommitted ones only to services."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        page = PageRequest.of(page_size, page_token, "layers", project_id, volume_id, sorted(kinds), model)
        committed_only = principal.kind is not Kind.SERVICE
        return await self._layers.list(project_id, volume_id, kinds, model, committed_only, page)

    async def open_for_writing(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        layer_id: str,
        attempt: int,
        region: Region,
    ) -> Array:
        """The array of an attempt, when it may be written. Errors as in the contract of WriteRegion."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        layer = await self._layers.get(project_id, volume_id, layer_id)
        if layer.kind is LayerKind.ANNOTATIONS:
            raise FailedPrecondition("LAYER_COMMITTED", f"{layer.name} changes by annotations only")
        layer.require_attempt(attempt)
        region.require_within(layer.array_shape, layer.name)
        require_size(region, np.dtype(layer.data_type).itemsize, self._max_region_bytes)
        return await self._open_arrays.get(layer.key, immutable=False)

    async def reserve(self, array: Array, region: Region) -> Part:
        """Memory for a region on its way in, to be closed; all writers together hold one largest region at most."""
        return await self._writing.enter(region.size * array.dtype.itemsize)

    async def write(
        self,
        principal: Principal,
        name: tuple[str, str, str],
        attempt: int,
        array: Array,
        region: Region,
        data: Voxels,
    ) -> None:
        """Store a region, unless a newer attempt took over while it was on its way."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, name[0])
        (await self._layers.get(*name)).require_attempt(attempt)
        await array.write_async(region, data)

    async def commit(
        self, principal: Principal, project_id: str, volume_id: str, layer_id: str, attempt: int
    ) -> Layer:
        """Show a layer to readers and make it immutable; Conflict ATTEMPT_OUTDATED."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        layer = await self._layers.get(project_id, volume_id, layer_id)
        self._committed.forget_all()
        failpoint("datastore.layer.before_commit")
        committed = await self._layers.commit(layer, attempt)
        failpoint("datastore.layer.committed")
        return committed

    async def delete(
        self, principal: Principal, project_id: str, volume_id: str, layer_id: str, force: bool
    ) -> None:
        """Delete a layer; not the annotations layer, and one whose objects were edited only with `force`."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        await self._layers.delete(project_id, volume_id, layer_id, force)
        self._committed.forget_all()

    async def read(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        layer_id: str,
        level: int,
        region: Region | None,
        with_edits: bool = False,
        as_of_us: int | None = None,
    ) -> RegionRead:
        """Prepare to read a region in voxels of the layer; all of it with None. Errors as in the contract.

        Args:
            principal: Who asks.
            project_id: Of the layer.
            volume_id: Of the layer.
            layer_id: Of the layer.
            level: 0.
            region: In voxels of the layer.
            with_edits: Apply the edits of its objects; only for committed layers of instances.
            as_of_us: Those that held at a moment, microseconds since 1970; None for now.
        """
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        if level != 0:
            raise InvalidArgument("BAD_LEVEL", f"a layer has level 0 only, not {level}")
        if layer_id == ANNOTATIONS_LAYER:
            # Whoever commits and reads here sees what was committed.
            await self._projector.catch_up(project_id, volume_id, _PROJECTION_WAIT_S)
            layer = await self._projector.ensure_layer(project_id, volume_id)
        else:
            name = (project_id, volume_id, layer_id)
            known = self._committed.peek(name)
            layer = known or await self._visible(principal, project_id, volume_id, layer_id)
            if layer.state is LayerState.COMMITTED and known is None:
                self._committed.put(name, layer)
        region = region or Region.of_shape(layer.array_shape)
        region.require_within(layer.array_shape, layer.name)
        require_size(region, np.dtype(layer.data_type).itemsize, self._max_region_bytes)
        if as_of_us is not None and not with_edits:
            raise InvalidArgument("BAD_AS_OF", "`as_of` belongs to `with_edits`; set that, or leave it unset")
        require_passed(as_of_us)
        if with_edits:
            if layer.state is not LayerState.COMMITTED:
                raise layer_not_found(layer.name)
            return RegionRead(await self._instances.edited(layer, as_of_us), region, self._admission)
        immutable = layer.state is LayerState.COMMITTED and layer.kind is not LayerKind.ANNOTATIONS
        return RegionRead(await self._open_arrays.get(layer.key, immutable), region, self._admission)

    async def rebuild(self, principal: Principal, project_id: str, volume_id: str) -> Layer:
        """Make the annotations layer of a volume anew from the records."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        return await self._projector.rebuild(project_id, volume_id)

    async def _visible(self, principal: Principal, project_id: str, volume_id: str, layer_id: str) -> Layer:
        if layer_id == ANNOTATIONS_LAYER:
            return await self._projector.ensure_layer(project_id, volume_id)
        layer = await self._layers.get(project_id, volume_id, layer_id)
        is_writer = principal.kind is Kind.SERVICE or layer.creator == str(principal)
        if layer.state is not LayerState.COMMITTED and not is_writer:
            raise layer_not_found(layer.name)
        return layer

    async def _require_source(self, volume: str, name: str) -> None:
        project_id, volume_id, layer_id = parse_name(name, "projects/*/volumes/*/layers/*")
        is_here = name.startswith(f"{volume}/")
        source = await self._layers.find(project_id, volume_id, layer_id) if is_here else None
        if source is None or source.kind not in (LayerKind.LABELS, LayerKind.PROBABILITIES):
            raise InvalidArgument(
                "BAD_LAYER", f"source_layer {name} is no labels or probabilities layer of {volume}"
            )

    async def _make_array(self, layer: Layer, key: str = "") -> None:
        layout = ArrayLayout(tuple(layer.shard), tuple(layer.chunk))
        await asyncio.to_thread(
            lambda: self._arrays.create(
                key or layer.key, tuple(layer.array_shape), layer.data_type, layout=layout, fill=layer.fill
            )
        )


def _layout(wanted: LayerRequest, shape: Index, itemsize: int) -> ArrayLayout:
    check_layout(wanted.chunk, wanted.shard, itemsize)
    default = ArrayLayout.for_shape(shape)
    if wanted.chunk is None and wanted.shard is None:
        return default
    chunk = tuple(wanted.chunk or default.chunk)
    if wanted.shard is not None:
        return ArrayLayout(tuple(wanted.shard), chunk).clamped(shape)
    shard = tuple(max(1, edge // inner) * inner for edge, inner in zip(default.shard, chunk, strict=True))
    return ArrayLayout(shard, chunk).clamped(shape)
