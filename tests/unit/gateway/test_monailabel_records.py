"""What is remembered for MONAI Label clients: which images have labels, and who has which."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa
from biosegment_gateway.monailabel.record import FINAL, ORIGINAL, LabelNote, LabelRecord, ServedSample
from biosegment_gateway.monailabel.sql import Records, now_us

from biosegment.database import Database

HOUR_US = 3_600_000_000


def label(image_id: str, tag: str = FINAL, job: str = "", layer: str = "") -> LabelRecord:
    return LabelRecord(image_id, tag, ".nrrd", {"of": image_id}, "ann", now_us(), job=job, layer=layer)


def served(image_id: str, user: str = "ann", age: int = 0, expire_us: int = HOUR_US) -> ServedSample:
    now = now_us()
    return ServedSample(
        image_id, user, "slicer", f"projects/p/samples/{image_id}", "t", now - age, now + expire_us
    )


async def test_labels_that_a_job_still_predicts_are_not_there_yet(database: Database) -> None:
    records = Records(database)
    for each in (label("a"), label("b", "my tag"), label("b"), label("c", ORIGINAL, "jobs/1")):
        await records.put_label("p", each)
    await records.put_label("other", label("d"))
    assert await records.labelled("p") == {FINAL: {"a", "b"}, "my tag": {"b"}}
    assert set((await records.notes("p")).labels) == {"a", "b"}
    assert await records.pending_jobs("p") == ["jobs/1"]
    await records.set_layer("p", "jobs/1", "projects/p/volumes/v/layers/l")
    assert (await records.labelled("p"))[ORIGINAL] == {"c"}
    assert (await records.notes("p")).labels["c"] == {ORIGINAL: LabelNote(".nrrd", {"of": "c"})}
    assert await records.pending_jobs("p") == []
    assert await records.labelled("nobody's") == {}


async def test_images_that_somebody_has_or_that_are_labelled_are_taken(database: Database) -> None:
    records = Records(database)
    await records.put_label("p", label("labelled"))
    await records.put_label("p", label("drafted", ORIGINAL))
    for sample in (
        served("held", "bob"),
        served("over", "bob", HOUR_US, -1),
        served("new"),
        served("old", age=1_000_000),
    ):
        assert await records.serve("p", sample, {}, 4) == []
    asked = ["labelled", "drafted", "held", "over", "free"]
    assert await records.taken("p", asked) == {"labelled", "held"}
    assert await records.taken("p", []) == await records.taken("other", asked) == set()
    assert await records.held("p") == {"held", "new", "old"}
    assert [each.image_id for each in await records.samples("p", "ann", "slicer")] == ["old", "new"]
    assert await records.samples("p", "ann", "another program") == []
    held = await records.sample("p", "held")
    assert held is not None
    assert held.user_id == "bob"
    assert await records.sample("p", "over") is None


async def test_only_uploads_tell_which_images_there_are(database: Database) -> None:
    records = Records(database)
    await records.note("p", "v_z0-1_y0-1_x0-1", {"strategy": {"entropy": {"ts": 1}}})
    await records.note("p", "photo", {"sha256": "1"})
    async with database.write() as connection:
        await connection.execute(
            sa.text("UPDATE monailabel_images SET uploaded_volume_id = 'photo-1' WHERE image_id = 'photo'")
        )
    content = await records.content("p")
    assert content.part is None
    assert {name: upload.uploaded_volume_id for name, upload in content.uploads.items()} == {
        "photo": "photo-1"
    }
    noted = await records.image("p", "photo")
    assert noted is not None
    assert content.uploads["photo"] == replace(noted, info={})
    assert set((await records.notes("p")).images) == {"photo", "v_z0-1_y0-1_x0-1"}


async def test_what_lists_need_is_read_without_the_voxels(database: Database) -> None:
    records, asked = Records(database), []

    def note(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    await database.read_at_once(lambda each: sa.event.listen(each.engine, "before_cursor_execute", note))
    await records.labelled("p")
    await records.pending_jobs("p")
    assert len(asked) == 2
    for statement, parameters in list(asked):
        plan = await database.read_at_once(
            lambda each, statement=statement, parameters=parameters: each.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            ).all()
        )
        assert "COVERING INDEX" in str(plan)
