"""Carries out together what is asked for at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from biosegment.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Collects calls while earlier ones are being carried out; what has gathered by then is the next batch.

    A lonely call is carried out at once; after a batch of several, the next one may wait for as many. When a whole
    batch fails, each of its calls is carried out by itself, so that one bad call fails nobody else's; until one of them
    finds what all of them need away (Unavailable), which then is the answer to the rest.

    Args:
        run: Carries out a batch; returns a result or an error for each item, in order. It may be called again with
            items that it failed upon.
        largest: Most items of a batch.
        gather_s: After a batch of several, how long to wait at most until as many are waiting again.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        largest: int = 64,
        gather_s: float = 0.0,
    ) -> None:
        self._run = run
        self._largest = largest
        self._gather_s = gather_s
        self._wanted = 0
        self._enough = asyncio.Event()
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """Have an item carried out; raises its error.

        A cancelled caller hears of no result. Its item is left out when it still waits, and carried out otherwise.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._wanted:
            self._enough.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while batch := self._next():
                await self._carry_out(batch)
                await self._gather(len(batch))
        finally:
            self._worker = None

    async def _gather(self, size: int) -> None:
        # What a batch costs is the same for few: those who were together come again together.
        if size == 1 or self._gather_s == 0 or len(self._waiting) >= size:
            return
        self._wanted = size
        self._enough.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._gather_s):
                await self._enough.wait()

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._waiting and len(batch) < self._largest:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _carry_out(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # whatever it is, those who wait must hear of it
            if len(batch) == 1:
                _settle(batch[0][1], error)
                return
            await self._carry_out_singly(batch)
            return
        for (_, future), result in zip(batch, results, strict=True):
            _settle(future, result)

    async def _carry_out_singly(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        for number, each in enumerate(batch):
            await self._carry_out([each])
            away = _outage(each[1])
            if away is not None:
                # The rest would find that out one after another, each after a timeout, while more and more wait.
                for _, future in batch[number + 1 :]:
                    _settle(future, away)
                return


def _outage(future: asyncio.Future[R]) -> Unavailable | None:
    error = future.exception() if future.done() and not future.cancelled() else None
    return error if isinstance(error, Unavailable) else None


def _settle(future: asyncio.Future[R], result: R | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
