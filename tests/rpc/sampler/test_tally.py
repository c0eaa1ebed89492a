"""What the database adds up is what one gets by looking at each annotation."""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from biosegment_sampler.corrections import corrected
from biosegment_sampler.domain.annotation import Annotation, AnnotationState
from biosegment_sampler.domain.progress import AuthorTally, Day, Labelled, Reviews, Tally, WorkTime
from biosegment_sampler.sql import SqlLedger
from biosegment_sampler.tables import annotation_table
from sqlalchemy.dialects import sqlite

from biosegment.database import Database, migrate
from biosegment.volume import Region

DAY_S = 86_400


def made(count: int, seed: int = 0) -> list[Annotation]:
    rng = random.Random(seed)
    found = []
    for number in range(count):
        depth = rng.choice([1, 1, 3])
        counts = {value: rng.randrange(1, 1 << 40) for value in rng.sample([1, 2, 3, 255], rng.randint(1, 3))}
        note = Annotation(
            f"projects/p/volumes/v{number % 2}/annotations/a{number}",
            number + 1,
            f"v{number % 2}",
            Region.of_shape((depth, 8, 8), (0, 0, 0)),
            rng.choice(["ann", "bob", "o'neil"]),
            rng.choice(["", f"s{number // 2}"]),
            rng.choice([0.0, 0.0, rng.uniform(1, 90)]),
            counts,
            # Not near midnight, where databases round as they like.
            rng.randrange(20_000, 20_009) * DAY_S + rng.uniform(10, DAY_S - 10),
            rng.choice(list(AnnotationState)),
        )
        found.append(note)
    return found


def expected(notes: list[Annotation], seen: set[str]) -> Tally:
    """From the annotations themselves."""
    holding = [note for note in notes if note.state.holds]
    last = {(note.sample_id, note.author): note.sequence for note in holding}
    labelled = [
        note for note in holding if not note.sample_id or last[note.sample_id, note.author] == note.sequence
    ]
    assert len(labelled) < len(holding)

    def work(some: list[Annotation], median: bool = True) -> WorkTime:
        times = [note.work_time_s for note in some if note.work_time_s]
        return WorkTime(len(times), sum(times), statistics.median(times) if times and median else 0.0)

    groups: dict[tuple[str, str, bool, int], list[int]] = {}
    for note in labelled:
        for value, count in note.voxel_counts.items():
            key = (note.author, note.volume_id, note.region.shape.z == 1, value)
            groups.setdefault(key, []).append(count)
    authors = {}
    for author in {note.author for note in notes}:
        own = [note for note in notes if note.author == author]
        held = [note for note in own if note.state.holds]
        states = {state.value: sum(note.state is state for note in own) for state in AnnotationState}
        samples = {note.sample_id for note in held if note.sample_id}
        newest = max(note.created_at for note in own)
        authors[author] = AuthorTally(Reviews(**states), len(samples), work(held), newest)
    days = []
    for number in sorted({int(note.created_at // DAY_S) for note in holding}):
        some = [note for note in holding if int(note.created_at // DAY_S) == number]
        voxels = sum(sum(note.voxel_counts.values()) for note in some if note in labelled)
        people = len({note.author for note in some})
        days.append(Day(number, len(some), voxels, people, work(some, median=False)))
    return Tally(
        labelled=[Labelled(*key, len(counts), sum(counts)) for key, counts in groups.items()],
        authors=authors,
        days=days,
        work=work(holding),
        new_annotations=sum(note.name not in seen for note in labelled),
    )


def rounded(tally: Tally) -> Tally:
    """In an order of its own, and without the last digits of sums."""

    def close(work: WorkTime) -> WorkTime:
        return WorkTime(work.annotations, round(work.total_s, 6), round(work.median_s, 6))

    return replace(
        tally,
        labelled=sorted(
            tally.labelled, key=lambda each: (each.author, each.volume_id, each.flat, each.class_value)
        ),
        authors={
            name: replace(own, work=close(own.work), last_annotation_at=round(own.last_annotation_at, 3))
            for name, own in tally.authors.items()
        },
        days=[replace(day, work=close(day.work)) for day in tally.days],
        work=close(tally.work),
    )


async def test_the_database_adds_up_what_holds(ledger: SqlLedger) -> None:
    notes = made(400)
    seen = {note.name for note in notes[:250]}
    async with ledger.write("p") as transaction:
        for note in notes:
            await transaction.put_annotation(note)
        await transaction.set_latest_model(sorted(seen))
    async with ledger.write("q") as transaction:
        await transaction.put_annotation(replace(notes[0], name="projects/q/volumes/v0/annotations/a0"))
        assert await transaction.has_annotations() == notes[0].state.holds
    async with ledger.read("p") as transaction:
        found = await transaction.tally()
        assert await transaction.has_annotations()
        assert await transaction.new_annotations() == found.new_annotations
    assert rounded(found) == rounded(expected(notes, seen))


async def test_a_project_without_annotations_has_a_tally_too(ledger: SqlLedger) -> None:
    async with ledger.read("p") as transaction:
        assert await transaction.tally() == Tally(labelled=[], days=[])
        assert not await transaction.has_annotations()
        assert await transaction.samples_by_state(0.0) == {}


async def test_what_its_author_corrects_counts_once(ledger: SqlLedger) -> None:
    (note,) = made(1)
    note = replace(note, author="ann", sample_id="s", voxel_counts={1: 60, 2: 4}, work_time_s=5.0)
    note = replace(note, state=AnnotationState.ACCEPTED)
    again = [replace(note, name=f"a{number}", sequence=number) for number in range(2, 5)]
    others = [
        # A later one that holds no more, somebody else's, and regions of one's own choice.
        replace(note, name="a5", sequence=5, state=AnnotationState.REJECTED),
        replace(note, name="a6", sequence=6, author="bob"),
        *(replace(note, name=f"a{number}", sequence=number, author="cem", sample_id="") for number in (7, 8)),
    ]
    async with ledger.write("p") as transaction:
        for each in (note, *again, *others):
            await transaction.put_annotation(each)
    async with ledger.read("p") as transaction:
        found = await transaction.tally()
    voxels = {(each.author, each.class_value): (each.annotations, each.voxels) for each in found.labelled}
    assert voxels == {
        ("ann", 1): (1, 60),
        ("ann", 2): (1, 4),
        ("bob", 1): (1, 60),
        ("bob", 2): (1, 4),
        ("cem", 1): (2, 120),
        ("cem", 2): (2, 8),
    }
    assert found.new_annotations == 4
    (day,) = found.days
    assert day.voxels == 4 * 64
    # Records, and the work that they were, count as they are.
    assert (day.annotations, day.work.annotations) == (7, 7)
    assert found.authors["ann"].reviews == Reviews(accepted=4, rejected=1)


async def test_corrections_are_looked_up_by_their_sample(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite'}"
    await asyncio.to_thread(migrate, url, "biosegment_sampler")
    query = sa.select(annotation_table.c.name).where(
        annotation_table.c.project_id == "p", annotation_table.c.state == "pending", corrected()
    )
    text = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    database = Database.open(url)
    async with database.read() as connection:
        plan = [row[3] for row in await connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
    await database.close()
    assert any("annotations_by_sample (project_id=? AND sample_id=?)" in step for step in plan), plan


async def test_the_last_days_are_kept(ledger: SqlLedger) -> None:
    (note,) = made(1)
    async with ledger.write("p") as transaction:
        for number in range(400):
            day = replace(
                note, name=f"a{number}", state=AnnotationState.PENDING, created_at=(number + 0.5) * DAY_S
            )
            await transaction.put_annotation(day)
    async with ledger.read("p") as transaction:
        days = (await transaction.tally()).days
    assert [day.number for day in days] == list(range(34, 400))
    assert {day.voxels for day in days} == {sum(note.voxel_counts.values())}
