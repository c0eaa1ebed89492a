"""What is taken in a pool: kept in memory, and brought up to date by what has changed since."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from biosegment_sampler.cache import ByteCache
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.occupancy import NEAR, TAKEN, Hold, Occupancy
from biosegment_sampler.domain.pool import Pool, VolumeRegion
from biosegment_sampler.domain.ranking import Ranking
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Changes, LabelledRegion, Ledger, Transaction

_NEWS: Final = TAKEN | NEAR


class Board:
    """A pool's occupancy as of one of its changes; every change of a sample or an annotation has a number.

    Whoever looks at it inside of a transaction first applies what came after that number. So it is right with several
    processes and after a restart, and costs what has changed. Hold `lock` while you do both.

    Attributes:
        lock: One thread at a time.
        occupancy: Of all candidates of the pool.
        leased: Samples in state LEASED, by id; also those whose time is over, until somebody writes that down.
        dealt: How many samples so far were chosen by the shares of the pool.
    """

    def __init__(self, pool: Pool, field: CandidateField) -> None:
        self.lock = threading.Lock()
        self._field = field
        self._settings = pool.settings
        self._clear()

    def _clear(self) -> None:
        self.occupancy = Occupancy(self._field, self._settings.slice_distance)
        self.leased: dict[str, Sample] = {}
        self.dealt = 0
        self._number: int | None = None
        self.occupancy.fill((number, Hold(place)) for number, place in enumerate(self._settings.excluded))

    @property
    def nbytes(self) -> int:
        return self.occupancy.nbytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet, so that the first look may take long."""
        return self._number is None

    async def catch_up(self, transaction: Transaction, *, is_writing: bool) -> Changes:
        """Apply what has changed; returns that.

        Args:
            transaction: Sees the rows.
            is_writing: Nobody else can write meanwhile, so that it cannot see less than an earlier one; when it does,
                the database was put back, and everything is read anew.
        """
        changes = await transaction.log.since(self._number)
        if is_writing and self._number is not None and changes.number < self._number:
            self._clear()
            changes = await transaction.log.since(None)
        if self._number is None:
            self._fill(changes)
        elif changes.number > self._number:
            self._apply(changes)
        return changes

    async def look(self, transaction: Transaction) -> None:
        """Catch up in a transaction that only reads."""
        with self.lock:
            await self.catch_up(transaction, is_writing=False)

    def prepare(self, volume_id: str, rankings: Sequence[Ranking]) -> None:
        """Work out which candidates come first, in a volume or in all, so that no claim has to."""
        with self.lock:
            view = self.occupancy.view(volume_id)
            for ranking in rankings:
                view.queue(ranking).prepare()

    def lapse(self, now: float) -> list[Sample]:
        """Give back the regions of leases that are over; returns these samples as they are then, to be written."""
        over = [sample for sample in self.leased.values() if sample.state_at(now) is not SampleState.LEASED]
        for sample in over:
            self.occupancy.free(_key(sample))
        return [sample.lapsed() for sample in over]

    def _fill(self, changes: Changes) -> None:
        held = [sample for sample in changes.samples if _hold(sample) is not None]
        self.occupancy.fill((_key(sample), hold) for sample in held if (hold := _hold(sample)) is not None)
        self.occupancy.fill((item.name, _labelled(item)) for item in changes.annotations if item.holds)
        self._note(changes)

    def _apply(self, changes: Changes) -> None:
        # First what is new: a sample that was annotated is labelled now, and its windows were never open between.
        for item in changes.annotations:
            if item.holds:
                self.occupancy.hold(item.name, _labelled(item))
        for sample in changes.samples:
            hold = _hold(sample)
            if hold is None:
                self.occupancy.free(_key(sample))
            else:
                self.occupancy.hold(_key(sample), hold)
        for item in changes.annotations:
            if not item.holds:
                self.occupancy.free(item.name)
        self._note(changes)

    def _note(self, changes: Changes) -> None:
        self.dealt += changes.dealt
        for sample in changes.samples:
            self.leased.pop(sample.sample_id, None)
            if sample.state is SampleState.LEASED:
                self.leased[sample.sample_id] = sample
        self._number = changes.number


def _key(sample: Sample) -> str:
    return f"samples/{sample.sample_id}"


def _hold(sample: Sample) -> Hold | None:
    if sample.state is SampleState.LEASED:
        return Hold(VolumeRegion(sample.volume_id, sample.region), _NEWS)
    if sample.state is SampleState.SKIPPED:
        return Hold(VolumeRegion(sample.volume_id, sample.region))
    return None


def _labelled(item: LabelledRegion) -> Hold:
    return Hold(item.place, TAKEN if item.in_latest_model else _NEWS)


class Boards:
    """The boards of a process, those of the pools that were used last.

    Args:
        ledger: The rows.
        max_bytes: For all of them.
    """

    def __init__(self, ledger: Ledger, max_bytes: int) -> None:
        self._ledger = ledger
        self._boards: ByteCache[tuple[tuple[object, ...], Board]] = ByteCache(
            max_bytes, lambda known: known[1].nbytes
        )

    async def board(self, pool: Pool, field: CandidateField) -> Board:
        """The board of a pool, a new one when its candidates or what is excluded have changed.

        A new one is read first, outside of the transactions that others wait for.

        Args:
            pool: The pool.
            field: All of its candidates; the same object as long as they do not change.
        """
        key = (pool.loop.nonce, pool.settings.excluded, pool.settings.slice_distance, field)
        known = self._boards.get(pool.project_id)
        if known is None or known[0] != key:
            known = (key, Board(pool, field))
            self._boards.put(pool.project_id, known)
        board = known[1]
        if board.is_empty:
            await self._ledger.read_at_once(pool.project_id, board.look)
        return board

    async def open_count(self, pool: Pool, field: CandidateField, now: float) -> int:
        """Candidates of a pool that nothing takes now."""
        board = await self.board(pool, field)
        await self._ledger.read_at_once(pool.project_id, board.look)
        with board.lock:
            board.lapse(now)
            return board.occupancy.open_count
