from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from biosegment_gateway.audit import FORGETTING, Audit, Recording, is_change
from biosegment_gateway.audit_sql import SqlEvents
from biosegment_gateway.domain import AuditQuery
from sqlalchemy.exc import IntegrityError

from biosegment.auth import Kind, Principal
from biosegment.errors import PermissionDenied, Unavailable

ANN = Principal(Kind.USER, "ann")
METHOD = "/biosegment.api.datastore.v1alpha1.DatastoreService/DeleteProject"


@pytest.fixture
def audit(database, clock):
    return Audit(SqlEvents(database), clock)


async def test_what_was_done_and_what_was_refused_are_both_recorded(audit, clock):
    async with audit.recording(METHOD, ANN, "ipv4:127.0.0.1:1") as recording:
        recording.resource = "projects/p"
    with pytest.raises(PermissionDenied):
        async with audit.recording(METHOD, ANN, "peer"):
            raise PermissionDenied("NOT_ALLOWED", "no")
    with pytest.raises(ZeroDivisionError):
        async with audit.recording(METHOD, ANN, "peer"):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with audit.recording(METHOD, ANN, "peer"):
            raise asyncio.CancelledError
    events = await audit.list(AuditQuery())
    assert [event.outcome for event in events] == ["CANCELLED", "INTERNAL", "PERMISSION_DENIED", "OK"]
    first = events[-1]
    assert (first.user_id, first.action, first.resource, first.peer, first.time) == (
        "ann",
        METHOD[1:],
        "projects/p",
        "ipv4:127.0.0.1:1",
        clock(),
    )


async def test_pages_go_back_in_time(audit):
    for number in range(7):
        async with audit.recording(METHOD, ANN, "peer", f"projects/{number}"):
            pass
    seen, before = [], 0
    while page := await audit.list(AuditQuery(before_sequence=before, limit=3)):
        seen += [event.resource for event in page]
        before = page[-1].sequence
    assert seen == [f"projects/{number}" for number in reversed(range(7))]


async def test_events_wait_while_the_database_is_away(database, clock):
    class Away(SqlEvents):
        away = True

        async def add_events(self, events):
            if self.away:
                raise Unavailable("DATABASE_UNAVAILABLE", "away")
            await super().add_events(events)

    events = Away(database)
    audit = Audit(events, clock)
    async with audit.recording(METHOD, ANN, "peer"):
        pass
    with pytest.raises(Unavailable):
        await audit.flush()
    events.away = False
    assert len(await audit.list(AuditQuery())) == 1


async def test_of_recordings_in_one_another_the_innermost_counts(audit):
    async with audit.recording("POST /api/x", ANN, "peer") as outer:
        async with audit.recording(METHOD, ANN, "peer", "projects/p"):
            pass
        with pytest.raises(PermissionDenied):
            async with audit.recording(METHOD, ANN, "peer", "projects/q"):
                raise PermissionDenied("NOT_ALLOWED", "no")
        outer.outcome = "UNKNOWN"
    async with audit.recording("POST /upload", ANN, "peer"):
        pass
    events = await audit.list(AuditQuery(oldest_first=True))
    assert [(event.action, event.resource, event.outcome) for event in events] == [
        (METHOD[1:], "projects/p", "OK"),
        (METHOD[1:], "projects/q", "PERMISSION_DENIED"),
        ("POST /upload", "", "OK"),
    ]


@pytest.fixture
async def story(audit, clock):
    """Seven events, an hour apart."""
    for number, (user, resource, action) in enumerate(
        [
            ("ann", "projects/p", "x.ProjectService/CreateProject"),
            ("ann", "projects/p/volumes/v", "x.JobService/CreateJob"),
            ("bob", "projects/p2", "x.ProjectService/CreateProject"),
            ("bob", "projects/p_", "x.ProjectService/DeleteProject"),
            ("", "", "POST /auth/login"),
            ("ann", "users/bob", "x.IdentityService/CreateToken"),
            ("a\0n", "a%b\udc80", "x.Y/100%"),
        ]
    ):
        audit.note(Recording(action, user, resource), f"10.0.0.{number}:1")
        clock.forward(hours=1)
    return audit


async def _found(audit, **query):
    return [event.sequence for event in await audit.list(AuditQuery(**query))]


async def test_events_are_found_by_who_what_and_when(story, clock):
    assert await _found(story, user_id="ann") == [6, 2, 1]
    assert await _found(story, resource="projects/p") == [2, 1], "neither p2 nor p_"
    assert await _found(story, resource="projects") == [4, 3, 2, 1]
    assert await _found(story, action="createproject") == [3, 1]
    assert await _found(story, action="%") == [7], "a character like any other"
    assert await _found(story, action="_") == []
    since, until = clock() - timedelta(hours=6), clock() - timedelta(hours=4)
    assert await _found(story, start=since, end=until) == [3, 2]
    assert await _found(story, user_id="bob", action="Delete", resource="projects/p_") == [4]
    assert await _found(story, user_id="nobody") == []
    assert await _found(story, user_id="a\0n", resource="a%b\udc80") == [7], "what no database can hold"


async def test_the_log_is_read_on_from_where_one_stopped(story):
    assert await _found(story, oldest_first=True, limit=2) == [1, 2]
    assert await _found(story, oldest_first=True, after_sequence=2, limit=3) == [3, 4, 5]
    assert await _found(story, after_sequence=5) == [7, 6]
    assert await _found(story, before_sequence=3, after_sequence=1) == [2]


CHANGES = [
    "UPDATE audit_events SET user_id = 'somebody'",
    "UPDATE audit_events SET sequence = 100 WHERE sequence = 2",
    "DELETE FROM audit_events",
    "DELETE FROM audit_events WHERE sequence = 7",
    "UPDATE audit_retention SET end_us = 4000000000000000",
    "DELETE FROM audit_retention",
]


@pytest.mark.parametrize(
    "change",
    [*CHANGES, "INSERT OR REPLACE INTO audit_events VALUES (2, 0, 'somebody', '', '', '', '')"],
)
async def test_the_database_refuses_to_change_the_past(story, database, clock, change):
    await story.flush()
    await story.forget(timedelta(hours=6, minutes=30))
    before = await story.list(AuditQuery())
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(sa.text(change))
    assert await story.list(AuditQuery()) == before


async def test_events_go_when_their_time_is_over_and_that_is_recorded(story, clock):
    await story.flush()
    assert await story.forget(timedelta(days=1)) == 0
    assert await story.forget(timedelta(hours=4)) == 3
    assert await story.forget(timedelta(hours=4)) == 0
    newest, *rest = await story.list(AuditQuery())
    assert [event.sequence for event in rest] == [7, 6, 5, 4]
    assert newest.action == FORGETTING
    assert newest.resource == f"3 events before {(clock() - timedelta(hours=4)).isoformat()}"


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("GetVolume", False),
        ("ListJobs", False),
        ("WatchJob", False),
        ("ReadRegion", False),
        ("ExportModel", False),
    ]
    + [
        (name, True) for name in ("CreateJob", "ClaimSamples", "CommitAnnotation", "WriteRegion", "SetMember")
    ],
)
def test_reading_is_not_recorded(method, change):
    assert is_change(f"/biosegment.api.x.Y/{method}") is change
