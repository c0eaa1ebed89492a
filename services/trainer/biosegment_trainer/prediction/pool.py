"""The workers of a prediction: actors on Ray that take block after block: a slow or dead one costs one block."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from biosegment.errors import Internal
from biosegment.jobs import JobCancelled, JobCrashed, Resources
from biosegment_trainer.compute.cluster import Cluster, failure, prediction_share, ray_options
from biosegment_trainer.compute.task import Outcome
from biosegment_trainer.prediction.actor import BlockActor
from biosegment_trainer.prediction.block import BlockId

_MAX_FAILURES: Final = 3
"""Workers that a block, or the loading of the model, may cost; and as many again that it makes silent."""
_ON_GPU: Final = 2
_LOOK_EVERY_S: Final = 1.0
_PULSE: Final = "pulse"
"""Concurrency group of an actor in which it answers while it computes."""
_log = structlog.get_logger("biosegment_trainer.pool")


@dataclass(frozen=True, slots=True)
class PoolState:
    """How far a pool is.

    Attributes:
        done: Blocks that are finished.
        workers: That are at work.
        blocks_per_s: Since the first worker was ready; 0 before the first block.
    """

    done: int
    workers: int
    blocks_per_s: float


@dataclass(frozen=True, slots=True)
class PoolWatch:
    """What a pool tells and asks whoever runs it.

    Attributes:
        progress: Told now and then, and after every block; may raise to end the pool.
        is_done: Asked, when a worker died, whether it had recorded its block.
        name: What a block is called in messages.
        log: Takes a line for the job's log.
    """

    progress: Callable[[PoolState], Awaitable[None]]
    is_done: Callable[[BlockId], Awaitable[bool]]
    name: Callable[[BlockId], str]
    log: Callable[[str], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Worker:
    """An actor and the call that it is busy with: `block` None while it loads the model.

    Attributes:
        actor: On Ray.
        call: Ends with it.
        block: That it computes.
        has_begun: It has given a sign of life; before, it may wait for room on a node.
        pulse: The sign of life that it was asked for last.
        silent_s: How long it has owed that one.
    """

    actor: Any
    call: asyncio.Future[Outcome]
    block: BlockId | None = None
    has_begun: bool = False
    pulse: asyncio.Future[None] | None = None
    silent_s: float = 0.0


@dataclass(slots=True)
class BlockPool:
    """Runs blocks on as many actors as the cluster has room for.

    Attributes:
        cluster: Held by the caller.
        resources: Of one actor.
        silence_s: An actor that has begun and gives no sign of life for so long is given up.
        limit: Most actors; 0 for as many as there is room for.
        actor: Class of the actors, like `BlockActor`.
        keep: Keep the actors after a run, for the next one; the caller ends them with `close`.
    """

    cluster: Cluster
    resources: Resources
    silence_s: float
    limit: int = 0
    actor: Any = BlockActor
    keep: bool = False
    _workers: list[_Worker] = field(default_factory=list)
    _idle: list[Any] = field(default_factory=list)
    _dead: list[Any] = field(default_factory=list)
    _failures: Counter[BlockId | None] = field(default_factory=Counter)
    _silences: Counter[BlockId | None] = field(default_factory=Counter)

    @property
    def _at_once(self) -> int:
        """Blocks of one actor at a time: CPUs have nothing to gain from a second one."""
        return _ON_GPU if self.resources.gpus else 1

    async def run(
        self, task: Any, blocks: Iterable[BlockId], cancelled: asyncio.Event, watch: PoolWatch
    ) -> None:
        """Finish all blocks; unless they are to be kept, no actor is left, and none after an error.

        Raises:
            JobCancelled: `cancelled` was set.
            JobCrashed: The cluster is gone, or workers die while they load the model.
            Internal: BLOCK_FAILED: a block fails again and again, kills its workers or makes them silent.
            BiosegmentError: What a worker met with.
        """
        waiting, complete = deque(blocks), False
        done, began_s, looked_s = 0, 0.0, time.monotonic()
        stop = asyncio.ensure_future(cancelled.wait())
        lost = asyncio.ensure_future(self.cluster.lost.wait())
        try:
            while waiting or any(worker.block for worker in self._workers):
                await self._staff(task, len(waiting))
                await self._hand_out(waiting)
                if not waiting and not self.keep:
                    await self._release()
                news: set[asyncio.Future[Any]] = {stop, lost, *(worker.call for worker in self._workers)}
                await asyncio.wait(news, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    raise JobCancelled
                if lost.done():
                    raise JobCrashed("Ray stopped, with everything that ran on it", lost=True)
                # A process that was itself stopped for a while has missed nothing.
                passed_s = min(time.monotonic() - looked_s, _LOOK_EVERY_S)
                looked_s = time.monotonic()
                await self._feel(passed_s)
                for worker in [worker for worker in self._workers if self._ended(worker)]:
                    finished = await self._end_of(worker, watch)
                    self._workers.remove(worker)
                    began_s = began_s or time.monotonic()
                    if finished:
                        done += 1
                    elif worker.block is not None:
                        waiting.appendleft(worker.block)
                rate = done / (time.monotonic() - began_s) if done else 0.0
                loading = sum(worker.block is None for worker in self._workers)
                await watch.progress(PoolState(done, len(self._actors()) - loading, rate))
            complete = True
        finally:
            stop.cancel()
            lost.cancel()
            if not (complete and self.keep):
                await self.close()

    async def close(self) -> None:
        """End all actors."""
        actors = self._actors()
        for worker in self._workers:
            worker.call.cancel()
        self._workers, self._idle = [], []
        await self._kill(actors)

    async def _staff(self, task: Any, waiting: int) -> None:
        """Have as many actors as there is room and work for."""
        room = await self.cluster.workers(self.resources)
        work = waiting + sum(bool(worker.block) for worker in self._workers)
        wanted = min(room, self.limit or room, -(-work // self._at_once))
        for _ in range(wanted - len(self._actors())):
            options = ray_options(self.resources, prediction_share(self.cluster.predictions)) | {
                "max_restarts": 0,
                "max_task_retries": 0,
                "max_concurrency": self._at_once,
            }

            def make(ray: Any, options: dict[str, Any] = options) -> tuple[Any, Any]:
                kind = ray.remote(concurrency_groups={_PULSE: 1})(self.actor)
                actor = kind.options(**options).remote(task, self._at_once)
                return actor, actor.prepare.remote()

            actor, reference = await self.cluster.call(make)
            self._workers.append(_Worker(actor, _future(reference)))

    async def _hand_out(self, waiting: deque[BlockId]) -> None:
        # Only to those that are ready: one that waits for room on a node must not keep a block waiting.
        while waiting and self._idle:
            actor, block = self._idle.pop(), waiting.popleft()
            self._workers.append(_Worker(actor, await self._begin(actor, block), block, has_begun=True))

    async def _release(self) -> None:
        """End actors that have nothing to do any more: others may wait for their room."""
        busy = {id(worker.actor) for worker in self._workers}
        spare = [actor for actor in self._idle if id(actor) not in busy]
        if spare:
            self._idle = [actor for actor in self._idle if id(actor) in busy]
            await self._kill(spare)

    async def _begin(self, actor: Any, block: BlockId) -> asyncio.Future[Outcome]:
        return _future(await self.cluster.call(lambda ray: actor.predict.remote(block)))

    async def _feel(self, passed_s: float) -> None:
        """Ask whoever loads the model or computes for a sign of life.

        Ray says when a worker or a node dies, but not when one is frozen or cut off: its calls just never return.
        """
        for worker in self._workers:
            if worker.pulse is not None and not worker.pulse.done():
                worker.silent_s += passed_s if worker.has_begun else 0.0
                continue
            worker.has_begun = worker.has_begun or worker.pulse is not None
            worker.silent_s = 0.0
            worker.pulse = _future(await self.cluster.call(partial(_pulse, worker.actor)))
            # How it ends is learned from the call.
            worker.pulse.add_done_callback(lambda pulse: pulse.cancelled() or pulse.exception())

    def _ended(self, worker: _Worker) -> bool:
        return worker.call.done() or worker.silent_s >= self.silence_s

    async def _end_of(self, worker: _Worker, watch: PoolWatch) -> bool:
        """Look at how a call ended; True when it finished a block."""
        if not worker.call.done():
            worker.call.cancel()
            return await self._lost(
                worker,
                JobCrashed(f"its worker has not been heard of for {worker.silent_s:.0f} s"),
                watch,
                self._silences,
            )
        error = worker.call.exception()
        if error is None:
            outcome = worker.call.result()
            if outcome.cancelled:
                raise JobCancelled
            if outcome.error is not None:
                raise outcome.error
            if not any(actor is worker.actor for actor in self._dead):
                self._idle += [worker.actor] * (1 if worker.block else self._at_once)
            return worker.block is not None
        meaning = await self.cluster.call(lambda ray: failure(ray, error))
        died = not (isinstance(meaning, JobCrashed) and meaning.lost)
        return await self._lost(worker, meaning, watch, self._failures if died else None)

    async def _lost(
        self,
        worker: _Worker,
        meaning: Exception,
        watch: PoolWatch,
        counted: Counter[BlockId | None] | None,
    ) -> bool:
        """Do without an actor; True when it had recorded its block.

        A node that is gone is no fault of the block. A silence may be, though a single one mostly is not: the block may
        keep its worker from answering, each time anew.
        """
        self._dead.append(worker.actor)
        self._idle = [actor for actor in self._idle if actor is not worker.actor]
        await self._kill([worker.actor])
        if worker.block is not None and await watch.is_done(worker.block):
            return True
        what = watch.name(worker.block) if worker.block else "the model"
        _log.warning("worker_lost", block=what, error=str(meaning))
        gone = "the node is gone, " if counted is None else ""
        await watch.log(f"{what}: {meaning}; {gone}another worker takes it")
        if counted is None:
            return False
        counted[worker.block] += 1
        if counted[worker.block] >= _MAX_FAILURES:
            if worker.block is None:
                raise meaning
            raise Internal(
                "BLOCK_FAILED", f"{what} failed {_MAX_FAILURES} times, the last time because {meaning}"
            )
        return False

    def _actors(self) -> list[Any]:
        every = [*(worker.actor for worker in self._workers), *self._idle]
        return list({id(actor): actor for actor in every}.values())

    async def _kill(self, actors: list[Any]) -> None:
        def kill(ray: Any) -> None:
            for actor in actors:
                ray.kill(actor, no_restart=True)

        try:
            await self.cluster.call(kill)
        except JobCrashed:
            pass  # with the cluster they are gone


def _pulse(actor: Any, ray: Any) -> Any:
    return actor.alive.options(concurrency_group=_PULSE).remote()


def _future(reference: Any) -> asyncio.Future[Any]:
    return asyncio.wrap_future(reference.future())
