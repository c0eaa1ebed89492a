"""Each pool's place in the loop, in SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.ports import Ledger


class LoopStore:
    """Writes how far the loop of a pool is, without touching what others changed meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def change(self, pool: Pool, which: str, **changes: Any) -> Pool:
        """Store changes of fields of `Loop`, unless the job that they speak of is not the present one any more.

        Args:
            pool: As it was when the changes were decided on.
            which: `training` or `scoring`.
            changes: New values by name.
        """
        request = f"{which}_request_id"
        return await self._write(pool, changes, request, getattr(pool.loop, request))

    async def store(self, pool: Pool, **changes: Any) -> Pool:
        """Store changes of fields of `Loop`."""
        return await self._write(pool, changes)

    async def _write(self, pool: Pool, changes: dict[str, Any], field: str = "", expected: str = "") -> Pool:
        async with self._ledger.write(pool.project_id) as transaction:
            current = await transaction.pool() or pool
            if field and getattr(current.loop, field) != expected:
                return current
            pool = replace(current, loop=replace(current.loop, **changes))
            await transaction.put_pool(pool)
            return pool
