from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from biosegment_trainer.learning import family, measures, plan
from biosegment_trainer.learning.pretraining import MaskConfig
from biosegment_trainer.learning.tiling import TilingConfig
from biosegment_trainer.learning.training import TrainingConfig
from biosegment_trainer.prediction.block import CELL, BlockPlan, aligned, downsampled
from biosegment_trainer.prediction.measure import INFOS, MEASURES, require_measures
from biosegment_trainer.registry.model import ModelClass, NewModel
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.tables import METADATA
from biosegment_trainer.training.job import Acquaintance, _touches, acquaintance
from biosegment_trainer.training.option import FAMILIES, KINDS, OPTIONS, Range, check_options
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect

from biosegment.database import Database, begin_writing, migrate, open_engine, upgrade
from biosegment.errors import Conflict, InvalidArgument, NotFound
from biosegment.jobs import JobSignal, SqlJobs
from biosegment.jobs.job import NewJob
from biosegment.volume import BlockGrid, Index, Region


def test_every_option_is_a_field_of_the_training_configuration_with_its_type():
    owners = {"": TrainingConfig(), "mask": MaskConfig()}
    for name, wanted in OPTIONS.items():
        part, _, field = name.rpartition(".")
        # Wishes about the network are planned, not copied.
        if part != "network" and name not in ("working_resolution_nm", "workers"):
            owner: Any = owners.get(part) or getattr(owners[""], part)
            assert field in {item.name for item in dataclasses.fields(owner)}, name
            assert isinstance(wanted, Range), name
            assert type(getattr(owner, field)) is wanted.kind, name
            # What is let through here is not refused by a worker later.
            for value in (wanted.least, wanted.most):
                changes = {field: wanted.kind(value)}
                if field == "batch_size":
                    changes["shards"] = 1
                dataclasses.replace(owner, **changes)
    assert set(KINDS) == set(plan.KINDS)
    assert set(FAMILIES) == set(family.FAMILIES)


def test_options_are_checked_by_name_and_type():
    assert check_options({"batch_size": 4.0, "weight_decay": 1}) == {"batch_size": 4, "weight_decay": 1.0}
    for wrong in (
        {"steps": 3},
        {"batch_size": 4.5},
        {"batch_size": True},
        {"network.norm": 3},
        {"network.kind": "4d"},
        {"network.family": "ResNet"},
        {"network.channels": "8;16"},
        {"network.channels": "0,8"},
        {"network.channels": "8"},
        {"network.channels": "8,4096"},
        {"network.norm": "foo"},
        {"network.norm": "group"},
        {"working_resolution_nm": 0},
        {"workers": 0},
        {"mask.cell": 4},
        {"learning_rate": 0},
        {"learning_rate": 1.5},
        {"learning_rate": float("nan")},
        {"validation.minimum": 1},
        {"augmentation.blur": -0.1},
    ):
        with pytest.raises(InvalidArgument):
            check_options(wrong)
    assert check_options({"mask.cell": 4}, pretraining=True) == {"mask.cell": 4}
    with pytest.raises(InvalidArgument, match="pretraining"):
        check_options({"validation.gap": 4}, pretraining=True)


def test_the_names_known_without_torch_are_those_that_torch_computes():
    assert set(MEASURES) == set(measures.MEASURES)
    for name, measure in measures.MEASURES.items():
        assert INFOS[name].needs_passes == measure.needs_passes
        assert [INFOS[name].channels(n) for n in (1, 3)] == [measure.channels(n) for n in (1, 3)]
    assert CELL == measures.CELL
    with pytest.raises(InvalidArgument):
        require_measures(["entropy", "entropy"])


@given(st.integers(1, 16), st.tuples(*[st.integers(1, 3000)] * 3))
def test_blocks_share_no_shard_of_any_layer(factor, shape):
    whole = Region(Index(0, 0, 0), Index(*shape))
    plan = BlockPlan.of(factor, whole)
    assert plan.block.y % (TilingConfig().tile[1] * factor) == 0
    assert plan.block.z * plan.block.y * plan.block.x <= max(1 << 26, CELL * plan.block.y**2)
    for layout, down in (
        (plan.labels_layout, Index(1, 1, 1)),
        (plan.probabilities_layout, plan.probabilities_downsampling),
        (plan.scores_layout, plan.scores_downsampling),
    ):
        chunk, shard = layout
        assert all(outer % inner == 0 for outer, inner in zip(shard, chunk, strict=True))
        for edge, step, size in zip(plan.block, down, shard, strict=True):
            assert edge % (step * size) == 0
    for block in list(BlockGrid(whole.stop, plan.block))[:20]:
        cells = downsampled(block, plan.scores_downsampling)
        assert all(
            low * step == start
            for low, step, start in zip(cells.start, plan.scores_downsampling, block.start, strict=True)
        )


@given(st.data(), st.integers(1, 64))
def test_an_aligned_region_contains_the_region_and_stays_inside(data, edge):
    shape = data.draw(st.tuples(*[st.integers(1, 500)] * 3))
    start = [data.draw(st.integers(0, size - 1)) for size in shape]
    stop = [data.draw(st.integers(low + 1, size)) for low, size in zip(start, shape, strict=True)]
    whole, region = Region(Index(0, 0, 0), Index(*shape)), Region(Index(*start), Index(*stop))
    grown = aligned(region, edge, whole)
    assert grown.contains(region)
    assert whole.contains(grown)
    assert all(low % edge == 0 for low in grown.start[1:])
    assert all(high % edge == 0 or high == size for high, size in zip(grown.stop[1:], shape[1:], strict=True))


@pytest.fixture
async def database(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/trainer.db"
    migrate(url, "biosegment_trainer")
    opened = Database.open(url)
    yield opened
    await opened.close()


def new_model(model_id: str, project: str = "p", **fields) -> NewModel:
    values = {
        "display_name": "",
        "parent": "",
        "network": "unet2d",
        "classes": (ModelClass(2, "mitochondria"),),
        "working_resolution_nm": 10.0,
        "weights_sha256": "0" * 64,
    }
    return NewModel(model_id, project, **{**values, **fields})


def test_the_migration_makes_the_tables_that_the_code_uses(tmp_path):
    url = f"sqlite:///{tmp_path}/t.db"
    migrate(url, "biosegment_trainer")
    engine = create_engine(url)
    found = inspect(engine)
    for table in METADATA.tables.values():
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
    engine.dispose()


def test_models_of_an_older_release_get_the_number_of_their_annotations(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/t.db")
    columns = (
        "model_id, project_id, version, display_name, parent, network, classes, working_resolution_nm, config"
    )
    columns += (
        ", metrics, job, author, create_us, weights_sha256, data_license, deleted, remarks, annotations"
    )
    values = "'p', 1, '', '', '', '[]', 1, '{}', '{}', '', '', 1, '', '', 0, '[]'"
    with begin_writing(engine) as connection:
        upgrade(connection, "biosegment_trainer", "0002")
        for name, annotations in (("a", '["x", "y, z"]'), ("b", "[]")):
            row = f"'{name}', {values.replace(', 1,', f', {ord(name)},', 1)}, '{annotations}'"
            connection.exec_driver_sql(f"INSERT INTO models ({columns}) VALUES ({row})")
        upgrade(connection, "biosegment_trainer")
        found = connection.exec_driver_sql("SELECT model_id, annotation_count FROM models ORDER BY 1").all()
    assert [tuple(row) for row in found] == [("a", 2), ("b", 0)]
    engine.dispose()


async def test_versions_count_up_in_each_project_and_a_job_registers_once(database):
    models = SqlModels(database)
    first = await models.register(new_model("a", job="jobs/trainer-1"))
    again = await models.register(new_model("b", job="jobs/trainer-1"))
    assert again == first
    second = await models.register(new_model("c", parent="a", annotations=("x",), config={"t": [1, 2]}))
    other = await models.register(new_model("d", project="q"))
    assert (first.version, second.version, other.version) == (1, 2, 1)
    assert second.new.classes == (ModelClass(2, "mitochondria"),)
    assert [model.model_id for model in await models.list("p", None, 10)] == ["c", "a"]
    assert [model.model_id for model in await models.list("p", 2, 10)] == ["a"]
    (brief, *_) = await models.list("p", None, 10)
    assert (brief.new.annotations, brief.annotation_count) == ((), 1)
    assert dataclasses.replace(brief, new=dataclasses.replace(brief.new, annotations=("x",))) == second
    with pytest.raises(NotFound):
        await models.get("b")


async def test_an_attempt_that_was_overtaken_registers_nothing(database):
    models, jobs = SqlModels(database), SqlJobs(database, "trainer", JobSignal())
    job = await jobs.create(NewJob("p", "train", b"", "d", "r"))
    await jobs.claim("one", ["train"])
    await jobs.release(job.job_id, 1)
    await jobs.claim("two", ["train"])
    with pytest.raises(Conflict) as late:
        await models.register(new_model("u-1", job=job.name), 1)
    assert late.value.reason == "ATTEMPT_OUTDATED"
    assert (await models.register(new_model("u-2", job=job.name), 2)).model_id == "u-2"
    assert [model.model_id for model in await models.list("p", None, 10)] == ["u-2"]


async def test_what_a_model_has_seen_is_what_its_ancestors_have_too(database):
    models = SqlModels(database)
    await models.register(
        new_model("a", annotations=("1", "2", "held"), config={"withheld_annotations": ["held"]})
    )
    await models.register(new_model("b", parent="a", annotations=("3",)))
    # c was not as good as b: it has b's weights and annotations, but b was tested on 4 before.
    await models.register(
        new_model("c", parent="b", annotations=("3",), config={"tested_annotations": ["4"]})
    )
    found = await acquaintance(models, await models.get("b"))
    assert found == Acquaintance(frozenset({"1", "2", "3"}), frozenset({"1", "2", "3", "held"}))
    later = await acquaintance(models, await models.get("c"))
    assert (later.seen, later.met) == (found.seen, found.met | {"4"})
    assert await acquaintance(models, None) == Acquaintance()


async def test_the_newest_model_is_one_that_still_has_weights(database):
    models = SqlModels(database)
    assert await models.newest("p") is None
    for name in "ab":
        await models.register(new_model(name))
    await models.mark_deleted("b")
    assert (await models.newest("p")).model_id == "a"
    assert (await models.get("b")).deleted


BOXES = st.builds(
    lambda shape, start: Region.of_shape(shape, start),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.tuples(*[st.integers(0, 8)] * 3),
)


@given(BOXES, st.lists(BOXES, min_size=1, max_size=5))
def test_a_region_touches_those_that_it_overlaps(region, others):
    boxes = np.array([(*other.start, *other.stop) for other in others])
    assert _touches(region, boxes) == any(region.overlaps(other) for other in others)
    assert not _touches(region, None)
