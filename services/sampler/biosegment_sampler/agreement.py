"""How far annotators agree where two of them annotated the same sample, neither led by the other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.auth import Principal
from biosegment.errors import NotFound
from biosegment_sampler.desk import Desk
from biosegment_sampler.directory import VolumeDirectory
from biosegment_sampler.domain.agreement import AuthorAgreement, Comparison, Pair, by_authors, pairs_of
from biosegment_sampler.ports import Datastore, Ledger

_AT_ONCE: Final = 4
_PER_CALL: Final = 200

Place = tuple[int, int]
"""Of a pair in the list: numbers of the records of the later and the earlier annotation."""


@dataclass(frozen=True, slots=True)
class AgreementsView:
    """Pairs, newest first; sums by annotators over all of them; pairs that are not compared yet."""

    pairs: Sequence[tuple[Pair, Comparison]]
    authors: Sequence[AuthorAgreement]
    pending: int


class AgreementService:
    """Has pairs of annotations compared where the labels are, each once: annotations never change."""

    def __init__(self, ledger: Ledger, directory: VolumeDirectory, datastore: Datastore, desk: Desk) -> None:
        self._ledger = ledger
        self._directory = directory
        self._datastore = datastore
        self._desk = desk
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def list(
        self, principal: Principal, project_id: str, sample_id: str, before: Place | None, limit: int
    ) -> AgreementsView:
        """Agreements that come after a place in the list, at most `limit`.

        Args:
            principal: A member.
            project_id: Project.
            sample_id: Only of this sample, '' for all.
            before: Of the last pair that the caller has, None for the first page.
            limit: Pairs at most; sums are over all.
        """
        await self._desk.reader(principal, project_id)
        await self._desk.catch_up(project_id)
        # Who comes meanwhile finds compared what this one has compared.
        async with self._turns[project_id]:
            async with self._ledger.read(project_id) as transaction:
                annotations = await transaction.room.doubly_annotated(sample_id)
                pairs = pairs_of(annotations, await transaction.room.events_of_doubly_annotated(sample_id))
                known = dict(await transaction.room.comparisons())
            # Labels of deleted volumes are gone; what was compared before that is known.
            present = await self._directory.present(project_id)
            missing = [pair for pair in pairs if pair.key not in known and pair.first.volume_id in present]
            made: dict[tuple[str, str], Comparison] = {}
            if missing:
                made = await self._compare(missing[:_PER_CALL])
                known |= made
                async with self._ledger.write(project_id) as transaction:
                    await transaction.room.put_comparisons(made)
        compared = [(pair, known[pair.key]) for pair in pairs if pair.key in known]
        page = [each for each in compared if before is None or place_of(each[0]) < before][:limit]
        return AgreementsView(page, by_authors(compared), len(missing) - len(made))

    async def _compare(self, pairs: Sequence[Pair]) -> dict[tuple[str, str], Comparison]:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def compare(pair: Pair) -> Comparison | None:
            async with turns:
                try:
                    return await self._datastore.compare(*pair.key)
                except NotFound:  # deleted with its volume at this moment
                    return None

        found = await asyncio.gather(*map(compare, pairs))
        return {pair.key: each for pair, each in zip(pairs, found, strict=True) if each is not None}


def place_of(pair: Pair) -> Place:
    return pair.second.sequence, pair.first.sequence
