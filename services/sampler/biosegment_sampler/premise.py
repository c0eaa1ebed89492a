"""What a proposal is made from, remembered from one claim to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from biosegment_sampler.cache import ByteCache
from biosegment_sampler.domain.pool import Pool
from biosegment_sampler.ports import Ledger, Transaction
from biosegment_sampler.service import PoolService

_CAPACITY: Final = 1024


@dataclass(frozen=True, slots=True)
class Premise:
    """How things were when a proposal was asked for.

    Attributes:
        pool: The pool.
        scores: Number of the change that last touched its score layers.
    """

    pool: Pool
    scores: int

    def holds(self, pool: Pool, scores: int) -> bool:
        """Whether a proposal that was made from it would still be that of now."""
        mine, now = self.pool.loop, pool.loop
        return (
            (self.pool.revision, mine.nonce, self.scores) == (pool.revision, now.nonce, scores)
            and (mine.scored_model, mine.latest_model) == (now.scored_model, now.latest_model)
            and (mine.scoring_failure, mine.rounds) == (now.scoring_failure, now.rounds)
        )


class Premises:
    """The last premises of pools. They may be outdated: who writes looks in the transaction whether one still holds.

    Args:
        ledger: The rows.
        pools: Makes a pool that is not there yet.
    """

    def __init__(self, ledger: Ledger, pools: PoolService) -> None:
        self._ledger = ledger
        self._pools = pools
        self._known: ByteCache[Premise] = ByteCache(_CAPACITY, lambda _: 1)

    async def get(self, project_id: str) -> Premise:
        """The last one that is known, or that of now. Raises NotFound PROJECT_NOT_FOUND."""
        return self._known.get(project_id) or await self.read(project_id)

    async def read(self, project_id: str) -> Premise:
        """That of now. Raises NotFound PROJECT_NOT_FOUND."""
        premise = None
        while premise is None:
            await self._pools.ensure(project_id)
            premise = await self._ledger.read_at_once(project_id, _read)
        self.put(premise)
        return premise

    def put(self, premise: Premise) -> None:
        """Remember what was found in a transaction."""
        self._known.put(premise.pool.project_id, premise)


async def _read(transaction: Transaction) -> Premise | None:
    pool = await transaction.pool()
    return None if pool is None else Premise(pool, await transaction.log.scores())
