from __future__ import annotations

import asyncio

import pytest
from biosegment_gateway.audit import Audit, is_change
from biosegment_gateway.sql import SqlEvents

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
    events = await audit.list(0, 10)
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
    while page := await audit.list(before, 3):
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
    assert len(await audit.list(0, 10)) == 1


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
