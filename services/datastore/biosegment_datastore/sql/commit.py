"""Commits of annotations in SQL, many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from biosegment.database import Database
from biosegment.errors import BiosegmentError, Conflict
from biosegment.failpoint import failpoint
from biosegment_datastore.annotations.annotation import Action, Annotation
from biosegment_datastore.clock import now_us
from biosegment_datastore.project import Project, make_etag
from biosegment_datastore.request import Request
from biosegment_datastore.sql.annotation_row import (
    OF_RECORD,
    annotation_of,
    overlapping,
    record_row,
    row_of,
    unindexed,
)
from biosegment_datastore.sql.ended_lease import ended_leases
from biosegment_datastore.sql.project import project_of
from biosegment_datastore.sql.record import advance, record_time_us, want
from biosegment_datastore.sql.request import project_not_found, volume_not_found
from biosegment_datastore.sql.tables import ANNOTATIONS, DRAFTS, GARBAGE, PROJECTS, RECORDS, REQUESTS, VOLUMES
from biosegment_datastore.sql.volume import volume_of, volume_query
from biosegment_datastore.volume import Volume


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody wants to commit."""

    project_id: str
    volume_id: str
    request: Request


@dataclass(frozen=True, slots=True)
class Ground:
    """What is there; `earlier` is what the same request made before."""

    project: Project
    volume: Volume
    earlier: Annotation | None


@dataclass(frozen=True, slots=True)
class Commit:
    """An annotation whose label block is durable.

    Attributes:
        annotation: Without number and time, which it gets.
        request: That it comes from; one without id is never repeated.
        base_sequence: Number of the last record that its author had seen; None for no such check.
        draft_id: Of the draft of its author that it finishes; '' for none.
        ground: What it was checked against, which must not have changed since; None for no such check.
        term: Number of the lease under which it answers its sample.
    """

    annotation: Annotation
    request: Request
    base_sequence: int | None = None
    draft_id: str = ""
    ground: Ground | None = None
    term: int = 0


class SqlCommits:
    """New annotations; the order of the list is that of their records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, places: Sequence[Place]) -> Sequence[Ground | Exception]:
        """What commits need to know first; NotFound PROJECT_NOT_FOUND or VOLUME_NOT_FOUND, AlreadyExists
        REQUEST_ID_REUSED for each that has it.
        """
        return await self._database.read_at_once(lambda connection: _look(connection, places))

    async def commit_many(self, commits: Sequence[Commit]) -> Sequence[Annotation | Exception]:
        """Store annotations in one transaction; all that are answered with an annotation are durable then.

        Returns:
            For each the stored annotation, that of an earlier commit with the same request, or
            Conflict BASE_OUTDATED when a later record overlaps it or GROUND_CHANGED, AlreadyExists REQUEST_ID_REUSED,
            FailedPrecondition LEASE_TAKEN_OVER, NotFound PROJECT_NOT_FOUND or VOLUME_NOT_FOUND.
        """
        return await self._database.write_at_once(lambda connection: _commit_all(connection, commits))


def _look(connection: sa.Connection, places: Sequence[Place]) -> Sequence[Ground | Exception]:
    lookup = _Lookup(connection)
    found: list[Ground | Exception] = []
    for place in places:
        try:
            found.append(lookup.ground(place, places))
        except BiosegmentError as error:
            found.append(error)
    return found


def _commit_all(connection: sa.Connection, commits: Sequence[Commit]) -> Sequence[Annotation | Exception]:
    outcomes: dict[int, Annotation | Exception] = {}
    # In one order in every instance, so that no two wait for each other.
    for project_id in sorted({each.annotation.project_id for each in commits}):
        mine = {n: each for n, each in enumerate(commits) if each.annotation.project_id == project_id}
        outcomes.update(_commit_to_project(connection, project_id, mine))
    return [outcomes[number] for number in range(len(commits))]


def _commit_to_project(
    connection: sa.Connection, project_id: str, commits: dict[int, Commit]
) -> dict[int, Annotation | Exception]:
    try:
        etag = _lock_project(connection, project_id)
    except BiosegmentError as error:
        return dict.fromkeys(commits, error)
    earlier = _earlier(connection, [each.request for each in commits.values()])
    volumes = _volume_etags(connection, project_id, {each.annotation.volume_id for each in commits.values()})
    samples = {each.annotation.sample for each in commits.values() if each.annotation.sample}
    ended = ended_leases(connection, project_id, samples)
    outcomes: dict[int, Annotation | Exception] = {}
    accepted: dict[int, Commit] = {}
    firsts: dict[str, int] = {}
    for number, each in commits.items():
        try:
            if (known := earlier.get((each.request.scope, each.request.id))) is not None:
                outcomes[number] = _load(connection, project_id, each.request.check_same(*known))
                continue
            if each.request.id in firsts:  # the same request twice in one batch
                each.request.check_same(commits[firsts[each.request.id]].request.digest, "an annotation")
                continue
            if each.annotation.volume_id not in volumes:
                raise volume_not_found(project_id, each.annotation.volume_id)
            _require_ground(each, etag, volumes[each.annotation.volume_id])
            if (over := ended.get(each.annotation.sample)) is not None:
                over.require(each.term)
            _require_base(connection, each, accepted.values())
        except BiosegmentError as error:
            outcomes[number] = error
            continue
        accepted[number] = each
        if each.request.id:
            firsts[each.request.id] = number
    outcomes.update(_store(connection, project_id, accepted))
    repeated = {
        number: outcomes[firsts[each.request.id]]
        for number, each in commits.items()
        if number not in outcomes
    }
    return {**outcomes, **repeated}


def _store(
    connection: sa.Connection, project_id: str, commits: dict[int, Commit]
) -> dict[int, Annotation | Exception]:
    if not commits:
        return {}
    last = advance(connection, project_id, len(commits))
    now = record_time_us(connection, project_id)
    stored = {
        number: replace(each.annotation, sequence=sequence, create_time_us=now)
        for sequence, (number, each) in enumerate(commits.items(), last - len(commits) + 1)
    }
    connection.execute(sa.insert(ANNOTATIONS), [row_of(each) for each in stored.values()])
    records = [
        record_row(each, each.sequence, Action.COMMITTED, each.author, now) for each in stored.values()
    ]
    connection.execute(sa.insert(RECORDS), records)
    failpoint("datastore.annotation.rows_inserted")
    wanted = {each.volume_id: each.sequence for each in stored.values()}
    for volume_id, sequence in wanted.items():
        want(connection, project_id, volume_id, sequence)
    requests = [
        {
            "scope": each.request.scope,
            "request_id": each.request.id,
            "digest": each.request.digest,
            "resource": each.annotation.id,
        }
        for each in commits.values()
        if each.request.id
    ]
    if requests:
        connection.execute(sa.insert(REQUESTS), requests)
    for each in commits.values():
        if each.draft_id:
            _finish_draft(connection, each)
    return dict(stored)


def _finish_draft(connection: sa.Connection, commit: Commit) -> None:
    statement = (
        sa.delete(DRAFTS)
        .where(
            DRAFTS.c.project_id == commit.annotation.project_id,
            DRAFTS.c.volume_id == commit.annotation.volume_id,
            DRAFTS.c.author == commit.annotation.author,
            DRAFTS.c.id == commit.draft_id,
        )
        .returning(DRAFTS.c.key)
    )
    key = (connection.execute(statement)).scalar_one_or_none()
    if key is not None:
        # Its key is its own: nothing is doomed there yet.
        row = {"prefix": key, "due_us": now_us(), "owner": ""}
        connection.execute(sa.insert(GARBAGE).values(**row))


def _earlier(
    connection: sa.Connection, requests: Sequence[Request]
) -> dict[tuple[str, str], tuple[str, str]]:
    """Digest and resource of requests that were carried out, by scope and id."""
    keys = {(each.scope, each.id) for each in requests if each.id}
    if not keys:
        return {}
    query = sa.select(REQUESTS).where(
        REQUESTS.c.scope.in_({scope for scope, _ in keys}),
        REQUESTS.c.request_id.in_({key for _, key in keys}),
    )
    rows = (connection.execute(query)).all()
    return {(row.scope, row.request_id): (row.digest, row.resource) for row in rows}


def _volume_etags(connection: sa.Connection, project_id: str, wanted: set[str]) -> dict[str, str]:
    columns = VOLUMES.c.id, VOLUMES.c.create_time_us, VOLUMES.c.version
    query = sa.select(*columns).where(VOLUMES.c.project_id == project_id, VOLUMES.c.id.in_(wanted))
    return {row.id: make_etag(row.create_time_us, row.version) for row in connection.execute(query)}


def _load(connection: sa.Connection, project_id: str, annotation_id: str) -> Annotation:
    query = sa.select(ANNOTATIONS).where(
        ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.id == annotation_id
    )
    return annotation_of((connection.execute(query)).one())


def _require_ground(commit: Commit, project_etag: str, volume_etag: str) -> None:
    ground = commit.ground
    if ground is not None and (ground.project.etag, ground.volume.etag) != (project_etag, volume_etag):
        raise Conflict("GROUND_CHANGED", f"{ground.volume.name} or its project was changed; look again")


def _require_base(connection: sa.Connection, commit: Commit, before: Any) -> None:
    """Conflict BASE_OUTDATED when a later record, or a commit `before` in the same batch, overlaps it."""
    new, base = commit.annotation, commit.base_sequence
    if base is None:
        return
    for other in before:
        if other.annotation.volume_id == new.volume_id and other.annotation.region.intersection(new.region):
            raise outdated(other.annotation.name, base, "")
    query: sa.Select[Any] = (
        sa.select(RECORDS.c.sequence, ANNOTATIONS.c.id)
        .join(ANNOTATIONS, OF_RECORD)
        .where(unindexed(RECORDS.c.sequence) > base)
        .order_by(unindexed(RECORDS.c.sequence).desc())
        .limit(1)
    )
    row = (
        connection.execute(
            overlapping(query, new.project_id, new.volume_id, new.region, connection.dialect.name)
        )
    ).one_or_none()
    if row is not None:
        name = f"projects/{new.project_id}/volumes/{new.volume_id}/annotations/{row.id}"
        raise outdated(name, base, str(row.sequence))


def outdated(newer: str, base: int, sequence: str) -> Conflict:
    return Conflict(
        "BASE_OUTDATED",
        f"{newer} changed this region after record {base}, which you saw last; look at it and commit again",
        annotation=newer,
        sequence=sequence,
    )


def _lock_project(connection: sa.Connection, project_id: str) -> str:
    columns = PROJECTS.c.create_time_us, PROJECTS.c.version
    query = sa.select(*columns).where(PROJECTS.c.id == project_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise project_not_found(project_id)
    return make_etag(row.create_time_us, row.version)


class _Lookup:
    """Reads each project, volume and request of a batch once."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._projects: dict[str, Project] = {}
        self._volumes: dict[tuple[str, str], Volume] = {}
        self._earlier: dict[tuple[str, str], tuple[str, str]] | None = None

    def ground(self, place: Place, places: Sequence[Place]) -> Ground:
        if self._earlier is None:
            self._earlier = _earlier(self._connection, [each.request for each in places])
        known = self._earlier.get((place.request.scope, place.request.id))
        earlier = None
        if known is not None:
            earlier = _load(self._connection, place.project_id, place.request.check_same(*known))
        return Ground(self._project(place.project_id), self._volume(place), earlier)

    def _project(self, project_id: str) -> Project:
        if project_id not in self._projects:
            query = sa.select(PROJECTS).where(PROJECTS.c.id == project_id)
            row = self._connection.execute(query).one_or_none()
            if row is None:
                raise project_not_found(project_id)
            self._projects[project_id] = project_of(row)
        return self._projects[project_id]

    def _volume(self, place: Place) -> Volume:
        key = (place.project_id, place.volume_id)
        if key not in self._volumes:
            row = self._connection.execute(volume_query(*key)).one_or_none()
            if row is None:
                raise volume_not_found(*key)
            self._volumes[key] = volume_of(row)
        return self._volumes[key]
