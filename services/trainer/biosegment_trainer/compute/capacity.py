"""What jobs may reserve, and whether any node is large enough for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from biosegment.errors import FailedPrecondition, Unavailable
from biosegment.jobs import Resources
from biosegment.jobs.queue import Lane

_ASK_WITHIN_S: Final = 10.0
_KNOWN_FOR_S: Final = 30.0


class Capacity:
    """Fills in what a job does not ask for, and refuses what no node has.

    Args:
        nodes: Asks what each node has, the largest first; `Executor.nodes`.
        defaults: Of a job; 0 CPUs: so many that a training and a prediction fit on each GPU, or node without any; 0
            memory: none is reserved.
        gpus: Of a job by default; -1: one where any node has one.
        largest: A node that a cluster may grow to and does not show yet.
        trainings: The lane of trainings, kept as wide as there are GPUs; None where an operator has set its width.
    """

    def __init__(
        self,
        nodes: Callable[[], Awaitable[Sequence[Resources]]],
        defaults: Resources,
        gpus: int = -1,
        largest: Resources | None = None,
        trainings: Lane | None = None,
    ) -> None:
        self._ask = nodes
        self._defaults = defaults
        self._gpus = gpus
        self._largest = largest
        self._trainings = trainings
        self._known: Sequence[Resources] = ()
        self._asked_s = -_KNOWN_FOR_S

    async def reserve(self, asked: Resources) -> Resources:
        """What a job that asks for `asked` reserves, with defaults where it is 0.

        While a cluster has never been reached, defaults are all that is known and nothing is refused.

        Raises:
            FailedPrecondition: NO_NODE_LARGE_ENOUGH.
        """
        nodes = await self._nodes()
        gpus = asked.gpus or (self._gpus if self._gpus >= 0 else int(any(node.gpus for node in nodes)))
        memory = asked.memory_bytes or self._defaults.memory_bytes
        wanted = Resources(asked.cpus or 1, gpus, memory)
        fitting = [node for node in nodes if wanted.fits(node)]
        if nodes and not fitting:
            raise FailedPrecondition(
                "NO_NODE_LARGE_ENOUGH",
                f"the job asks for {wanted} on one node, and the largest node has {nodes[0]}; ask for less",
            )
        if asked.cpus:
            return wanted
        if self._defaults.cpus:
            return replace(wanted, cpus=min([self._defaults.cpus, *(node.cpus for node in fitting)]))
        shares = [node.cpus // (2 * max(1, node.gpus)) for node in fitting]
        return replace(wanted, cpus=max(1, min(shares, default=1)))

    async def _nodes(self) -> Sequence[Resources]:
        if time.monotonic() - self._asked_s >= _KNOWN_FOR_S:
            self._asked_s = time.monotonic()
            try:
                async with asyncio.timeout(_ASK_WITHIN_S):
                    self._known = await self._ask()
            except (Unavailable, TimeoutError):
                # The job waits for it in the queue; nobody else can say how large its nodes are.
                pass
            if self._trainings is not None and self._known:
                self._trainings.concurrent = max(1, sum(node.gpus for node in self._known))
        nodes = [node for node in self._known if node.cpus]
        return [self._largest, *nodes] if self._largest is not None else nodes
