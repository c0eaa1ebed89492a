"""Which scores the loop asks for, over which passes, and what annotators get from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from biosegment_sampler.domain.ranking import Others, Ranking, by_score, in_order
from biosegment_sampler.scoring import RETRIES_S
from biosegment_sampler.strategies import STRATEGIES, Candidates, Strategy

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import ResourceExhausted
from biosegment.rpc.geometry import region_from_proto
from tests.rpc.sampler.conftest import Platform, Start
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.test_loop import CELLS, FOREGROUND, annotate, foreground_cells, train_and_score

pytestmark = pytest.mark.usefixtures("patient")

NOISE = np.random.default_rng(0).random(CELLS)
MAPS = {
    "entropy": 0.01 * NOISE + 0.4 * foreground_cells(),
    "class_probability": 0.02 + 0.9 * foreground_cells(),
    "class_entropy": 0.01 * NOISE + 0.4 * foreground_cells(),
    "mutual_information": 0.01 * NOISE + 0.2 * foreground_cells(),
    "disagreement": 0.01 * NOISE + 0.3 * foreground_cells(),
    "embedding": np.repeat(foreground_cells() + 0.1 * NOISE, 4, axis=2),
}
ALL = {"v1": MAPS}


async def use(platform: Platform, *names: str) -> None:
    """Rank by strategies in equal shares; the first annotation trains."""
    shares = [{"strategy": name, "share": 1 / len(names)} for name in names]
    await platform.update("strategies", "retrain", strategies=shares, retrain={"after_annotations": 1})


def scorings(platform: Platform) -> list[tuple[set[str], int, int]]:
    """Measures, passes with dropout and over copies of each scoring that was asked for."""
    found = [job.spec.score for job in platform.trainer.of_kind("score")]
    return [
        (set(spec.measures), spec.passes.mc_dropout, spec.passes.test_time_augmentation) for spec in found
    ]


async def until_new_model(platform: Platform) -> str:
    await annotate(platform, 1)
    await platform.step()
    model = platform.trainer.finish_training(platform.trainer.of_kind("train")[-1])
    await platform.step()
    return model


@pytest.mark.parametrize(
    ("name", "measures", "dropout", "copies"),
    [
        ("entropy", {"entropy", "class_probability"}, 0, 0),
        ("clasp", {"entropy", "class_entropy", "class_probability"}, 0, 0),
        ("kmeans", {"embedding", "class_probability"}, 0, 0),
        ("bald", {"mutual_information", "class_probability"}, 8, 0),
        ("power_bald", {"mutual_information", "class_probability"}, 8, 0),
        ("tta_disagreement", {"disagreement", "class_probability"}, 0, 4),
    ],
)
async def test_a_strategy_has_its_measures_scored_over_its_passes_and_ranks_by_them(
    platform: Platform, name: str, measures: set[str], dropout: int, copies: int
) -> None:
    await use(platform, name)
    model = await until_new_model(platform)
    assert scorings(platform) == [(measures, dropout, copies)]
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    answer = await platform.claim("ann", count=3)
    assert answer.notice == ""
    assert [sample.strategy for sample in answer.samples] == [name] * 3
    assert {sample.model for sample in answer.samples} == {model}
    assert [sample.rank for sample in answer.samples] == [1, 2, 3]
    layers = {layer.name: layer.measure for layer in platform.records.layers}
    shown = {layers.get(sample.score_layer, "") for sample in answer.samples}
    assert shown == {STRATEGIES[name].shown}
    await platform.step()
    assert len(platform.trainer.of_kind("score")) == 1


async def test_without_dropout_bald_compares_turned_copies_and_says_so(platform: Platform) -> None:
    platform.trainer.has_dropout = False
    await use(platform, "bald")
    await until_new_model(platform)
    assert scorings(platform) == [({"mutual_information", "class_probability"}, 0, 4)]
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    assert (await platform.pool()).failure == ""
    answer = await platform.claim("ann")
    assert [sample.strategy for sample in answer.samples] == ["bald"]
    assert "has no dropout" in answer.notice
    assert "network.dropout" in answer.notice
    for _ in range(2):
        await platform.step()
    assert len(platform.trainer.of_kind("score")) == 1


async def test_different_passes_are_scored_one_after_the_other_and_used_together(platform: Platform) -> None:
    await use(platform, "entropy", "bald", "tta_disagreement")
    model = await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    assert (await platform.pool()).scored_model == ""
    kinds = {(dropout, copies): measures for measures, dropout, copies in scorings(platform)}
    assert set(kinds) == {(8, 0), (0, 4)}
    assert "mutual_information" in kinds[8, 0]
    assert "disagreement" in kinds[0, 4]
    assert set.union(*kinds.values()) == {
        "mutual_information",
        "disagreement",
        "entropy",
        "class_probability",
    }
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[1], ALL)
    await platform.step()
    assert (await platform.pool()).scored_model == model
    answer = await platform.claim("ann", count=6)
    names = [sample.strategy for sample in answer.samples]
    assert {name: names.count(name) for name in set(names)} == {
        "entropy": 2,
        "bald": 2,
        "tta_disagreement": 2,
    }


async def test_when_one_of_several_scorings_fails_the_others_are_used(platform: Platform) -> None:
    await use(platform, "entropy", "bald", "tta_disagreement")
    model = await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    platform.trainer.fail(platform.trainer.of_kind("score")[1], "out of memory")
    for _ in range(3):
        await platform.step()
    pool = await platform.pool()
    assert (pool.scored_model, len(platform.trainer.of_kind("score"))) == (model, 2)
    assert "out of memory" in pool.failure
    names = [sample.strategy for sample in (await platform.claim("ann", count=6)).samples]
    assert set(names) == {"entropy", "tta_disagreement", "stratified"}


async def test_a_scoring_that_makes_nothing_is_not_asked_for_again(platform: Platform) -> None:
    await use(platform, "entropy", "bald")
    await until_new_model(platform)
    job = platform.trainer.of_kind("score")[0]
    platform.trainer.finish_scoring(job, {"v1": MAPS})
    platform.records.layers = [layer for layer in platform.records.layers if layer.measure == "entropy"]
    for _ in range(4):
        await platform.step()
    assert len(platform.trainer.of_kind("score")) == 1
    assert "no new score map" in (await platform.pool()).failure


async def test_other_strategies_are_scored_as_soon_as_the_pool_wants_them(platform: Platform) -> None:
    await use(platform, "entropy")
    await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    await platform.update("strategies", strategies=[{"strategy": "clasp", "share": 1}])
    answer = await platform.claim("ann")
    assert "no class_entropy was scored" in answer.notice
    await platform.step()
    assert "class_entropy" in scorings(platform)[1][0]
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[1], ALL)
    await platform.step()
    answer = await platform.claim("bob")
    assert [sample.strategy for sample in answer.samples] == ["clasp"]


async def test_other_strategies_are_scored_also_after_a_scoring_that_failed(platform: Platform) -> None:
    await use(platform, "bald")
    await until_new_model(platform)
    platform.trainer.fail(platform.trainer.of_kind("score")[0], "out of memory")
    for _ in range(2):
        await platform.step()
    assert len(platform.trainer.of_kind("score")) == 1
    await use(platform, "entropy")
    await platform.step()
    assert scorings(platform)[1][0] == {"entropy", "class_probability"}


async def test_three_quarters_entropy_and_one_quarter_stratified_hold_over_single_claims(
    platform: Platform,
) -> None:
    shares = [{"strategy": "entropy", "share": 0.75}, {"strategy": "stratified", "share": 0.25}]
    await platform.update("strategies", "retrain", strategies=shares, retrain={"after_annotations": 1})
    (first,) = await annotate(platform, 1)
    assert first.strategy == "stratified"
    await train_and_score(platform, ALL)
    await platform.update("retrain", retrain={"manual": True})
    # What was stratified before there was a model is not made up for.
    names = [sample.strategy for sample in await annotate(platform, 12)]
    assert names.count("entropy") == 9
    assert names.count("stratified") == 3


async def test_a_strategy_that_fails_gives_way_and_nobody_waits(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rank(candidates: Candidates) -> Ranking:
        raise ZeroDivisionError(f"of {len(candidates)} candidates")

    monkeypatch.setitem(STRATEGIES, "broken", Strategy("broken", "Breaks. Nobody 2026.", rank, ("entropy",)))
    await use(platform, "broken")
    await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    answer = await platform.claim("ann")
    assert [sample.strategy for sample in answer.samples] == ["stratified"]
    assert "broken failed (ZeroDivisionError: of " in answer.notice
    # The distribution that brought it was removed.
    monkeypatch.delitem(STRATEGIES, "broken")
    await platform.step()
    answer = await platform.claim("bob")
    assert [sample.strategy for sample in answer.samples] == ["stratified"]
    assert "has no strategy 'broken' any more" in answer.notice


@pytest.mark.parametrize(
    ("rank", "why"),
    [
        (lambda c: in_order(np.arange(len(c) + 5)[::-1].copy()), "candidates, and there are"),
        (lambda c: by_score(np.ones(len(c) + 7, np.float32), 0), "candidates, and there are"),
        (lambda c: by_score(np.ones((len(c), 1), np.float32), 0), "have the shape"),
        (lambda c: by_score(np.ones(len(c) - 1, np.float32), 0), "have the shape"),
        (lambda c: in_order(np.array([3, 3, 4])), "a candidate twice"),
        (lambda c: in_order(np.array([-1, -2])), "it lists -2 to -1"),
        (lambda c: Ranking(len(c), np.array([len(c)]), Others.NONE), "it lists"),
        (lambda c: Ranking(len(c), np.array([0.5]), Others.NONE), "float64"),
        (lambda c: None, "NoneType"),
    ],
)
async def test_a_strategy_that_ranks_nonsense_fails_no_claim_and_the_notice_says_why(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, rank: Callable[[Candidates], Ranking], why: str
) -> None:
    monkeypatch.setitem(STRATEGIES, "wild", Strategy("wild", "Guesses. Nobody 2026.", rank))
    await platform.update("strategies", strategies=[{"strategy": "wild", "share": 1}])
    answer = await platform.claim("ann", count=3)
    assert [sample.strategy for sample in answer.samples] == ["stratified"] * 3
    assert "wild failed (" in answer.notice
    assert why in answer.notice
    assert len((await platform.claim("bob")).samples) == 1


async def test_a_strategy_without_anything_to_rank_has_not_failed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Strategy("empty", "Abstains. Nobody 2026.", lambda _: in_order(np.zeros(0, np.int64)))
    monkeypatch.setitem(STRATEGIES, "empty", empty)
    await platform.update("strategies", strategies=[{"strategy": "empty", "share": 1}])
    assert "empty has nothing to rank: " in (await platform.claim("ann")).notice


async def test_a_failed_scoring_is_told_to_annotators_and_tried_again_twice(platform: Platform) -> None:
    await use(platform, "entropy")
    model = await until_new_model(platform)
    await platform.update("retrain", retrain={"manual": True})
    for tries, user in enumerate(("bob", "rev", "roy"), 1):
        assert len(platform.trainer.of_kind("score")) == tries
        platform.trainer.fail(platform.trainer.of_kind("score")[-1], f"worker {tries} was lost")
        for _ in range(3):
            await platform.step()
        assert len(platform.trainer.of_kind("score")) == tries
        answer = await platform.claim(user)
        assert f"could not be scored (scoring jobs/trainer-{tries + 1} failed: " in answer.notice
        assert f"worker {tries} was lost" in answer.notice
        assert "is being scored" not in answer.notice
        platform.clock[0] += RETRIES_S[min(tries, len(RETRIES_S)) - 1] + 1
        await platform.step()
    assert len(platform.trainer.of_kind("score")) == 3
    # The next training has it tried once more.
    await platform.ask("mia", "RequestTraining", force=True)
    await platform.step()
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[3], ALL)
    await platform.step()
    pool = await platform.pool()
    assert (pool.scored_model, pool.failure) == (model, "")


async def test_a_scoring_for_which_there_is_no_room_is_asked_for_until_there_is(platform: Platform) -> None:
    await use(platform, "entropy")
    await annotate(platform, 1)
    await platform.step()
    platform.trainer.finish_training(platform.trainer.of_kind("train")[0])
    platform.trainer.refusal = ResourceExhausted("TOO_MANY_JOBS", "the queue is full")
    for _ in range(2):
        with pytest.raises(ResourceExhausted):
            await platform.step()
    assert "is being scored" in (await platform.claim("bob")).notice
    platform.trainer.refusal = None
    await platform.step()
    assert len(platform.trainer.of_kind("score")) == 1


async def test_a_blind_model_is_led_to_known_foreground_and_spread(platform: Platform) -> None:
    await use(platform, "entropy")
    await until_new_model(platform)
    blind = {"v1": MAPS | {"class_probability": np.full(CELLS, 0.03)}}
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], blind)
    await platform.step()
    answer = await platform.claim("ann")
    assert [sample.strategy for sample in answer.samples] == ["stratified"]
    assert "spread evenly instead of chosen by entropy" in answer.notice
    await release(platform, "ann", answer.samples[0])
    await platform.update("retrain", retrain={"manual": True})
    request = pb.CreateSampleRequest(parent=PROJECT, volume=f"{PROJECT}/volumes/v1")
    request.region.start.z, request.region.start.y, request.region.start.x = 24, 128, 192
    request.region.stop.z, request.region.stop.y, request.region.stop.x = 25, 192, 256
    chosen = (await platform.stub.CreateSample(request, metadata=platform.as_user("ann"))).sample
    platform.answer("ann", chosen, {2: 4096})
    answer = await platform.claim("ann", count=4)
    names = {sample.strategy for sample in answer.samples}
    assert names == {"near_foreground", "stratified"}
    assert "near annotations that show a class" in answer.notice
    near = [region_from_proto(s.region) for s in answer.samples if s.strategy == "near_foreground"]
    for region in near:
        assert abs(region.start.z - 24) <= 8
        assert region.start.y < 320
        assert region.start.x >= 64


async def release(platform: Platform, user: str, sample: pb.Sample) -> None:
    request = pb.ReleaseSampleRequest(name=sample.name)
    await platform.stub.ReleaseSample(request, metadata=platform.as_user(user))


async def test_deleted_maps_are_noticed_after_a_restart_and_scored_again(start: Start) -> None:
    async with start() as platform:
        await use(platform, "entropy")
        await until_new_model(platform)
        platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
        await platform.step()
        for layer in platform.records.layers:
            Path(layer.uri.removeprefix("file://"), "zarr.json").unlink()
        platform.records.layers.clear()
        # What was read is enough to go on.
        assert [sample.strategy for sample in (await platform.claim("ann")).samples] == ["entropy"]
    async with start() as platform:
        answer = await platform.claim("bob")
        assert [sample.strategy for sample in answer.samples] == ["stratified"]
        assert "no entropy was scored" in answer.notice
        await platform.step()
        assert len(platform.trainer.of_kind("score")) == 2


async def test_new_scores_are_ranked_once_and_before_they_are_taken_into_use(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[str] = []

    def rank(candidates: Candidates) -> Ranking:
        models.append(platform.trainer.models[0].name)
        return by_score(candidates.scores["entropy"], candidates.seed)

    counting = Strategy("counting", "Counts. Nobody 2026.", rank, ("entropy",))
    monkeypatch.setitem(STRATEGIES, "counting", counting)
    await use(platform, "counting")
    model = await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], ALL)
    await platform.step()
    assert models == [model]
    answers = await asyncio.gather(*(platform.claim(user, count=2) for user in ("ann", "bob", "ann", "bob")))
    assert {sample.strategy for answer in answers for sample in answer.samples} == {"counting"}
    assert models == [model]
    # A volume alone is ranked by itself, once however many ask.
    volume = f"{PROJECT}/volumes/v1"
    await platform.update("volumes", volumes=[volume])
    await asyncio.gather(*(platform.claim(user, volume=volume) for user in ("ann", "bob")))
    assert models == [model]


async def test_embeddings_of_several_volumes_are_compared_with_each_other(platform: Platform) -> None:
    platform.records.volumes["v2"] = (20, 256, 256)
    cells = (20, 256 // 16, 256 // 16)
    other = {
        "class_probability": np.full(cells, 0.9),
        "embedding": np.repeat(np.full(cells, 5.0), 4, axis=2),
    }
    await platform.update("retrain", "strategies", strategies=[{"strategy": "kmeans", "share": 1}])
    await platform.update("retrain", retrain={"after_annotations": 3})
    await annotate(platform, 3)
    await train_and_score(platform, {"v1": MAPS, "v2": other})
    samples = (await platform.claim("ann", count=3)).samples
    assert [sample.strategy for sample in samples] == ["kmeans"] * 3
    # Three kinds of looks: the second volume's, foreground and background of the first.
    assert [sample.volume.rpartition("/")[2] for sample in samples].count("v2") == 1
    first = [region_from_proto(s.region) for s in samples if s.volume.endswith("v1")]
    assert sorted(region.overlaps(FOREGROUND) for region in first) == [False, True]
