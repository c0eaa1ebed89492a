"""Layers in SQL."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import AlreadyExists, FailedPrecondition, NotFound
from biosegment.volume import Index, Region
from biosegment_datastore.clock import now_us
from biosegment_datastore.layer import ANNOTATIONS_LAYER, Layer, LayerKind, LayerState, edits_key
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql.request import doom, lock_project, remember, replayed, require_volume, take
from biosegment_datastore.sql.tables import INSTANCE_EDITS, INSTANCE_LAYERS, LAYERS, PROJECTIONS

_EDITED = (
    sa.select(INSTANCE_EDITS.c.create_time_us)
    .where(
        INSTANCE_EDITS.c.project_id == LAYERS.c.project_id,
        INSTANCE_EDITS.c.volume_id == LAYERS.c.volume_id,
        INSTANCE_EDITS.c.layer_id == LAYERS.c.id,
    )
    .order_by(INSTANCE_EDITS.c.sequence.desc())
    .limit(1)
    .scalar_subquery()
)
"""The end of the primary key: no edit but the last is looked at."""

_JOINED = sa.select(LAYERS, PROJECTIONS.c.applied_sequence, _EDITED.label("edited_us")).outerjoin(
    PROJECTIONS,
    sa.and_(
        PROJECTIONS.c.project_id == LAYERS.c.project_id,
        PROJECTIONS.c.volume_id == LAYERS.c.volume_id,
        LAYERS.c.kind == LayerKind.ANNOTATIONS.value,
    ),
)

OLD_ATTEMPT_GRACE_US = 600 * 1_000_000
"""A writer of an older attempt, or a reader of a deleted layer, may be busy for so long."""


class SqlLayers:
    """The layers of volumes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, prefix: str) -> None:
        """Enter a prefix as garbage of later before something is written there."""
        async with self._database.write() as connection:
            await doom(connection, prefix, now_us() + OLD_ATTEMPT_GRACE_US)

    async def reserve_next(self, layer: Layer) -> str:
        """Like `reserve`, for the attempt after `layer.attempt`, or prolong that; returns its key.

        Raises:
            Conflict: ATTEMPT_OUTDATED when that attempt has begun: what is in use must not become garbage.
            NotFound: LAYER_NOT_FOUND.
        """
        key = f"{layer.storage_key}/{layer.attempt + 1}"
        async with self._database.write() as connection:
            present = await self._locked(connection, layer)
            present.require_newest(layer.attempt)
            await doom(connection, key, now_us() + OLD_ATTEMPT_GRACE_US)
        return key

    async def create(self, layer: Layer, request: Request) -> Layer:
        """Store a layer whose array exists, or answer with the one that the same request made before.

        Raises:
            AlreadyExists: LAYER_EXISTS, REQUEST_ID_REUSED.
            NotFound: PROJECT_NOT_FOUND, VOLUME_NOT_FOUND.
        """
        async with self._database.write() as connection:
            await lock_project(connection, layer.project_id)
            await require_volume(connection, layer.project_id, layer.volume_id)
            earlier = await replayed(connection, request)
            if earlier is not None:
                return await _load(connection, layer.project_id, layer.volume_id, earlier.rpartition("/")[2])
            if await _find(connection, layer.project_id, layer.volume_id, layer.id) is not None:
                raise layer_exists(layer.name)
            await connection.execute(sa.insert(LAYERS).values(**_row_of(layer)))
            await take(connection, layer.storage_key)
            await remember(connection, request, layer.name)
            return layer

    async def replayed(self, layer_parent: tuple[str, str], request: Request) -> Layer | None:
        """The layer that this request made before, if it did; AlreadyExists REQUEST_ID_REUSED."""
        async with self._database.read() as connection:
            earlier = await replayed(connection, request)
            if earlier is None:
                return None
            return await _load(connection, *layer_parent, earlier.rpartition("/")[2])

    async def get(self, project_id: str, volume_id: str, layer_id: str) -> Layer:
        """NotFound LAYER_NOT_FOUND."""
        async with self._database.read() as connection:
            return await _load(connection, project_id, volume_id, layer_id)

    async def find(self, project_id: str, volume_id: str, layer_id: str) -> Layer | None:
        async with self._database.read() as connection:
            row = await _find(connection, project_id, volume_id, layer_id)
        return None if row is None else _layer(row)

    async def list(
        self,
        project_id: str,
        volume_id: str,
        kinds: Collection[LayerKind],
        model: str,
        committed_only: bool,
        page: PageRequest,
    ) -> Page[Layer]:
        """Layers of a volume, newest first."""
        query = _JOINED.where(LAYERS.c.project_id == project_id, LAYERS.c.volume_id == volume_id)
        if kinds:
            query = query.where(LAYERS.c.kind.in_([kind.value for kind in kinds]))
        if model:
            query = query.where(LAYERS.c.model == model)
        if committed_only:
            query = query.where(LAYERS.c.state == LayerState.COMMITTED.value)
        if page.after is not None:
            time_us, _, layer_id = str(page.after).partition("/")
            query = query.where(
                sa.or_(
                    LAYERS.c.create_time_us < int(time_us),
                    sa.and_(LAYERS.c.create_time_us == int(time_us), LAYERS.c.id < layer_id),
                )
            )
        query = query.order_by(LAYERS.c.create_time_us.desc(), LAYERS.c.id.desc()).limit(page.size + 1)
        async with self._database.read() as connection:
            await require_volume(connection, project_id, volume_id)
            found = [_layer(row) for row in (await connection.execute(query)).all()]
        items = found[: page.size]
        token = (
            page.next_token(f"{items[-1].create_time_us}/{items[-1].id}") if len(found) > page.size else ""
        )
        return Page(items, token)

    async def restart(self, layer: Layer) -> Layer:
        """Begin the next attempt after `layer.attempt`, whose array exists; Conflict when somebody else did."""
        async with self._database.write() as connection:
            present = await self._locked(connection, layer)
            present.require_attempt(layer.attempt)
            await connection.execute(sa.update(LAYERS).where(*_key(layer)).values(attempt=layer.attempt + 1))
            await take(connection, f"{layer.storage_key}/{layer.attempt + 1}")
            await doom(connection, layer.key, now_us() + OLD_ATTEMPT_GRACE_US)
            return await _load(connection, layer.project_id, layer.volume_id, layer.id)

    async def commit(self, layer: Layer, attempt: int) -> Layer:
        """Show a layer to readers; a repeated commit changes nothing. Conflict ATTEMPT_OUTDATED."""
        async with self._database.write() as connection:
            present = await self._locked(connection, layer)
            if present.state is LayerState.COMMITTED and present.attempt == attempt:
                return present
            present.require_attempt(attempt)
            values = {"state": LayerState.COMMITTED.value, "commit_time_us": now_us()}
            await connection.execute(sa.update(LAYERS).where(*_key(layer)).values(**values))
            return await _load(connection, layer.project_id, layer.volume_id, layer.id)

    async def delete(self, project_id: str, volume_id: str, layer_id: str, force: bool) -> None:
        """Delete a layer with the edits of its objects.

        Raises:
            FailedPrecondition: LAYER_PERMANENT for the annotations layer; LAYER_HAS_EDITS unless `force`.
            NotFound: LAYER_NOT_FOUND.
        """
        async with self._database.write() as connection:
            layer = await _load(connection, project_id, volume_id, layer_id)
            if layer.kind is LayerKind.ANNOTATIONS:
                raise FailedPrecondition(
                    "LAYER_PERMANENT",
                    f"{layer.name} is the projection of the annotations and cannot be deleted",
                )
            if not force and await edited_layers(connection, project_id, volume_id, layer_id):
                raise FailedPrecondition(
                    "LAYER_HAS_EDITS",
                    f"objects of {layer.name} were edited; set force to delete the edits with it",
                )
            await connection.execute(sa.delete(LAYERS).where(*_key(layer)))
            for key in (layer.storage_key, edits_key(layer.storage_key)):
                await doom(connection, key, now_us())

    async def newest_labels(
        self, project_id: str, volume_id: str, until_us: int | None = None
    ) -> Layer | None:
        """The labels layer at level 0 that was committed last, or last until a moment; deleted ones are gone."""
        query = (
            _JOINED.where(LAYERS.c.project_id == project_id, LAYERS.c.volume_id == volume_id)
            .where(LAYERS.c.kind == LayerKind.LABELS.value, LAYERS.c.state == LayerState.COMMITTED.value)
            .order_by(LAYERS.c.commit_time_us.desc(), LAYERS.c.id.desc())
        )
        if until_us is not None:
            query = query.where(LAYERS.c.commit_time_us <= until_us)
        async with self._database.read() as connection:
            layers = [_layer(row) for row in (await connection.execute(query)).all()]
        return next((layer for layer in layers if layer.downsampling == (1, 1, 1)), None)

    async def _locked(self, connection: AsyncConnection, layer: Layer) -> Layer:
        await lock_project(connection, layer.project_id)
        return await _load(connection, layer.project_id, layer.volume_id, layer.id)


async def edited_layers(
    connection: AsyncConnection, project_id: str, volume_id: str, layer_id: str = ""
) -> int:
    """Number of the layers of a volume whose objects were edited, or 0 or 1 for one layer."""
    query = sa.select(sa.func.count()).where(
        INSTANCE_LAYERS.c.project_id == project_id,
        INSTANCE_LAYERS.c.volume_id == volume_id,
        INSTANCE_LAYERS.c.last_sequence > 0,
    )
    if layer_id:
        query = query.where(INSTANCE_LAYERS.c.layer_id == layer_id)
    count: int = (await connection.execute(query)).scalar_one()
    return count


def layer_exists(name: str) -> AlreadyExists:
    return AlreadyExists("LAYER_EXISTS", f"there is already a layer {name}; choose another layer_id")


def annotations_layer(
    project_id: str, volume_id: str, shape: Index, storage_key: str, chunk: Index, shard: Index
) -> Layer:
    """The projection of a volume's annotation records, empty."""
    return Layer(
        project_id=project_id,
        volume_id=volume_id,
        id=ANNOTATIONS_LAYER,
        display_name="Annotations",
        kind=LayerKind.ANNOTATIONS,
        state=LayerState.COMMITTED,
        data_type="uint8",
        downsampling=Index(1, 1, 1),
        shape=shape,
        class_value=0,
        measure="",
        model="",
        job="",
        region=None,
        chunk=chunk,
        shard=shard,
        attempt=1,
        storage_key=storage_key,
        creator="service:datastore",
        create_time_us=now_us(),
        commit_time_us=now_us(),
    )


def _key(layer: Layer) -> tuple[Any, ...]:
    return (
        LAYERS.c.project_id == layer.project_id,
        LAYERS.c.volume_id == layer.volume_id,
        LAYERS.c.id == layer.id,
    )


async def _find(connection: AsyncConnection, project_id: str, volume_id: str, layer_id: str) -> Any:
    query = _JOINED.where(
        LAYERS.c.project_id == project_id, LAYERS.c.volume_id == volume_id, LAYERS.c.id == layer_id
    )
    return (await connection.execute(query)).one_or_none()


async def _load(connection: AsyncConnection, project_id: str, volume_id: str, layer_id: str) -> Layer:
    row = await _find(connection, project_id, volume_id, layer_id)
    if row is None:
        await require_volume(connection, project_id, volume_id)
        raise layer_not_found(f"projects/{project_id}/volumes/{volume_id}/layers/{layer_id}")
    return _layer(row)


def layer_not_found(name: str) -> NotFound:
    return NotFound("LAYER_NOT_FOUND", f"there is no layer {name}, or it is not committed yet")


def _row_of(layer: Layer) -> dict[str, Any]:
    elsewhere = ("projected_sequence", "edit_time_us")
    row = {field: getattr(layer, field) for field in Layer.__dataclass_fields__ if field not in elsewhere}
    for field in ("downsampling", "shape", "chunk", "shard"):
        row[field] = list(row[field])
    row["kind"], row["state"] = layer.kind.value, layer.state.value
    row["region"] = None if layer.region is None else [list(layer.region.start), list(layer.region.stop)]
    return row


def _layer(row: Any) -> Layer:
    values: dict[str, Any] = {field: getattr(row, field, None) for field in Layer.__dataclass_fields__}
    for field in ("downsampling", "shape", "chunk", "shard"):
        values[field] = Index(*values[field])
    values["kind"], values["state"] = LayerKind(row.kind), LayerState(row.state)
    values["region"] = None if row.region is None else Region(Index(*row.region[0]), Index(*row.region[1]))
    values["projected_sequence"], values["edit_time_us"] = row.applied_sequence or 0, row.edited_us or 0
    return Layer(**values)
