"""The records of the MONAI Label API in SQL."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from biosegment.database import Database
from biosegment.volume import Index
from biosegment_gateway import tables
from biosegment_gateway.monailabel.record import (
    FINAL,
    ImageRecord,
    LabelNote,
    LabelRecord,
    ProjectContent,
    ProjectNotes,
    ServedSample,
    SessionRecord,
    TaskRecord,
)

_images, _labels, _samples = tables.monailabel_images, tables.monailabel_labels, tables.monailabel_samples
_sessions, _tasks, _projects = (
    tables.monailabel_sessions,
    tables.monailabel_tasks,
    tables.monailabel_projects,
)

_IS_THERE = (_labels.c.job == "") | (_labels.c.layer != "")
"""Of a label: no job predicts it, or one that has ended well."""


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Records:
    """Records by project; each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def content(self, project_id: str) -> ProjectContent:
        """What tells which images a project has."""
        columns = [column for column in _images.c if column.name != "info"]
        uploads = sa.select(*columns).where(
            _images.c.project_id == project_id, _images.c.uploaded_volume_id != ""
        )
        settings = sa.select(_projects).where(_projects.c.project_id == project_id)

        def read(connection: sa.Connection) -> ProjectContent:
            row = connection.execute(settings).first()
            return ProjectContent(
                Index(row.part_z, row.part_y, row.part_x) if row else None,
                {
                    row.image_id: ImageRecord(row.image_id, {}, row.uploaded_volume_id, row.geometry)
                    for row in connection.execute(uploads)
                },
            )

        # Every request needs it: one change of threads instead of a dozen.
        return await self._database.read_at_once(read)

    async def labelled(self, project_id: str) -> dict[str, frozenset[str]]:
        """Images with labels that are there, by tag."""
        # One row for each tag: to fetch a thousand rows takes longer than to find them. No name has a line break.
        images = sa.func.aggregate_strings(_labels.c.image_id, "\n")
        query = sa.select(_labels.c.tag, images).where(_labels.c.project_id == project_id, _IS_THERE)
        return await self._database.read_at_once(
            lambda connection: {
                tag: frozenset(names.split("\n"))
                for tag, names in connection.execute(query.group_by(_labels.c.tag))
            }
        )

    async def notes(self, project_id: str) -> ProjectNotes:
        """What was noted of all images and labels of a project."""
        images = sa.select(_images.c.image_id, _images.c.info).where(_images.c.project_id == project_id)
        labels = sa.select(_labels.c.image_id, _labels.c.tag, _labels.c.extension, _labels.c.info)
        labels = labels.where(_labels.c.project_id == project_id, _IS_THERE)

        def read(connection: sa.Connection) -> ProjectNotes:
            found: dict[str, dict[str, LabelNote]] = {}
            for row in connection.execute(labels):
                found.setdefault(row.image_id, {})[row.tag] = LabelNote(row.extension, row.info)
            return ProjectNotes({row.image_id: row.info for row in connection.execute(images)}, found)

        return await self._database.read_at_once(read)

    async def pending_jobs(self, project_id: str) -> list[str]:
        """Jobs that predict labels and have not ended, as far as is known."""
        query = sa.select(_labels.c.job).where(_labels.c.project_id == project_id, ~_IS_THERE).distinct()
        return await self._database.read_at_once(
            lambda connection: list(connection.execute(query.order_by(_labels.c.job)).scalars())
        )

    async def set_part(self, project_id: str, part: Index) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(_projects).where(_projects.c.project_id == project_id))
            values = {"part_z": part.z, "part_y": part.y, "part_x": part.x}
            await connection.execute(sa.insert(_projects).values(project_id=project_id, **values))

    async def image(self, project_id: str, image_id: str) -> ImageRecord | None:
        query = sa.select(_images).where(_images.c.project_id == project_id, _images.c.image_id == image_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return _image(row) if row else None

    async def put_image(self, project_id: str, record: ImageRecord) -> bool:
        """Store an image that is not there yet; False when it is."""
        row = (_images.c.project_id == project_id) & (_images.c.image_id == record.image_id)
        async with self._database.write() as connection:
            if (await connection.execute(sa.select(_images.c.image_id).where(row))).first():
                return False
            values = {**asdict(record), "info": dict(record.info)}
            await connection.execute(sa.insert(_images).values(project_id=project_id, **values))
        return True

    async def note(self, project_id: str, image_id: str, info: Mapping[str, Any]) -> None:
        """Add to what is known of an image; `strategy` is added to by its own keys."""
        await self._database.write_at_once(lambda connection: _note(connection, project_id, image_id, info))

    async def drop_image(self, project_id: str, image_id: str) -> None:
        """Forget an image, its labels, and to whom it was given."""
        async with self._database.write() as connection:
            for table in (_images, _labels, _samples):
                own = (table.c.project_id == project_id) & (table.c.image_id == image_id)
                await connection.execute(sa.delete(table).where(own))

    async def label(self, project_id: str, image_id: str, tag: str) -> LabelRecord | None:
        """A label with its voxels."""
        query = sa.select(_labels).where(_label_key(project_id, image_id, tag))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return _label(row) if row else None

    async def put_label(self, project_id: str, record: LabelRecord) -> None:
        """Store a label; the last one under a tag counts. Whoever held the image has no longer to."""
        values = {**asdict(record), "names": list(record.names), "annotations": list(record.annotations)}
        async with self._database.write() as connection:
            await connection.execute(
                sa.delete(_labels).where(_label_key(project_id, record.image_id, record.tag))
            )
            await connection.execute(sa.insert(_labels).values(project_id=project_id, **values))
            if record.tag == FINAL:
                held = (_samples.c.project_id == project_id) & (_samples.c.image_id == record.image_id)
                await connection.execute(sa.delete(_samples).where(held))

    async def note_label(self, project_id: str, image_id: str, tag: str, info: Mapping[str, Any]) -> bool:
        """Add to what is known of a label; False when there is none."""
        row = _label_key(project_id, image_id, tag)
        async with self._database.write() as connection:
            found = (await connection.execute(sa.select(_labels.c.info).where(row))).first()
            if found is None:
                return False
            await connection.execute(sa.update(_labels).where(row).values(info={**found.info, **info}))
        return True

    async def set_layer(self, project_id: str, job: str, layer: str) -> None:
        """Say which layer a job has predicted labels in."""
        own = (_labels.c.project_id == project_id) & (_labels.c.job == job)
        async with self._database.write() as connection:
            await connection.execute(sa.update(_labels).where(own).values(layer=layer))

    async def drop_label(self, project_id: str, image_id: str, tag: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(_labels).where(_label_key(project_id, image_id, tag)))

    async def drop_labels_of_job(self, project_id: str, job: str) -> None:
        """Forget labels that will never be there."""
        own = (_labels.c.project_id == project_id) & (_labels.c.job == job)
        async with self._database.write() as connection:
            await connection.execute(sa.delete(_labels).where(own))

    async def held(self, project_id: str) -> set[str]:
        """Images that somebody has."""
        query = sa.select(_samples.c.image_id).where(_is_held(project_id))
        return await self._database.read_at_once(lambda connection: set(connection.execute(query).scalars()))

    async def taken(self, project_id: str, images: Collection[str]) -> set[str]:
        """Those of some images that somebody has or that have a final label."""
        held = sa.select(_samples.c.image_id).where(_is_held(project_id), _samples.c.image_id.in_(images))
        final = sa.select(_labels.c.image_id).where(
            _labels.c.project_id == project_id, _labels.c.image_id.in_(images), _labels.c.tag == FINAL
        )
        query = sa.union_all(held, final)
        return await self._database.read_at_once(lambda connection: set(connection.execute(query).scalars()))

    async def sample(self, project_id: str, image_id: str) -> ServedSample | None:
        """Who has an image."""
        query = sa.select(_samples).where(_is_held(project_id), _samples.c.image_id == image_id)

        def read(connection: sa.Connection) -> ServedSample | None:
            row = connection.execute(query).first()
            return _sample(row) if row else None

        return await self._database.read_at_once(read)

    async def samples(self, project_id: str, user_id: str, client_id: str) -> list[ServedSample]:
        """Images that one program of a user has, those that were given longest ago first."""
        query = _of_program(project_id, user_id, client_id)
        return await self._database.read_at_once(
            lambda connection: [_sample(row) for row in connection.execute(query)]
        )

    async def serve(
        self, project_id: str, wanted: ServedSample, info: Mapping[str, Any], most: int
    ) -> list[ServedSample] | None:
        """Note that somebody is given an image, and what is known of it.

        Returns:
            What the same program of the user had been given before the last `most`; it is forgotten. None when another
            program or somebody else has the image, or it is labelled.
        """

        def write(connection: sa.Connection) -> list[ServedSample] | None:
            if not _put_sample(connection, project_id, wanted):
                return None
            _note(connection, project_id, wanted.image_id, info)
            rows = connection.execute(_of_program(project_id, wanted.user_id, wanted.client_id))
            oldest = [_sample(row) for row in rows][:-most]
            for each in oldest:
                row = (_samples.c.project_id == project_id) & (_samples.c.image_id == each.image_id)
                connection.execute(sa.delete(_samples).where(row))
            return oldest

        # A power cut may cost the note, which costs its user nothing but that others wait for the end of the lease.
        return await self._database.write_at_once(write, lazily=True)

    async def give_back(self, project_id: str, image_id: str) -> None:
        """Nobody has an image any more."""
        row = (_samples.c.project_id == project_id) & (_samples.c.image_id == image_id)
        async with self._database.write() as connection:
            await connection.execute(sa.delete(_samples).where(row))

    async def add_session(self, record: SessionRecord) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.insert(_sessions).values(**asdict(record)))

    async def session(self, session_id: str) -> SessionRecord | None:
        query = sa.select(_sessions).where(_sessions.c.session_id == session_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return SessionRecord(**row._mapping) if row else None

    async def touch_session(self, session_id: str) -> None:
        own = _sessions.c.session_id == session_id
        async with self._database.write() as connection:
            await connection.execute(sa.update(_sessions).where(own).values(access_time_us=now_us()))

    async def drop_session(self, session_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(sa.delete(_sessions).where(_sessions.c.session_id == session_id))

    async def expired_sessions(self) -> list[str]:
        """Ids of sessions that nobody has used for as long as they may last."""
        end = _sessions.c.access_time_us + _sessions.c.expiry_s * 1_000_000
        query = sa.select(_sessions.c.session_id).where(end < now_us())
        async with self._database.read() as connection:
            return [row.session_id for row in await connection.execute(query)]

    async def add_task(self, record: TaskRecord) -> None:
        values = {**asdict(record), "jobs": list(record.jobs), "request": dict(record.request)}
        async with self._database.write() as connection:
            await connection.execute(sa.insert(_tasks).values(**values))

    async def tasks(self, project_id: str, kind: str) -> list[TaskRecord]:
        """The last hundred of a kind, newest first."""
        query = sa.select(_tasks).where(_tasks.c.project_id == project_id, _tasks.c.kind == kind)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(_tasks.c.start_time_us.desc()).limit(100))
            return [TaskRecord(**{**row._mapping, "jobs": tuple(row.jobs)}) for row in rows]


def _is_held(project_id: str) -> sa.ColumnElement[bool]:
    return (_samples.c.project_id == project_id) & (_samples.c.expire_time_us > now_us())


def _of_program(project_id: str, user_id: str, client_id: str) -> sa.Select[Any]:
    own = (_samples.c.user_id == user_id) & (_samples.c.client_id == client_id)
    return sa.select(_samples).where(_is_held(project_id), own).order_by(_samples.c.serve_time_us)


def _put_sample(connection: sa.Connection, project_id: str, wanted: ServedSample) -> bool:
    """False when another program or somebody else has the image, or it is labelled."""
    row = (_samples.c.project_id == project_id) & (_samples.c.image_id == wanted.image_id)
    final = _label_key(project_id, wanted.image_id, FINAL)
    if connection.execute(sa.select(_labels.c.tag).where(final)).first():
        return False
    held = connection.execute(sa.select(_samples).where(row)).first()
    if held is not None:
        is_same = (held.user_id, held.client_id) == (wanted.user_id, wanted.client_id)
        if not is_same and held.expire_time_us > now_us():
            return False
        connection.execute(sa.delete(_samples).where(row))
    connection.execute(sa.insert(_samples).values(project_id=project_id, **asdict(wanted)))
    return True


def _note(connection: sa.Connection, project_id: str, image_id: str, info: Mapping[str, Any]) -> None:
    row = (_images.c.project_id == project_id) & (_images.c.image_id == image_id)
    found = connection.execute(sa.select(_images.c.info).where(row)).first()
    merged = {**(found.info if found else {}), **info}
    if found and isinstance(info.get("strategy"), Mapping):
        merged["strategy"] = {**found.info.get("strategy", {}), **info["strategy"]}
    if found:
        connection.execute(sa.update(_images).where(row).values(info=merged))
    else:
        values = {"uploaded_volume_id": "", "geometry": None, "info": merged}
        connection.execute(sa.insert(_images).values(project_id=project_id, image_id=image_id, **values))


def _label_key(project_id: str, image_id: str, tag: str) -> sa.ColumnElement[bool]:
    return (_labels.c.project_id == project_id) & (_labels.c.image_id == image_id) & (_labels.c.tag == tag)


def _image(row: Any) -> ImageRecord:
    return ImageRecord(row.image_id, row.info, row.uploaded_volume_id, row.geometry)


def _label(row: Any) -> LabelRecord:
    values = {name: value for name, value in row._mapping.items() if name != "project_id"}
    return LabelRecord(**{**values, "names": tuple(row.names), "annotations": tuple(row.annotations)})


def _sample(row: Any) -> ServedSample:
    return ServedSample(**{name: value for name, value in row._mapping.items() if name != "project_id"})
