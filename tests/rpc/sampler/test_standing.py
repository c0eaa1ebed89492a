"""Nobody waits for new scores: what stands is proposed until what is newer is ready."""

from __future__ import annotations

import asyncio
import threading

import pytest
from biosegment_sampler.directory import candidate_field
from biosegment_sampler.domain.pool import VolumeGeometry
from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.proposal import Proposer
from biosegment_sampler.scores_zarr import ZarrScoreMaps
from biosegment_sampler.sql import SqlLedger
from biosegment_sampler.strategies import STRATEGIES, Candidates, Strategy

from biosegment.database import Database
from biosegment.errors import InvalidArgument
from biosegment.volume import Index, VoxelSize
from tests.rpc.sampler.conftest import Platform, Start, eventually
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.test_scoring import ALL, until_new_model, use


class Gate:
    """A strategy whose ranking takes until the gate is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = 0

    def rank(self, candidates: Candidates) -> Ranking:
        self.waiting += not self.open.is_set()
        assert self.open.wait(30)
        return by_score(candidates.scores["entropy"], candidates.seed)


async def test_another_process_goes_on_proposing_while_it_ranks_newer_scores(
    platform: Platform, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setitem(STRATEGIES, "gate", Strategy("gate", "Waits. Nobody 2026.", gate.rank, ("entropy",)))
    await use(platform, "gate")
    models = []
    async with start() as other:
        for _ in range(2):
            models.append(await until_new_model(platform))
            platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], ALL)
            await platform.step()
            if len(models) == 1:
                (sample,) = (await other.claim("bob")).samples
                assert sample.model == models[0]
        gate.open.clear()
        seen = [(await other.claim("mia", count=count)).samples[-1] for count in (1, 2, 3)]
        assert {sample.model for sample in seen} == {models[0]}

        async def ranking() -> bool:
            return gate.waiting > 0

        await eventually(ranking)
        assert gate.waiting == 1
        gate.open.set()

        async def newer() -> bool:
            answer = await other.claim("ann", count=100)
            return answer.samples[-1].model == models[1]

        await eventually(newer)


async def test_who_read_the_pool_before_newer_scores_were_taken_into_use_is_proposed_by_them(
    platform: Platform,
) -> None:
    await use(platform, "entropy")
    await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], ALL)
    await platform.step()
    database = Database.open(platform.settings.database_url)
    ledger = SqlLedger(database)
    proposer = Proposer(ledger, ZarrScoreMaps(platform.settings))
    pool = await ledger.read_at_once("p1", lambda rows: rows.pool())
    assert pool is not None
    volume = VolumeGeometry("v1", Index(*platform.records.volumes["v1"]), VoxelSize(40, 10, 10), 10)
    field = candidate_field(pool, [volume])
    newer = await until_new_model(platform)
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], ALL)
    await platform.step()
    proposal = await proposer.propose(pool, field, pool.settings.strategies)
    await database.close()
    assert (proposal.model, proposal.notice) == (newer, "")


async def test_who_asks_for_a_volume_that_was_just_imported_gets_samples_of_it(platform: Platform) -> None:
    await platform.claim("ann")
    with pytest.raises(InvalidArgument, match="v2"):
        await platform.claim("bob", volume=f"{PROJECT}/volumes/v2")
    platform.records.volumes["v2"] = (4, 256, 256)
    (sample,) = (await platform.claim("bob", volume=f"{PROJECT}/volumes/v2")).samples
    assert sample.volume == f"{PROJECT}/volumes/v2"


async def test_claims_at_once_share_what_they_ask_the_datastore(platform: Platform) -> None:
    await platform.claim("mia")
    before = platform.records.calls.copy()
    answers = await asyncio.gather(*(platform.claim(user, count=5) for user in ("ann", "bob") * 10))
    assert all(len(answer.samples) == 5 for answer in answers)
    asked = platform.records.calls - before
    # Those that came while one pull was under way shared the next one; the volumes were known.
    assert 1 <= asked["records"] < 20
    assert asked["volumes"] <= 1
