"""What jobs may reserve, and whether any node is large enough for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from biosegment.errors import FailedPrecondition, Unavailable
from biosegment.jobs import JobContext, JobCrashed, Resources
from biosegment.jobs.queue import Lane
from biosegment_trainer.compute.dispatch import Dispatch

_ASK_WITHIN_S: Final = 10.0
_KNOWN_FOR_S: Final = 30.0
_UNKNOWN_FOR_S: Final = 1.0
_REMEMBERED_FOR_S: Final = 600.0
_NODE_WITHIN_S: Final = 60.0


class Capacity:
    """Fills in what a job does not ask for, and refuses what no node has.

    A node that is away for a while still counts: it may just be restarted.

    Args:
        nodes: Asks what each node has, the largest first; `Executor.nodes`.
        defaults: Of a job; 0 CPUs: the share of one GPU, or of a node without any; 0 memory: none is reserved.
        gpus: Of a job by default; -1: one where any node has one.
        largest: A node that a cluster may grow to and does not show yet.
        trainings: The lane of trainings, kept as wide as there are GPUs; None where an operator has set its width.
        shares: Jobs that share the CPUs of a GPU, or of a node without any.
    """

    def __init__(
        self,
        nodes: Callable[[], Awaitable[Sequence[Resources]]],
        defaults: Resources,
        gpus: int = -1,
        largest: Resources | None = None,
        trainings: Lane | None = None,
        shares: int = 1,
    ) -> None:
        self._ask = nodes
        self._defaults = defaults
        self._gpus = gpus
        self._largest = largest
        self._trainings = trainings
        self._shares = shares
        self._missed_s: dict[Resources, float | None] = {}
        """Sizes of nodes, and since when each is away; None: it is there."""
        self._ask_at_s = 0.0
        self._asking = asyncio.Lock()

    async def reserve(self, asked: Resources, *, on_gpu: bool = True) -> Resources:
        """What a new job that asks for `asked` reserves, with defaults where it is 0; no GPU unless it has use for one.

        While no node is known nothing is refused, and what is 0 remains so, for `fill` when the job begins.

        Raises:
            FailedPrecondition: NO_NODE_LARGE_ENOUGH.
        """
        nodes = await self._nodes()
        if not nodes:
            return asked
        wanted = self._with_defaults(asked, nodes, on_gpu)
        if not any(wanted.fits(node) for node in nodes):
            raise FailedPrecondition(
                "NO_NODE_LARGE_ENOUGH",
                f"the job asks for {wanted} on one node, and the largest node has {nodes[0]}; ask for less",
            )
        return wanted

    async def fill(self, asked: Resources, *, on_gpu: bool = True) -> Resources | None:
        """What a job reserves that was let in with `asked`; None while no node is known.

        It is never refused: Ray waits for a node that is away.
        """
        nodes = await self._nodes()
        return self._with_defaults(asked, nodes, on_gpu) if nodes else None

    async def fill_attempt(self, context: JobContext, dispatch: Dispatch, *, on_gpu: bool) -> None:
        """Set what an attempt reserves; waits for a cluster that is away, and then a little for its nodes.

        Raises:
            JobCancelled: The job should stop.
        """
        asked = context.job.resources
        found = await self.fill(asked, on_gpu=on_gpu)
        if found is None:
            async with dispatch.cluster(context):
                end_s = time.monotonic() + _NODE_WITHIN_S
                # One that grows on demand shows a node only when a task waits for it.
                while (found := await self.fill(asked, on_gpu=on_gpu)) is None and time.monotonic() < end_s:
                    context.raise_if_cancelled()
                    await asyncio.sleep(_UNKNOWN_FOR_S)
        if found is None:
            context.job = replace(context.job, resources=self._with_defaults(asked, (), on_gpu))
        else:
            await context.reserve(found)

    def _with_defaults(self, asked: Resources, nodes: Sequence[Resources], on_gpu: bool) -> Resources:
        memory = asked.memory_bytes or self._defaults.memory_bytes
        gpus = asked.gpus or (self._gpus if self._gpus >= 0 else int(any(node.gpus for node in nodes)))
        fitting = [node for node in nodes if Resources(asked.cpus or 1, gpus, memory).fits(node)]
        if not fitting and not asked.gpus and self._gpus < 0:
            # No node with a GPU has so much else.
            without = [node for node in nodes if Resources(asked.cpus or 1, 0, memory).fits(node)]
            gpus, fitting = (0, without) if without else (gpus, fitting)
        sizes = fitting or nodes
        if asked.cpus:
            cpus = asked.cpus
        elif self._defaults.cpus:
            cpus = min([self._defaults.cpus, *(node.cpus for node in sizes)])
        else:
            cpus = min((self._share(node, gpus) for node in sizes), default=1)
        # Only now: what works beside networks takes no more CPUs of a node than they do.
        return Resources(cpus, gpus if on_gpu else 0, memory)

    def _share(self, node: Resources, gpus: int) -> int:
        of_one = max(1, node.cpus // (self._shares * max(1, node.gpus)))
        return min(node.cpus, of_one * max(1, gpus))

    async def _nodes(self) -> Sequence[Resources]:
        async with self._asking:
            if time.monotonic() >= self._ask_at_s:
                try:
                    async with asyncio.timeout(_ASK_WITHIN_S):
                        self._remember([node for node in await self._ask() if node.cpus])
                except (Unavailable, TimeoutError, JobCrashed):
                    # The job waits for it in the queue; nobody else can say how large its nodes are.
                    pass
                self._ask_at_s = time.monotonic() + (_KNOWN_FOR_S if self._missed_s else _UNKNOWN_FOR_S)
        nodes = sorted(
            self._missed_s, key=lambda node: (node.gpus, node.cpus, node.memory_bytes), reverse=True
        )
        return [self._largest, *nodes] if self._largest is not None else nodes

    def _remember(self, alive: Sequence[Resources]) -> None:
        if not alive:
            return
        now = time.monotonic()
        away = {
            node: now if since is None else since
            for node, since in self._missed_s.items()
            if node not in alive and (since is None or now - since < _REMEMBERED_FOR_S)
        }
        self._missed_s = {**dict.fromkeys(alive), **away}
        if self._trainings is not None:
            jobs = [min(node.gpus, node.cpus // max(1, self._defaults.cpus)) for node in alive]
            self._trainings.concurrent = max(1, sum(jobs))
