"""Who is served next: one request at a time, few that wait, and of one annotator's session only the newest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from biosegment.errors import (
    BiosegmentError,
    Conflict,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from biosegment_trainer.interaction.ports import Segmenter
from biosegment_trainer.interaction.task import LabelTask, SegmentAnswer, SegmentTask

_TRIES: Final = 2
_log = structlog.get_logger("biosegment_trainer.interaction")


@dataclass(frozen=True, slots=True)
class LineLimits:
    """Bounds of a line.

    Attributes:
        waiting: Requests that may wait while one is served.
        timeout_s: Of computing one answer.
        idle_s: The segmenter is ended when nobody has asked for so long; 0 never.
        warm: Start it before anybody asks.
    """

    waiting: int
    timeout_s: float
    idle_s: float
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A request's place in the line; later requests have higher numbers.

    Attributes:
        number: 1, 2, 3 ...
        user: Who asks.
        session: Of one annotator at one place; '' for none.
    """

    number: int
    user: str
    session: str

    def replaces(self, other: Place) -> bool:
        """Whether this is a request of the same session."""
        return bool(self.session) and (self.user, self.session) == (other.user, other.session)


@dataclass(slots=True, eq=False)
class _Waiting:
    task: SegmentTask | LabelTask
    place: Place
    answer: asyncio.Future[SegmentAnswer]


class SegmentLine:
    """Serves requests in the order in which they came.

    Args:
        segmenter: Started when the first request's turn has come.
        limits: Bounds.
    """

    def __init__(self, segmenter: Segmenter, limits: LineLimits) -> None:
        self._segmenter = segmenter
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._serving: _Waiting | None = None
        self._inside: set[Place] = set()
        self._last = 0
        self._is_announced = limits.warm

    def announce(self) -> None:
        """Say that requests will come: the segmenter starts now, and ends as if there had been one."""
        self._is_announced = True
        self._wake.set()

    @contextmanager
    def enter(self, user: str, session: str) -> Iterator[Place]:
        """Take a place, before voxels are read; it is held until the answer has come.

        Older requests of the same session are given up; that one of them is there already makes room for this one, as
        long as those that are given up leave.

        Raises:
            ResourceExhausted: BUSY.
        """
        self._last += 1
        place = Place(self._last, user, session)
        inside, most = len(self._inside), self._limits.waiting
        if inside > 2 * most or (inside > most and not any(map(place.replaces, self._inside))):
            raise ResourceExhausted(
                "BUSY",
                f"{inside - 1} requests wait for their segmentation already, as many as may; try again in a moment",
            )
        self._inside.add(place)
        for other in [each for each in self._waiting if place.replaces(each.place)]:
            self._waiting.remove(other)
            if not other.answer.done():
                other.answer.set_exception(_superseded())
        try:
            yield place
        finally:
            self._inside.discard(place)

    def require_newest(self, place: Place) -> None:
        """Raise Conflict SUPERSEDED once a newer request of the session has come."""
        if any(other.replaces(place) and other.number > place.number for other in self._inside):
            raise _superseded()

    async def segment(self, task: SegmentTask | LabelTask, place: Place) -> SegmentAnswer:
        """Wait for one's turn and for the answer.

        Args:
            task: The request.
            place: Its place.

        Raises:
            Conflict: SUPERSEDED by a newer request of the session.
            DeadlineExceeded: TOO_SLOW.
            Internal: SEGMENTER_CRASHED.
            BiosegmentError: As `Segmenter.segment`.
        """
        self.require_newest(place)
        mine = _Waiting(task, place, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._wake.set()
        try:
            return await mine.answer
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)

    async def run(self) -> None:
        """Serve until cancelled; the segmenter is ended with it."""
        try:
            while True:
                if self._is_announced:
                    self._is_announced = False
                    await self._warm()
                await self._next_or_idle()
                while self._waiting:
                    self._serving = self._waiting.popleft()
                    if not self._serving.answer.done():
                        await self._serve(self._serving)
                    self._serving = None
        finally:
            for each in (*self._waiting, *([self._serving] if self._serving else ())):
                each.answer.cancel()
            await self._segmenter.close()

    async def _warm(self) -> None:
        try:
            await self._segmenter.warm()
        except BiosegmentError as error:
            # The first request tries again.
            _log.warning("segmenter_not_warm", reason=error.reason, message=error.message)

    async def _next_or_idle(self) -> None:
        self._wake.clear()
        if self._waiting or self._is_announced:
            return
        try:
            async with asyncio.timeout(self._limits.idle_s or None):
                await self._wake.wait()
        except TimeoutError:
            await self._segmenter.close()
            await self._wake.wait()

    async def _serve(self, request: _Waiting) -> None:
        """Compute an answer, also for one who gives up meanwhile: it comes soon, and a new process takes seconds."""
        try:
            answer = await self._attempts(request.task)
        except Exception as error:
            if not isinstance(error, BiosegmentError):
                _log.error("segmentation_failed", exc_info=error)
            if not request.answer.done():
                request.answer.set_exception(error)
        else:
            if not request.answer.done():
                request.answer.set_result(answer)

    async def _attempts(self, task: SegmentTask | LabelTask) -> SegmentAnswer:
        """A request changes nothing, so that one whose process died is simply asked again."""
        for tries_left in reversed(range(_TRIES)):
            # Its start has a limit of its own.
            await self._segmenter.warm()
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    return await self._segmenter.segment(task)
            except TimeoutError:
                raise DeadlineExceeded(
                    "TOO_SLOW",
                    f"the segmentation took longer than the {self._limits.timeout_s:g} s that one may take; ask for a "
                    "smaller region",
                ) from None
            except Unavailable as error:
                _log.warning(
                    "segmenter_lost", reason=error.reason, message=error.message, again=bool(tries_left)
                )
                if error.reason != "SEGMENTER_DIED":
                    raise
        # Not Unavailable: whoever asks again by itself would have it die again and again.
        raise Internal(
            "SEGMENTER_CRASHED",
            f"the process that segments died {_TRIES} times over this request; ask for a smaller region, and see the "
            "trainer's log",
        )


def _superseded() -> Conflict:
    return Conflict("SUPERSEDED", "a newer request of this session came; its answer counts")
