"""The use cases of pools: settings, asking for a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import Conflict, InvalidArgument
from biosegment.ids import new_id
from biosegment_sampler.board import Boards
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.pool import Loop, Pool, PoolSettings, VolumeGeometry
from biosegment_sampler.feed import AnnotationFeed
from biosegment_sampler.ports import Clock, Ledger, Receipt
from biosegment_sampler.strategies import STRATEGIES, Strategy, find_strategy
from biosegment_sampler.training import TrainingLoop

MAX_REQUEST_ID: Final = 64


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool and what is left in it."""

    pool: Pool
    open_candidates: int


class PoolService:
    """Pools; a pool is made with default settings when it is first asked for."""

    def __init__(
        self,
        ledger: Ledger,
        directory: VolumeDirectory,
        boards: Boards,
        feed: AnnotationFeed,
        loop: TrainingLoop,
        authorizer: Authorizer,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._boards = boards
        self._feed = feed
        self._loop = loop
        self._authorizer = authorizer
        self._clock = clock

    async def get(self, principal: Principal, project_id: str) -> PoolView:
        """Return the pool of a project. Raises NotFound PROJECT_NOT_FOUND."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._view(await self.ensure(project_id))

    async def update(
        self, principal: Principal, project_id: str, changes: Mapping[str, Any], etag: str
    ) -> PoolView:
        """Change settings.

        Args:
            principal: Who asks.
            project_id: Project.
            changes: New values by the name of a field of `PoolSettings`.
            etag: Of the pool that the changes were made for; '' for whatever it is now.

        Raises:
            InvalidArgument: UNKNOWN_STRATEGY, UNKNOWN_VOLUME, REGION_OUT_OF_BOUNDS, and those of `PoolSettings`.
            Conflict: ETAG_MISMATCH.
        """
        await self._authorizer.authorize(principal, Permission.PROJECT_UPDATE, project_id)
        await self.ensure(project_id)
        present = await self._directory.volumes(project_id, fresh=True)
        volumes = {volume.volume_id: volume for volume in present}
        async with self._ledger.write(project_id) as transaction:
            pool = await transaction.pool()
            assert pool is not None
            if etag and etag != pool.etag:
                raise Conflict(
                    "ETAG_MISMATCH",
                    f"the pool of {project_id!r} was changed meanwhile: etag {etag!r} is not {pool.etag!r}; "
                    "read it and decide again",
                )
            settings = replace(pool.settings, **changes)
            _check(settings, volumes)
            # Other measures or volumes may be scored where the last ones were not.
            loop = replace(pool.loop, failed_model="")
            pool = replace(pool, settings=settings, loop=loop, revision=pool.revision + 1)
            await transaction.put_pool(pool)
        return await self._view(pool)

    def strategies(self) -> list[Strategy]:
        """All strategies by name; open to every authenticated caller."""
        return [STRATEGIES[name] for name in sorted(STRATEGIES)]

    async def request_training(
        self, principal: Principal, project_id: str, force: bool, request_id: str
    ) -> str:
        """Train now; returns the name of the job, of the running one when there is one.

        Raises:
            InvalidArgument: BAD_REQUEST_ID.
            FailedPrecondition: NO_ANNOTATIONS, NOTHING_NEW.
        """
        await self._authorizer.authorize(principal, Permission.MODEL_WRITE, project_id)
        check_request_id(request_id)
        await self._feed.pull(await self.ensure(project_id))
        # A namespace of its own: the same id may have been used for a claim.
        key = f"training/{request_id}"
        async with self._ledger.read(project_id) as transaction:
            receipt = await transaction.receipt(str(principal), key) if request_id else None
        if receipt is not None:
            return receipt.results[0]
        job = await self._loop.request(project_id, principal.user, force)
        if request_id:
            async with self._ledger.write(project_id) as transaction:
                await transaction.put_receipt(str(principal), key, Receipt((job,)))
        return job

    async def ensure(self, project_id: str) -> Pool:
        """The pool, made when there is none yet. Raises NotFound PROJECT_NOT_FOUND."""
        pool = await self._ledger.read_at_once(project_id, lambda transaction: transaction.pool())
        if pool is not None:
            return pool
        await self._directory.volumes(project_id, fresh=True)  # there must be such a project
        async with self._ledger.write(project_id) as transaction:
            pool = await transaction.pool()
            if pool is None:
                pool = Pool(project_id, loop=Loop(nonce=new_id()))
                await transaction.put_pool(pool)
        return await self._feed.pull(pool)

    async def _view(self, pool: Pool) -> PoolView:
        field = await self._directory.field(pool)
        return PoolView(pool, await self._boards.open_count(pool, field, self._clock()))


def check_request_id(request_id: str) -> None:
    """InvalidArgument BAD_REQUEST_ID when it is too long to be remembered; '' is none."""
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidArgument(
            "BAD_REQUEST_ID",
            f"request_id {request_id[:MAX_REQUEST_ID]!r}... has {len(request_id)} characters; send a UUID, or "
            f"anything of at most {MAX_REQUEST_ID}",
        )


def _check(settings: PoolSettings, volumes: Mapping[str, VolumeGeometry]) -> None:
    for share in settings.strategies:
        find_strategy(share.strategy)
    named = [*settings.volumes, *(part.volume_id for part in settings.excluded)]
    unknown = sorted({volume for volume in named if volume not in volumes})
    if unknown:
        raise InvalidArgument(
            "UNKNOWN_VOLUME", f"the project has no volume {unknown[0]!r}; it has {', '.join(sorted(volumes))}"
        )
    for part in settings.excluded:
        part.region.require_within(volumes[part.volume_id].shape, f"volume {part.volume_id}")
