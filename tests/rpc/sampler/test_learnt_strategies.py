"""Strategies of every kind with a network that really learns: its measures, its passes, its embeddings."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.rpc.geometry import region_from_proto
from tests.rpc.sampler.conftest import Start
from tests.rpc.sampler.foreign import CELL
from tests.rpc.sampler.learner import SHAPE, Learner
from tests.rpc.sampler.test_cold_start import WINDOW, choose, regions

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.system, pytest.mark.timeout(500)]

STRATEGIES = ("bald", "tta_disagreement", "clasp", "entropy_kmeans", "badge", "coreset", "slice_disagreement")
SHOWN = {
    "bald": "mutual_information",
    "tta_disagreement": "disagreement",
    "clasp": "entropy",
    "entropy_kmeans": "entropy",
    "badge": "gradient_embedding",
    "slice_disagreement": "slice_disagreement",
}


@pytest.fixture
def learner(records: Any) -> Learner:
    records.volumes["v1"] = tuple(SHAPE)
    return Learner()


async def test_one_pool_ranks_by_strategies_of_every_kind(start: Start, learner: Learner) -> None:
    async with start() as platform:
        platform.trainer.has_dropout = False
        shares = [{"strategy": name, "share": 1 / len(STRATEGIES)} for name in STRATEGIES]
        await platform.update(
            "strategies",
            "sample_shape",
            "slice_distance",
            "retrain",
            strategies=shares,
            sample_shape=dict(zip("zyx", WINDOW, strict=True)),
            slice_distance=1,
            retrain={"after_annotations": 8},
        )
        for region in (*regions(learner, 0.25, 1, 5), *regions(learner, 0, 0, 3)):
            await choose(platform, learner, region)
        await platform.step()
        # In a thread: the servers of this process go on answering.
        await asyncio.to_thread(learner.train, platform.records.holding())
        model = platform.trainer.finish_training(platform.trainer.of_kind("train")[-1])
        maps: dict[str, np.ndarray] = {}
        for _ in range(3):
            await platform.step()
            for job in platform.trainer.of_kind("score"):
                if job.state == job_pb2.Job.STATE_RUNNING:
                    found = await asyncio.to_thread(learner.score, job.spec.score)
                    maps |= found
                    platform.trainer.finish_scoring(job, {"v1": found})
        pool = await platform.pool()
        assert (pool.scored_model, pool.failure) == (model, "")
        answer = await platform.claim("ann", count=2 * len(STRATEGIES))
        names = [sample.strategy for sample in answer.samples]
        assert {name: names.count(name) for name in set(names)} == dict.fromkeys(STRATEGIES, 2)
        # The network has no dropout; nothing else is worth a word.
        assert answer.notice.count("the network has no dropout") == 1
        assert "instead of chosen by" not in answer.notice
        for sample in answer.samples:
            assert sample.model == model
            measure = SHOWN.get(sample.strategy, "")
            assert bool(sample.score_layer) == bool(measure)
            if measure:
                # The score is the mean of what is to be shown, weighted by how much of a cell is in the sample.
                region = region_from_proto(sample.region)
                voxels = np.repeat(np.repeat(maps[measure].astype(np.float64), CELL, 1), CELL, 2)
                assert sample.score == pytest.approx(voxels[region.slices].mean(), rel=1e-3, abs=1e-4)
                shown = maps[measure][region_from_proto(sample.score_region).slices]
                assert shown.shape[0] == 1
                assert shown.size >= 4
