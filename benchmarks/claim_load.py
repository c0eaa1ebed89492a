"""Annotators who claim, annotate and give back: the load of `benchmarks.claims`, in a process of its own.

usage: python -m benchmarks.claim_load SPECIFICATION.json   (prints one line of JSON)

Each annotator's claims are due at fixed times, whether the one before was answered or not (an open loop); in between
the sample is committed, or every fourth time given back. A claim's time is that from when it was due until its
answer: what this process itself adds by being late counts, and is told beside it, as is the processor time that it
takes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1.sampler_pb2_grpc import SamplerServiceStub
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.client import AsyncClient, aconnect
from biosegment.client.resources import Sample
from biosegment.rpc.channel import ServiceCredentials, connect

Claim = Callable[[], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True)
class Specification:
    """What to do.

    Attributes:
        gateway: Address.
        sampler: Address to claim at directly, '' to claim through the gateway.
        signing_key: The gateway's, when claiming directly.
        project: Name.
        tokens: By user.
        interval_s: Between the claims of an annotator.
        seconds: How long.
    """

    gateway: str
    sampler: str
    signing_key: str
    project: str
    tokens: dict[str, str]
    interval_s: float
    seconds: float


class Load:
    """All annotators."""

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self.claims_ms: list[float] = []
        self.late_ms: list[float] = []
        self.counts: Counter[str] = Counter()
        self._in_hand: set[str] = set()

    async def run(self) -> None:
        """Work until the time is over and everything is answered."""
        spec = self._specification
        clients = {user: aconnect(spec.gateway, token=token) for user, token in spec.tokens.items()}
        direct = SamplerServiceStub(connect(spec.sampler)) if spec.sampler else None
        begin = time.perf_counter() + 1.0
        async with asyncio.TaskGroup() as group:
            for number, (user, client) in enumerate(clients.items()):
                claim = self._directly(direct, user) if direct else self._through_gateway(client)
                first = begin + number * spec.interval_s / len(clients)
                group.create_task(self._annotator(client, claim, first, random.Random(number)))
        for client in clients.values():
            await client.close()

    def _through_gateway(self, client: AsyncClient) -> Claim:
        async def claim() -> list[Sample]:
            return list((await client.samples.claim(self._specification.project)).samples)

        return claim

    def _directly(self, stub: Any, user: str) -> Claim:
        credentials = ServiceCredentials(
            PrincipalSigner("gateway", Path(self._specification.signing_key)), "sampler"
        )

        async def claim() -> list[Sample]:
            request = pb.ClaimSamplesRequest(
                parent=self._specification.project, count=1, request_id=str(uuid.uuid4())
            )
            answer = await stub.ClaimSamples(
                request, metadata=credentials.metadata(Principal(Kind.USER, user))
            )
            return [Sample.from_proto(sample) for sample in answer.samples]

        return claim

    async def _annotator(
        self, client: AsyncClient, claim: Claim, first: float, chance: random.Random
    ) -> None:
        spec = self._specification
        rounds = int(spec.seconds / spec.interval_s)
        async with asyncio.TaskGroup() as group:
            for number in range(rounds):
                due = first + number * spec.interval_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._round(client, claim, due, chance))

    async def _round(self, client: AsyncClient, claim: Claim, due: float, chance: random.Random) -> None:
        self.late_ms.append(1e3 * (time.perf_counter() - due))
        try:
            samples = await claim()
        except Exception as error:
            self.counts[f"claims refused: {getattr(error, 'reason', error)}"] += 1
            return
        self.claims_ms.append(1e3 * (time.perf_counter() - due))
        self.counts["claims"] += 1
        await asyncio.sleep(chance.uniform(0.2, 0.6) * self._specification.interval_s)
        for sample in samples:
            if sample.name in self._in_hand:
                # What they have not finished is given to them again.
                self.counts["again"] += 1
                continue
            self._in_hand.add(sample.name)
            self.counts["samples"] += 1
            try:
                if chance.random() < 0.75:
                    labels = np.ones(sample.region.shape, np.uint8)
                    await client.annotations.commit(labels, sample=sample)
                    self.counts["committed"] += 1
                else:
                    await client.samples.release(sample.name)
                    self.counts["released"] += 1
            except Exception as error:
                self.counts[f"refused: {getattr(error, 'reason', error)}"] += 1


def main() -> int:
    """Run what the file says."""
    begun = time.process_time()
    load = Load(Specification(**json.loads(Path(sys.argv[1]).read_text())))
    asyncio.run(load.run())
    answer = {
        "claims_ms": load.claims_ms,
        "late_ms": load.late_ms,
        "counts": load.counts,
        "processor_s": time.process_time() - begun,
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
