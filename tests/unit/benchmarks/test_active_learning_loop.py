"""Runs of the experiment on choosing: what they share, what they record, how they go on."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.training import train

from benchmarks.active_learning.annotator import Annotator, annotation_seconds
from benchmarks.active_learning.chooser import Chooser, parse_plan
from benchmarks.active_learning.loop import Loop, Places
from benchmarks.active_learning.profile import PROFILES
from benchmarks.active_learning.record import TIMES, Name, read
from benchmarks.active_learning.tissue import TISSUES
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Index, Region
from bundles.data import MITOCHONDRIA, Stack


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, strategy, seed=0, say=lambda _: None, store="store", start="scratch"):
    name = Name("synthetic", start, strategy, seed, "tiny")
    Loop(name, Places(folder / "runs", folder / store)).run(say)
    return read(folder / "runs" / f"{name}.csv")


def without_times(record):
    return [dataclasses.replace(row, **dict.fromkeys(TIMES, 0.0)) for row in record.rounds]


def labelled(folder, strategy, seed=0, start="scratch"):
    name = Name("synthetic", start, strategy, seed, "tiny")
    return torch.load(folder / "store" / "runs" / f"{name}.pt", weights_only=True)["regions"]


def test_strategies_share_their_start_and_differ_afterwards(tmp_path):
    records = {s: run(tmp_path, s) for s in ("random", "entropy", "entropy:0.75+stratified:0.25")}
    other = run(tmp_path, "random", seed=1)
    firsts = {r.rounds[0].iou for r in records.values()}
    assert len(firsts) == 1
    assert other.rounds[0].iou not in firsts
    assert all([row.patches for row in r.rounds] == [4, 8, 12] for r in records.values())
    regions = {s: labelled(tmp_path, s) for s in records}
    assert len({json.dumps(found[:4]) for found in regions.values()}) == 1
    assert len({json.dumps(found) for found in regions.values()}) == 3
    assert labelled(tmp_path, "random", seed=1)[:4] != regions["random"][:4]


def test_a_parent_that_asks_chooses_the_first_patches(tmp_path):
    given = run(tmp_path, "entropy", start="parent")
    asked = run(tmp_path, "entropy", start="asking-parent")
    assert [row.patches for row in asked.rounds] == [0, 4, 8, 12]
    assert asked.rounds[0].iou == given.rounds[0].iou
    assert asked.rounds[1].iou != given.rounds[1].iou
    first = {start: labelled(tmp_path, "entropy", start=start)[:4] for start in ("parent", "asking-parent")}
    run(tmp_path, "random", start="asking-parent")
    assert (
        labelled(tmp_path, "random", start="asking-parent")[:4] == first["parent"] != first["asking-parent"]
    )


def test_queries_may_be_smaller_than_the_starting_set(tmp_path, monkeypatch):
    monkeypatch.setitem(PROFILES, "tiny", dataclasses.replace(PROFILES["tiny"], query=2))
    record = run(tmp_path, "entropy")
    assert [row.patches for row in record.rounds] == [4, 6, 8, 10, 12]
    assert [row.round for row in record.rounds] == [1, 2, 3, 4, 5]
    assert record.settings["query"] == 2
    with pytest.raises(InvalidArgument, match="11 patches are not 4 and a number of queries of 2"):
        Loop(record.name, Places(tmp_path, tmp_path), patches=11)


def test_all_of_the_pool_is_one_round_without_overlap(tmp_path):
    record = run(tmp_path, "everything")
    (row,) = record.rounds
    truth = TISSUES["synthetic"]().pool.truth
    assert (row.patches, record.settings["budget"]) == (8 * 6 * 6, 8 * 6 * 6)
    assert row.foreground_voxels == truth.sum()
    after = run(tmp_path, "everything", start="parent").rounds
    assert [r.patches for r in after] == [0, 8 * 6 * 6]
    assert after[1].iou != row.iou


def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_rows(tmp_path):
    whole = run(tmp_path / "whole", "entropy")

    def stop(line):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", "entropy", say=stop)
    begun = read(next((tmp_path / "parts" / "runs").iterdir()))
    assert without_times(begun) == without_times(whole)[:2]
    said: list[str] = []
    ended = run(tmp_path / "parts", "entropy", say=said.append)
    assert len(said) == 1
    assert without_times(ended) == without_times(whole)
    assert begun.rounds == ended.rounds[:2]
    run(tmp_path / "parts", "entropy", say=said.append)
    run(tmp_path / "parts", "entropy", say=said.append, store="of another machine")
    assert len(said) == 1, "a finished run does nothing"
    assert read(next((tmp_path / "parts" / "runs").iterdir())).rounds == ended.rounds


def test_a_state_that_names_no_size_of_queries_goes_on(tmp_path, monkeypatch):
    record = run(tmp_path, "random")
    path = tmp_path / "store" / "runs" / f"{record.name}.pt"
    state = torch.load(path, weights_only=True)
    del state["settings"]["query"]
    torch.save(state, path)
    assert run(tmp_path, "random").rounds == record.rounds
    monkeypatch.setitem(PROFILES, "tiny", dataclasses.replace(PROFILES["tiny"], query=2))
    with pytest.raises(FailedPrecondition, match=r"other \['query'\]"):
        run(tmp_path, "random")


def test_a_state_of_other_settings_is_refused(tmp_path, monkeypatch):
    run(tmp_path, "random")
    changed = dataclasses.replace(PROFILES["tiny"], first_steps=5)
    monkeypatch.setitem(PROFILES, "tiny", changed)
    with pytest.raises(FailedPrecondition, match=r"other \['settings'\]; delete it"):
        run(tmp_path, "random")


def test_what_a_record_says(tmp_path):
    record = run(tmp_path, "entropy")
    tissue = TISSUES["synthetic"]()
    regions = [Region(Index(*v[:3]), Index(*v[3:])) for v in labelled(tmp_path, "entropy")]
    assert record.rounds[-1].foreground_voxels == sum(int(tissue.pool.truth[r.slices].sum()) for r in regions)
    assert record.settings["candidates"] == 8 * 11 * 11
    assert record.settings["budget"] == 12
    assert "first_steps=4" in record.settings["settings"]
    assert record.name == Name("synthetic", "scratch", "entropy", 0, "tiny")
    assert 0 <= record.rounds[-1].iou <= 1
    taken = np.zeros(tissue.pool.truth.shape, int)
    for region in regions:
        taken[region.slices] += 1
    assert taken.max() == 1, "no voxel is annotated twice"


def test_more_steps_change_the_model_and_keep_nothing(tmp_path):
    record = run(tmp_path, "random")
    loop = Loop(record.name, Places(tmp_path / "runs", tmp_path / "store"))
    patches, before, after = loop.more(20)
    assert (patches, f"{before:.5f}") == (12, f"{record.rounds[-1].iou:.5f}")
    assert after != before
    assert loop.more(20) == (patches, before, after)
    with pytest.raises(FailedPrecondition, match="run it first"):
        Loop(record.name, Places(tmp_path / "runs", tmp_path / "nothing")).more(20)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (Name("mouse", "scratch", "random", 0, "tiny"), "UNKNOWN_RUN"),
        (Name("synthetic", "nowhere", "random", 0, "tiny"), "UNKNOWN_RUN"),
        (Name("synthetic", "scratch", "astrology", 0, "tiny"), "UNKNOWN_STRATEGY"),
    ],
)
def test_an_unknown_run_is_refused(tmp_path, name, code):
    with pytest.raises(InvalidArgument) as caught:
        Loop(name, Places(tmp_path, tmp_path))
    assert caught.value.reason == code


def test_plans():
    assert parse_plan("entropy").slice_distance is None
    assert parse_plan("random").slice_distance == 1
    plan = parse_plan("entropy:0.75+stratified:0.25/3")
    assert [(share.strategy, share.share) for share in plan.shares] == [
        ("entropy", 0.75),
        ("stratified", 0.25),
    ]
    assert plan.slice_distance == 3


def test_a_model_without_foreground_gives_way_to_even_choice():
    raw = np.random.default_rng(0).integers(0, 255, (3, 128, 128)).astype(np.uint8)
    stack = Stack("noise", raw, np.zeros(raw.shape, bool), 10.0)
    chooser = Chooser(stack, 1, 32, 2, 2, "cpu")
    annotator = Annotator(stack, 1, 0)
    start = chooser.start(4, 0)
    config = dataclasses.replace(PROFILES["tiny"].training, steps=60, learning_rate=0.05)
    model = train(config, annotator.annotate(start), None, classes=[MITOCHONDRIA], seed=0).model
    choice = chooser.choose(parse_plan("entropy"), model, start, 4, 1, 0)
    assert "stratified instead of entropy" in choice.notice
    assert choice.regions == chooser.choose(parse_plan("stratified"), None, start, 4, 1, 0).regions
    assert not chooser.choose(parse_plan("random"), model, start, 4, 1, 0).notice


def test_seconds_grow_with_what_is_drawn():
    truth = np.zeros((1, 40, 40), bool)
    assert annotation_seconds(truth, 5.0) == 5.0
    truth[0, 10:20, 10:30] = True
    # An outline of 60 edges of 5 nm is 0.3 µm of the 1.1 µm that take 79.2 s.
    assert annotation_seconds(truth, 5.0) == pytest.approx(5 + 79.2 * 0.3 / 1.1)
    assert annotation_seconds(np.concatenate([truth, truth]), 5.0) == pytest.approx(
        2 * annotation_seconds(truth, 5.0)
    )
