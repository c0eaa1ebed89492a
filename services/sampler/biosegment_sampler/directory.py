"""The volumes of projects, remembered for a few seconds: every claim needs them, and they hardly ever change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from biosegment.volume import Index
from biosegment_sampler.cache import ByteCache
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.pool import Pool, VolumeGeometry
from biosegment_sampler.ports import Datastore

_LIFETIME_S: Final = 5.0
_CAPACITY: Final = 1024

Key = tuple[tuple[VolumeGeometry, ...], Index | None]


class VolumeDirectory:
    """Asks the datastore, and while somebody goes on asking renews what it knows before it is too old.

    Args:
        datastore: Knows the volumes.
        lifetime_s: A volume that was made or deleted may be noticed so much later.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        datastore: Datastore,
        lifetime_s: float = _LIFETIME_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._datastore = datastore
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._known: dict[str, tuple[float, Sequence[VolumeGeometry]]] = {}
        # A grid has three short axes: what counts is how many there are.
        self._fields: ByteCache[tuple[Key, CandidateField]] = ByteCache(_CAPACITY, lambda _: 1)
        self._asking: dict[str, asyncio.Task[Sequence[VolumeGeometry]]] = {}

    async def volumes(self, project_id: str, fresh: bool = False) -> Sequence[VolumeGeometry]:
        """All volumes by id.

        Args:
            project_id: Project.
            fresh: As they are now; for who misses one.

        Raises:
            NotFound: PROJECT_NOT_FOUND.
            Unavailable: The datastore does not answer.
        """
        asked_at, known = self._known.get(project_id, (0.0, ()))
        age_s = self._clock() - asked_at
        # Without a volume somebody is waiting for the first one.
        if fresh or not known or age_s >= self._lifetime_s:
            return await (self._ask(project_id) if fresh else self._ask_once(project_id))
        if age_s >= self._lifetime_s / 5:
            # Nobody waits for it; who is the first to find it too old sees what went wrong.
            self._ask_once(project_id).add_done_callback(lambda task: task.cancelled() or task.exception())
        return known

    async def present(self, project_id: str, volume_id: str = "") -> frozenset[str]:
        """Ids of all volumes, or that of one of them when it is there: samples and annotations outlive theirs."""
        known = frozenset(volume.volume_id for volume in await self.volumes(project_id))
        return known & {volume_id} if volume_id else known

    async def field(self, pool: Pool, fresh: bool = False) -> CandidateField:
        """All candidates of a pool; the same object as long as they are the same ones.

        Args:
            pool: The pool.
            fresh: As in `volumes`.

        Raises:
            NotFound, Unavailable: As `volumes`.
        """
        volumes = volumes_of(pool, await self.volumes(pool.project_id, fresh))
        key = (tuple(volumes), pool.settings.sample_shape)
        before, field = self._fields.get(pool.project_id) or (None, None)
        if field is None or before != key:
            field = await asyncio.to_thread(candidate_field, pool, volumes)
            self._fields.put(pool.project_id, (key, field))
        return field

    def _ask_once(self, project_id: str) -> asyncio.Task[Sequence[VolumeGeometry]]:
        task = self._asking.get(project_id)
        if task is None:
            task = self._asking[project_id] = asyncio.create_task(self._ask(project_id))
            task.add_done_callback(lambda _: self._asking.pop(project_id, None))
        return task

    async def _ask(self, project_id: str) -> Sequence[VolumeGeometry]:
        asked_at = self._clock()
        try:
            known = await self._datastore.volumes(project_id)
        except BaseException:
            self._known.pop(project_id, None)
            raise
        _, before = self._known.pop(project_id, (0.0, ()))
        known = before if tuple(before) == tuple(known) else known
        self._known[project_id] = (asked_at, known)
        if len(self._known) > _CAPACITY:
            self._known.pop(next(iter(self._known)))
        return known


def volumes_of(pool: Pool, volumes: Sequence[VolumeGeometry]) -> list[VolumeGeometry]:
    """Those that the pool samples from."""
    wanted = pool.settings.volumes
    return [volume for volume in volumes if not wanted or volume.volume_id in wanted]


def candidate_field(pool: Pool, volumes: Sequence[VolumeGeometry]) -> CandidateField:
    """The candidates of a pool in those volumes."""
    shape = pool.settings.sample_shape
    return CandidateField.over(
        [(volume.volume_id, volume.shape, volume.sample_shape(shape)) for volume in volumes]
    )
