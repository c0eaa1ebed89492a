"""What annotators have to do with each other as rows: on both databases, and from those of the release before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from biosegment_sampler import rows
from biosegment_sampler.domain.agreement import Comparison, Overlap, pairs_of
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.event import Action, Event, Flag
from biosegment_sampler.domain.lease import GRACE_S, Lease, Purpose
from biosegment_sampler.domain.pool import VolumeRegion
from biosegment_sampler.domain.review import Review
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.sql import SqlLedger

from biosegment.database import Database, begin_writing, migrate, open_engine, upgrade
from biosegment.volume import Region
from tests.servers.postgres import postgres

PACKAGE = "biosegment_sampler"
BOX = Region.of_shape((1, 8, 8), (2, 3, 4))


def sample(number: int, state: SampleState = SampleState.LEASED, **fields: object) -> Sample:
    plain = Sample(f"s{number}", "p", "v", BOX, state, "random", float(number))
    return replace(plain, **fields)  # type: ignore[arg-type]


def note(number: int, author: str, sample_id: str, region: Region = BOX) -> Annotation:
    return Annotation(f"n{number}", number, "v", region, author, sample_id, 0.0, {1: 64}, float(number))


def lease(holder: str, expires_at: float, session: str = "", purpose: Purpose = Purpose.ANNOTATE) -> Lease:
    return Lease(holder, 1.0, expires_at, holder.title(), session, 2.0, 3.0, purpose)


async def test_leases_flags_and_events_are_read_as_they_were_written(ledger: SqlLedger) -> None:
    written = sample(
        1,
        lease=lease("ann", 50.0, "window", Purpose.SECOND),
        annotation="n1",
        skipped_by="bob",
        term=3,
        flag=Flag('what\'s "this"?', "bob", 4.5),
        events=(Event(1.5, "bob", Action.FLAGGED, "what?"), Event(2.5, "ann", Action.TAKEN_OVER, "bob")),
        wants_second=True,
        authors=2,
    )
    async with ledger.write("p") as transaction:
        await transaction.put_samples([written])
        await transaction.put_samples([replace(written, term=4)])
    async with ledger.read("p") as transaction:
        assert await transaction.sample("s1") == replace(written, term=4)


async def test_samples_are_found_by_whom_they_concern(ledger: SqlLedger) -> None:
    async with ledger.write("p") as transaction:
        await transaction.put_samples(
            [
                sample(1, lease=lease("ann", 50.0)),
                sample(2, SampleState.OPEN, lease=lease("ann", 40.0)),
                sample(3, SampleState.SKIPPED, skip_reason="x", skipped_by="ann"),
                sample(4, SampleState.SKIPPED, flag=Flag("?", "ann", 1.0)),
                sample(5, SampleState.ANNOTATED, annotation="n5"),
                sample(6, lease=lease("bob", 50.0)),
                # Its correction ran out: annotated as before.
                sample(7, lease=lease("bob", 5.0, purpose=Purpose.CORRECT), annotation="n7"),
            ]
        )
        await transaction.put_annotation(note(5, "ann", "s5"))
    async with ledger.read("p") as transaction:
        mine = await transaction.list_samples(frozenset(), "", "", 10, 20.0, "ann")
        assert [each.sample_id for each in mine] == ["s5", "s4", "s3", "s2", "s1"]
        flagged = await transaction.list_samples(frozenset(), "", "", 10, 20.0, "", True)
        assert [each.sample_id for each in flagged] == ["s4"]
        annotated = await transaction.list_samples(frozenset({SampleState.ANNOTATED}), "", "", 10, 20.0)
        assert [each.sample_id for each in annotated] == ["s7", "s5"]
        resumable = await transaction.room.resumable("ann", 45.0)
        assert [each.sample_id for each in resumable] == ["s1"]
        held = await transaction.room.held_by_others(VolumeRegion("v", BOX), "ann", 20.0)
        assert [each.sample_id for each in held] == ["s6"]
        assert not await transaction.room.held_by_others(VolumeRegion("w", BOX), "ann", 20.0)
        counts = await transaction.room.counts("bob", ["v"], 20.0)
        assert (dict(counts.held), counts.skipped, counts.flagged) == ({"ann": 1, "bob": 1}, 1, 1)
        assert (counts.awaiting_review, counts.reviewable, counts.annotations) == (1, 1, 1)
        elsewhere = await transaction.room.counts("bob", ["w"], 20.0)
        assert (elsewhere.skipped, elsewhere.flagged, elsewhere.annotations) == (0, 0, 0)


async def test_a_second_annotator_is_offered_what_one_other_annotated(ledger: SqlLedger) -> None:
    fields = {"annotation": "n1", "authors": 1, "wants_second": True}
    async with ledger.write("p") as transaction:
        await transaction.put_samples(
            [
                sample(1, SampleState.ANNOTATED, **fields),
                sample(2, SampleState.ANNOTATED, **{**fields, "authors": 2}),
                sample(3, SampleState.ANNOTATED, **{**fields, "wants_second": False}),
                sample(4, SampleState.ANNOTATED, **fields, flag=Flag("?", "bob", 1.0)),
                sample(5, lease=lease("cem", 50.0), **fields),
            ]
        )
        await transaction.put_annotation(note(1, "ann", "s1"))
    async with ledger.read("p") as transaction:
        assert [each.sample_id for each in await transaction.room.wanting_second("bob", ["v"], 9)] == ["s1"]
        assert [each.sample_id for each in await transaction.room.wanting_second("bob", ["w"], 9)] == []
        assert await transaction.room.wanting_second("ann", ["v"], 9) == []


async def test_reviews_are_queued_held_and_dropped(ledger: SqlLedger) -> None:
    async with ledger.write("p") as transaction:
        for number, author in enumerate(("ann", "bob", "ann", "ann"), 1):
            await transaction.put_annotation(note(number, author, "" if number == 4 else f"s{number}"))
        await transaction.put_annotation(replace(note(9, "ann", "s9"), state=AnnotationState.ACCEPTED))
        held = Review(note(1, "ann", "s1"), lease("rev", 50.0, "a"))
        await transaction.room.put_reviews([held])
        await transaction.room.put_reviews([held])
        assert await transaction.room.reviews(20.0) == [held]
        waiting = await transaction.room.unreviewed("rev", ["v"], 9, 20.0)
        assert [each.name for each in waiting] == ["n2", "n3"]
        assert [each.name for each in await transaction.room.unreviewed("bob", ["v"], 9, 20.0)] == ["n3"]
        assert await transaction.room.count_unreviewed("", ["v"], 20.0) == 2
        # What its author corrected is not looked at any more, unless the correction was taken back.
        correction = note(7, "ann", "s3")
        await transaction.put_annotation(correction)
        assert [each.name for each in await transaction.room.unreviewed("bob", ["v"], 9, 20.0)] == ["n7"]
        await transaction.put_annotation(correction.reverted())
        assert await transaction.room.reviews(50.0 + GRACE_S) == []
        assert await transaction.room.count_unreviewed("rev", ["v"], 50.0 + GRACE_S) == 3
        await transaction.room.drop_reviews(["n1", "absent"])
        assert await transaction.room.reviews(20.0) == []


async def test_comparisons_are_kept_of_pairs_that_hold(ledger: SqlLedger) -> None:
    notes = [
        note(1, "ann", "s1"),
        note(2, "bob", "s1"),
        note(3, "ann", "s1"),
        note(4, "ann", "s2"),
        note(5, "cem", "s1"),
    ]
    made = {("n2", "n3"): Comparison(64, 60, {2: Overlap(5, 9), 3: Overlap(0, 0)})}
    async with ledger.write("p") as transaction:
        for each in notes:
            await transaction.put_annotation(each)
        await transaction.put_annotation(replace(note(6, "dee", "s2"), state=AnnotationState.REJECTED))
        await transaction.room.put_comparisons(made)
        await transaction.room.put_comparisons(made)
    async with ledger.read("p") as transaction:
        assert await transaction.room.comparisons() == made
        found = pairs_of(await transaction.room.doubly_annotated(""))
        assert [pair.key for pair in found] == [("n3", "n5"), ("n2", "n5"), ("n2", "n3")]
        assert await transaction.room.doubly_annotated("s2") == []
        since = await transaction.room.annotated_since(VolumeRegion("v", BOX), 2.0)
        assert [each.name for each in since] == ["n2", "n3", "n4", "n5"]
        assert not await transaction.room.annotated_since(VolumeRegion("w", BOX), 2.0)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'sampler.sqlite'}"
        return
    with postgres() as server:
        yield server.replace("postgresql://", "postgresql+psycopg://")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
async def test_samples_of_the_first_release_go_on(kind: str, tmp_path: Path) -> None:
    old = {
        **rows.region_values(BOX),
        **{"project_id": "p", "sample_id": "s1", "volume_id": "v", "state": "leased", "strategy": "random"},
        **{"score": 0.5, "rank": 1, "model": "m", "score_layer": "l", "seed": 7, "holder": "ann"},
        **{"lease_issued_at": 10.0, "lease_expires_at": 100.0, "annotation": "", "skip_reason": ""},
        **{"notice": "", "created_at": 9.0},
    }
    answered = {**old, "sample_id": "s2", "state": "annotated", "holder": "", "annotation": "n1"}
    with database(kind, tmp_path) as url:
        engine = open_engine(url)
        table = sa.table("samples", *(sa.column(name) for name in old))
        with begin_writing(engine) as connection:
            upgrade(connection, PACKAGE, "0001")
            connection.execute(sa.insert(table), [old, answered])
        engine.dispose()
        migrate(url, PACKAGE)
        opened = Database.open(url)
        async with SqlLedger(opened).read("p") as transaction:
            first, second = await transaction.sample("s1"), await transaction.sample("s2")
        await opened.close()
    assert first is not None
    assert second is not None
    assert first.lease == Lease("ann", 10.0, 100.0, "", "", 10.0, 0.0)
    assert (first.term, first.flag, first.events, first.wants_second) == (0, None, (), False)
    assert first.held_by("ann", 99.0)
    assert (second.lease, second.authors) == (None, 1)
    # How coarse its score map is was not kept then.
    assert (first.score_layer, first.score_region) == ("l", None)
