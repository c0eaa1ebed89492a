"""The use case of the progress report."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import DeadlineExceeded, Unavailable
from biosegment.volume import VoxelSize
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.domain.progress import ModelProgress, Tally, curves_of
from biosegment_sampler.domain.stopping import Flatness, Hint, hint
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.ports import Clock, Datastore, Ledger, Trainer
from biosegment_sampler.service import PoolService

_MAX_MODELS: Final = 200


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """How far a project is.

    Attributes:
        tally: What was annotated.
        sizes: Of voxels, by volume id.
        rounds: Trainings that have ended well.
        models: Oldest first.
        hint: Whether more annotations still change them.
        notice: What is missing and why, '' when nothing is.
    """

    tally: Tally
    sizes: Mapping[str, VoxelSize]
    rounds: int
    models: Sequence[ModelProgress]
    hint: Hint
    notice: str


class ReportService:
    """Reports progress. What was annotated is added up once for all who ask between two records."""

    def __init__(
        self,
        ledger: Ledger,
        datastore: Datastore,
        trainer: Trainer,
        feed: AnnotationFeed,
        pools: PoolService,
        authorizer: Authorizer,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._datastore = datastore
        self._trainer = trainer
        self._feed = feed
        self._pools = pools
        self._authorizer = authorizer
        self._clock = clock
        self._tallies: dict[str, tuple[tuple[int, str], Tally]] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def progress(self, principal: Principal, project_id: str, flatness: Flatness) -> ProgressReport:
        """How far a project is; without its models, and a notice, while the trainer is away.

        Raises:
            NotFound: PROJECT_NOT_FOUND.
            Unavailable: The datastore cannot be reached.
        """
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        pool = await self._feed.pull(await self._pools.ensure(project_id))
        tally = await self._tally(pool)
        sizes = {each.volume_id: each.voxel_size for each in await self._datastore.volumes(project_id)}
        notices = []
        if gone := sorted({each.volume_id for each in tally.labelled} - set(sizes)):
            notices.append(f"areas leave out volumes that were deleted: {', '.join(gone)}")
        models: Sequence[ModelProgress] = ()
        try:
            models = await self._trainer.models(project_id, _MAX_MODELS)
        except (Unavailable, DeadlineExceeded) as error:
            notices.append(f"models are left out, the trainer cannot be reached: {error.message}")
        return ProgressReport(
            tally, sizes, pool.loop.rounds, models, hint(curves_of(models, flatness)), "; ".join(notices)
        )

    async def _tally(self, pool: Pool) -> Tally:
        # Annotations change with the feed, what is new of them with the newest model; samples change by themselves.
        key = (pool.loop.watermark, pool.loop.latest_model)
        async with self._turns[pool.project_id]:
            known = self._tallies.get(pool.project_id)
            async with self._ledger.read(pool.project_id) as transaction:
                states = await transaction.samples_by_state(self._clock())
                if known is None or known[0] != key:
                    known = self._tallies[pool.project_id] = (key, await transaction.tally())
        return replace(known[1], samples_by_state=states)
