"""Following the samples of a project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from biosegment.auth import Principal
from biosegment.resume_token import DIGITS, read_resume_token
from biosegment_sampler.desk import Desk, SampleView
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Ledger, Transaction

_LOOK_S: Final = 1.0
_BEYOND: Final = 10**DIGITS
"""No change has this number."""
_HELD: Final = frozenset({SampleState.LEASED, SampleState.SKIPPED})
_MOST: Final = 1000
"""Samples that are told of to begin with, the newest."""


class WatchingService:
    """Tells of every sample that changes.

    Whoever watches looks once in a second: samples also change in other processes, and leases run out by themselves.
    """

    def __init__(self, ledger: Ledger, desk: Desk) -> None:
        self._ledger = ledger
        self._desk = desk

    async def watch(
        self, principal: Principal, project_id: str, resume_token: str
    ) -> AsyncGenerator[tuple[SampleView | None, str], None]:
        """Samples that are leased or set aside, then each that changes, for as long as the caller may see them.

        Yields:
            A sample, None when there is none to begin with, and where to resume after it; '' when more of the same
            look follow.

        Raises:
            InvalidArgument: BAD_RESUME_TOKEN.
            NotFound: PROJECT_NOT_FOUND.
        """
        number, shown, is_first = read_resume_token(resume_token), _Shown(), True
        while True:
            # Also asks whether the caller is a member still.
            reader = await self._desk.reader(principal, project_id)
            await self._desk.catch_up(project_id)
            last, changed = await self._since(project_id, number)
            now = self._desk.clock()
            news = shown.news(changed, now)
            for sample in news[:-1]:
                yield self._desk.view(sample, reader, now), ""
            if news or is_first:
                yield (self._desk.view(news[-1], reader, now) if news else None), str(last)
            number, is_first = last, False
            await asyncio.sleep(_LOOK_S)

    async def _since(self, project_id: str, number: int | None) -> tuple[int, Sequence[Sample]]:
        """The number of the last change, and the samples that changed after `number`."""

        async def read(rows: Transaction) -> tuple[int, Sequence[Sample]]:
            changes = await rows.log.since(_BEYOND if number is None else number)
            # Rows that are older than the token come from a backup.
            if number is None or changes.number < number:
                return changes.number, await rows.list_samples(_HELD, "", "", _MOST, self._desk.clock())
            return changes.number, changes.samples

        return await self._ledger.read_at_once(project_id, read)


class _Shown:
    """What was told of the samples that are leased: renewals are no news, and the end of a lease is."""

    def __init__(self) -> None:
        self._leased: dict[str, tuple[Sample, object]] = {}

    def news(self, changed: Iterable[Sample], now: float) -> list[Sample]:
        """Those of the changed samples that have to be told, and those whose lease ran out."""
        present = {key: sample for key, (sample, _) in self._leased.items()}
        present |= {sample.sample_id: sample for sample in changed}
        found = []
        for key, sample in present.items():
            before, face = self._leased.get(key), _face(sample, now)
            if before is None or before[1] != face:
                found.append(sample)
            if sample.state_at(now) is SampleState.LEASED:
                self._leased[key] = (sample, face)
            else:
                self._leased.pop(key, None)
        return found


def _face(sample: Sample, now: float) -> object:
    """What is seen of a sample, apart from how long its lease lasts."""
    lease = sample.lease
    holder = (lease.holder, lease.session, lease.purpose) if lease else None
    return sample.state_at(now), holder, sample.term, sample.annotation, sample.flag, sample.events[-1:]
