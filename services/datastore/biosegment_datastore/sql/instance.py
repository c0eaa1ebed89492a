"""Edits of objects in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import Conflict, FailedPrecondition, NotFound, ResourceExhausted
from biosegment.failpoint import failpoint
from biosegment.ids import new_id
from biosegment.volume import Region
from biosegment_datastore.clock import now_us
from biosegment_datastore.instances.edit import Edit, EditKind, Step
from biosegment_datastore.layer import Layer, LayerKind, LayerState
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.request import Request
from biosegment_datastore.sql.instance_reach import newest_touching, reached, require_base
from biosegment_datastore.sql.instance_row import AT_ONCE, edit_of, key_of, rows_of, values_of
from biosegment_datastore.sql.layer import layer_not_found
from biosegment_datastore.sql.request import remember, replayed
from biosegment_datastore.sql.tables import INSTANCE_EDIT_IDS, INSTANCE_EDITS, INSTANCE_LAYERS, LAYERS

_PAGE_IDS = 200_000
"""Ids in the edits of a page, which go into one message."""


@dataclass(frozen=True, slots=True)
class InstanceLayer:
    """How far the edits of a layer are.

    Attributes:
        last_sequence: Number of the last edit; 0 when there is none.
        next_id: The smallest id that no object ever had.
        key: Of the catalogue of the objects that the layer was written with.
    """

    last_sequence: int
    next_id: int
    key: str


@dataclass(frozen=True, slots=True)
class NewEdit:
    """An edit whose block is durable.

    Attributes:
        edit: Without number, time and new ids, which it gets.
        new_count: How many new ids.
        largest_id: That the layer's data type can hold.
        seen_sequence: Of the last edit that it was checked against.
        base_sequence: Of the last edit that its author had seen; None for no such check.
        request: That it comes from.
    """

    edit: Edit
    new_count: int
    largest_id: int
    seen_sequence: int
    base_sequence: int | None
    request: Request


class SqlInstances:
    """The order of edits of each layer of instances."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, layer: Layer) -> InstanceLayer | None:
        """None while the layer's objects have not been listed."""
        async with self._database.read() as connection:
            return await _find(connection, layer)

    async def enter(self, layer: Layer, key: str, largest: int) -> InstanceLayer:
        """Say where the catalogue of a layer is; the first one counts.

        Raises:
            NotFound: LAYER_NOT_FOUND.
        """
        async with self._database.write() as connection:
            query = sa.select(LAYERS.c.id).where(
                LAYERS.c.project_id == layer.project_id,
                LAYERS.c.volume_id == layer.volume_id,
                LAYERS.c.id == layer.id,
            )
            if (await connection.execute(query)).one_or_none() is None:
                raise layer_not_found(layer.name)
            present = await _find(connection, layer)
            if present is None:
                present = InstanceLayer(0, largest + 1, key)
                row = {**key_of(layer), "last_sequence": 0, "next_id": present.next_id, "key": key}
                await connection.execute(sa.insert(INSTANCE_LAYERS).values(**row))
            return present

    async def replace_catalogue(self, layer: Layer, lost: str, key: str) -> InstanceLayer:
        """Say where the catalogue of a layer is, after the one below `lost` was lost."""
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(INSTANCE_LAYERS)
                .where(*rows_of(INSTANCE_LAYERS, layer), INSTANCE_LAYERS.c.key == lost)
                .values(key=key)
            )
            present = await _find(connection, layer)
        if present is None:
            raise layer_not_found(layer.name)
        return present

    async def replayed(self, layer: Layer, request: Request) -> Edit | None:
        """What the same request made before; AlreadyExists REQUEST_ID_REUSED."""
        async with self._database.read() as connection:
            earlier = await replayed(connection, request)
            return None if earlier is None else await _load(connection, layer, earlier)

    async def commit(self, new: NewEdit) -> Edit:
        """Store an edit, or answer with the one that the same request made before.

        Raises:
            Conflict: BASE_OUTDATED; GROUND_CHANGED when there are newer edits of its objects than those that it was
                checked against.
            ResourceExhausted: NO_IDS_LEFT.
            NotFound: LAYER_NOT_FOUND.
            AlreadyExists: REQUEST_ID_REUSED.
        """
        edit, step = new.edit, new.edit.step
        async with self._database.write() as connection:
            present = await _locked(connection, edit)
            earlier = await replayed(connection, new.request)
            if earlier is not None:
                return await _load(connection, edit, earlier)
            if new.base_sequence is not None:
                await require_base(connection, edit, step, new.base_sequence)
            if present.last_sequence != new.seen_sequence:
                # What was checked still holds when nobody touched these objects since.
                newer = await newest_touching(connection, edit, step, new.seen_sequence)
                if newer:
                    raise Conflict("GROUND_CHANGED", f"the objects of {edit.layer} were changed; look again")
            if present.next_id + new.new_count - 1 > new.largest_id:
                raise ResourceExhausted(
                    "NO_IDS_LEFT",
                    f"{edit.layer} has no free ids left: its objects go up to {present.next_id - 1}, and its data type "
                    f"holds {new.largest_id} at most; number them anew in a new layer",
                )
            new_ids = tuple(range(present.next_id, present.next_id + new.new_count))
            target = new_ids[0] if step.kind is EditKind.REASSIGN and new_ids else step.target
            made = replace(step, sequence=present.last_sequence + 1, new_ids=new_ids, target=target)
            stored = replace(edit, step=made, create_time_us=await _time_us(connection, edit))
            await _insert(connection, stored, present.next_id + new.new_count)
            failpoint("datastore.instances.rows_inserted")
            await remember(connection, new.request, stored.id)
        return stored

    async def revert(self, layer: Layer, edit_id: str, author: str, request: Request) -> Edit:
        """Record that an edit is taken back.

        Raises:
            FailedPrecondition: ALREADY_REVERTED, IS_REVERT.
            NotFound: EDIT_NOT_FOUND, LAYER_NOT_FOUND.
            AlreadyExists: REQUEST_ID_REUSED.
        """
        async with self._database.write() as connection:
            state = await _find_locked(connection, layer)
            if state is None:
                raise edit_not_found(layer.name, edit_id)
            present = await _load(connection, layer, edit_id)
            if await replayed(connection, request) is not None:
                return present
            if present.reverts:
                raise FailedPrecondition(
                    "IS_REVERT", f"{present.name} takes an edit back; make that edit again instead"
                )
            if present.revert_time_us:
                raise FailedPrecondition(
                    "ALREADY_REVERTED", f"{present.name} was taken back before; there is nothing to do"
                )
            now = await _time_us(connection, layer)
            step = replace(
                present.step, kind=EditKind.REVERT, sequence=state.last_sequence + 1, key="", sha256=""
            )
            record = replace(
                present,
                id=new_id(),
                step=step,
                author=author,
                create_time_us=now,
                comment="",
                reverts=present.id,
            )
            await _insert(connection, record, state.next_id, await reached(connection, layer, present.step))
            await connection.execute(
                sa.update(INSTANCE_EDITS)
                .where(*rows_of(INSTANCE_EDITS, layer), INSTANCE_EDITS.c.id == edit_id)
                .values(revert_time_us=now)
            )
            await remember(connection, request, present.id)
        return replace(present, revert_time_us=now)

    async def require_base(
        self, layer: Layer, instances: Collection[int], base_sequence: int, reassigned: Region | None
    ) -> None:
        """Raise Conflict BASE_OUTDATED when a later edit touched one of the objects, or reassigned in this region."""
        step = Step(0, EditKind.DELETE, tuple(instances))
        if reassigned is not None:
            step = replace(step, kind=EditKind.REASSIGN, region=reassigned)
        async with self._database.read() as connection:
            await require_base(connection, layer, step, base_sequence)

    async def get(self, layer: Layer, edit_id: str) -> Edit:
        """NotFound EDIT_NOT_FOUND."""
        async with self._database.read() as connection:
            return await _load(connection, layer, edit_id)

    async def after(self, layer: Layer, sequence: int) -> Sequence[Edit]:
        """The edits of a layer after a number, in order."""
        query = (
            sa.select(INSTANCE_EDITS)
            .where(*rows_of(INSTANCE_EDITS, layer), INSTANCE_EDITS.c.sequence > sequence)
            .order_by(INSTANCE_EDITS.c.sequence)
        )
        return await self._database.read_at_once(
            lambda connection: [edit_of(row) for row in connection.execute(query)]
        )

    async def list(self, layer: Layer, page: PageRequest, instance: int, after: int) -> Page[Edit]:
        """The edits of a layer in order; only those that touched an object unless `instance` is 0.

        A page of edits with many ids ends before its size.
        """
        query = sa.select(INSTANCE_EDITS).where(
            *rows_of(INSTANCE_EDITS, layer), INSTANCE_EDITS.c.sequence > max(after, int(page.after or 0))
        )
        if instance:
            touched = sa.select(INSTANCE_EDIT_IDS.c.sequence).where(
                *rows_of(INSTANCE_EDIT_IDS, layer), INSTANCE_EDIT_IDS.c.instance == instance
            )
            query = query.where(INSTANCE_EDITS.c.sequence.in_(touched))
        query = query.order_by(INSTANCE_EDITS.c.sequence).limit(page.size + 1)
        items, is_last = await self._database.read_at_once(
            lambda connection: _first(map(edit_of, connection.execute(query)), page.size)
        )
        return Page(items, "" if is_last else page.next_token(items[-1].step.sequence))

    async def edited(self, project_id: str, volume_id: str) -> Sequence[tuple[str, str]]:
        """Ids and names of the source layers of the committed layers of instances that have edits, oldest first."""
        query = (
            sa.select(LAYERS.c.id, LAYERS.c.source_layer)
            .join(
                INSTANCE_LAYERS,
                sa.and_(
                    INSTANCE_LAYERS.c.project_id == LAYERS.c.project_id,
                    INSTANCE_LAYERS.c.volume_id == LAYERS.c.volume_id,
                    INSTANCE_LAYERS.c.layer_id == LAYERS.c.id,
                ),
            )
            .where(LAYERS.c.project_id == project_id, LAYERS.c.volume_id == volume_id)
            .where(LAYERS.c.kind == LayerKind.INSTANCES.value, LAYERS.c.state == LayerState.COMMITTED.value)
            .where(INSTANCE_LAYERS.c.last_sequence > 0)
            .order_by(LAYERS.c.commit_time_us, LAYERS.c.id)
        )
        async with self._database.read() as connection:
            return [(row.id, row.source_layer) for row in (await connection.execute(query)).all()]

    async def keys(self, project_id: str) -> frozenset[str]:
        """Keys of all blocks that an edit refers to."""
        query = sa.select(INSTANCE_EDITS.c.key).where(
            INSTANCE_EDITS.c.project_id == project_id, INSTANCE_EDITS.c.key != ""
        )
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())


def edit_not_found(layer: str, edit_id: str) -> NotFound:
    return NotFound("EDIT_NOT_FOUND", f"{layer} has no edit {edit_id!r}")


async def _find(connection: AsyncConnection, owner: Layer | Edit, lock: bool = False) -> InstanceLayer | None:
    columns = INSTANCE_LAYERS.c.last_sequence, INSTANCE_LAYERS.c.next_id, INSTANCE_LAYERS.c.key
    query = sa.select(*columns).where(*rows_of(INSTANCE_LAYERS, owner))
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    return None if row is None else InstanceLayer(*row)


async def _find_locked(connection: AsyncConnection, owner: Layer | Edit) -> InstanceLayer | None:
    return await _find(connection, owner, lock=True)


async def _locked(connection: AsyncConnection, edit: Edit) -> InstanceLayer:
    found = await _find_locked(connection, edit)
    if found is None:
        raise layer_not_found(edit.layer)
    return found


async def _load(connection: AsyncConnection, owner: Layer | Edit, edit_id: str) -> Edit:
    query = sa.select(INSTANCE_EDITS).where(*rows_of(INSTANCE_EDITS, owner), INSTANCE_EDITS.c.id == edit_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise edit_not_found(owner.name if isinstance(owner, Layer) else owner.layer, edit_id)
    return edit_of(row)


async def _time_us(connection: AsyncConnection, owner: Layer | Edit) -> int:
    """Now, but after the last edit, whatever the clocks of instances say: a moment is a number in the order."""
    query = (
        sa.select(INSTANCE_EDITS.c.create_time_us)
        .where(*rows_of(INSTANCE_EDITS, owner))
        .order_by(INSTANCE_EDITS.c.sequence.desc())
        .limit(1)
    )
    last = (await connection.execute(query)).scalar_one_or_none()
    return now_us() if last is None else max(now_us(), last + 1)


async def _insert(
    connection: AsyncConnection, edit: Edit, next_id: int, reached: Collection[int] = ()
) -> None:
    step = edit.step
    await connection.execute(sa.insert(INSTANCE_EDITS).values(**values_of(edit)))
    touched = [
        {**key_of(edit), "instance": each, "sequence": step.sequence}
        for each in sorted({*step.touched, *reached})
    ]
    for start in range(0, len(touched), AT_ONCE):
        await connection.execute(sa.insert(INSTANCE_EDIT_IDS), touched[start : start + AT_ONCE])
    await connection.execute(
        sa.update(INSTANCE_LAYERS)
        .where(*rows_of(INSTANCE_LAYERS, edit))
        .values(last_sequence=step.sequence, next_id=next_id)
    )


def _first(edits: Iterable[Edit], count: int) -> tuple[list[Edit], bool]:
    """The first edits, as many as a page takes, and whether these are all."""
    items: list[Edit] = []
    ids = 0
    for each in edits:
        ids += len(each.step.ids) + len(each.step.new_ids)
        if items and (len(items) == count or ids > _PAGE_IDS):
            return items, False
        items.append(each)
    return items, True
