"""The next image to label: chosen by the sampler's strategies, leased as a whole, and never given to two at once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final

from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.auth import Principal
from biosegment.errors import BiosegmentError, FailedPrecondition, InvalidArgument, NotFound
from biosegment.rpc.geometry import region_from_proto, region_to_proto
from biosegment.volume import Index
from biosegment_gateway.monailabel.dataset import Dataset, Datasets, Image
from biosegment_gateway.monailabel.geometry import LengthUnit
from biosegment_gateway.monailabel.image import part_at
from biosegment_gateway.monailabel.record import ServedSample
from biosegment_gateway.monailabel.services import Services
from biosegment_gateway.monailabel.sql import Records, now_us

_AHEAD: Final = 2
"""Samples that are claimed at once: the image around the best one may be somebody else's."""
_TRIES: Final = 32
_MOST_HELD: Final = 4
"""Images that one program of a user has at a time; who goes on without labelling must not keep them from others."""


class Samples:
    """Gives out images.

    Args:
        services: The sampler, in the name of the user.
        records: Of who has which image.
        datasets: Tell which images have no label.
        unit: Of lengths, for finding images.
    """

    def __init__(self, services: Services, records: Records, datasets: Datasets, unit: LengthUnit) -> None:
        self._services = services
        self._records = records
        self._datasets = datasets
        self._unit: LengthUnit = unit
        self._leaving: set[asyncio.Task[None]] = set()

    async def next(
        self, principal: Principal, dataset: Dataset, strategy: str, client_id: str
    ) -> tuple[Image, ServedSample] | None:
        """The next image for one program of a user; None when nothing is left.

        Who asks again without having labelled gets another one, and the earlier ones when there is no other. The last
        four stay theirs until their leases end.

        Raises:
            NotFound: NO_SUCH_STRATEGY.
        """
        project = dataset.project
        if strategy not in project.strategies:
            known = ", ".join(sorted(project.strategies))
            raise NotFound("NO_SUCH_STRATEGY", f"there is no strategy {strategy[:100]!r}; there are {known}")
        tried: set[str] = set()
        async with contextlib.aclosing(self._candidates(principal, dataset, strategy)) as candidates:
            async for image in candidates:
                if image.image_id in tried:
                    continue
                tried.add(image.image_id)
                served = await self._take(principal, dataset, image, strategy, client_id)
                if served is not None:
                    return image, served
                if len(tried) >= _TRIES:
                    break
        return await self._again(principal, dataset, strategy, client_id)

    async def close(self) -> None:
        """Finish giving back what was asked for its place only."""
        await asyncio.gather(*self._leaving)

    async def _candidates(
        self, principal: Principal, dataset: Dataset, strategy: str
    ) -> AsyncGenerator[Image, None]:
        """Images around the sampler's proposals, best first, then whatever is not labelled."""
        project = dataset.project
        request = sampler_pb2.ClaimSamplesRequest(
            parent=project.name,
            count=_AHEAD,
            strategy=strategy,
            request_id=str(uuid.uuid4()),
            # A window of its own, so that what the user holds already is left alone. Its leases end soon if nobody
            # gives them back, for there are no heartbeats.
            session=f"monailabel-{uuid.uuid4().hex}",
            heartbeat=True,
        )
        claim = self._services.sampler.ClaimSamples
        answer: Any = await self._services.ask("sampler", principal, claim, request)
        try:
            around = {}
            for sample in answer.samples:
                with contextlib.suppress(NotFound):
                    image = self._around(dataset, sample)
                    around[image.image_id] = image
            taken = await self._records.taken(project.project_id, around)
            for image_id, image in around.items():
                if image_id not in taken:
                    yield image
        finally:
            self._leave_soon(principal, project.name, request.session)
        listing, held = await asyncio.gather(
            self._datasets.listing(dataset), self._records.held(project.project_id)
        )
        for image_id in listing.unlabelled():
            if image_id not in held:
                yield dataset.image(image_id, self._unit)

    def _around(self, dataset: Dataset, sample: sampler_pb2.Sample) -> Image:
        base, volume = dataset.base_of(sample.volume)
        region = region_from_proto(sample.region)
        middle = Index(*((low + high) // 2 for low, high in zip(region.start, region.stop, strict=True)))
        return dataset.image(str(part_at(base, volume.shape, dataset.part, middle)), self._unit)

    async def _take(
        self, principal: Principal, dataset: Dataset, image: Image, strategy: str, client_id: str
    ) -> ServedSample | None:
        """Lease an image; None when it is somebody else's, or a part of it."""
        request = sampler_pb2.CreateSampleRequest(
            parent=dataset.project.name,
            volume=image.volume.name,
            region=region_to_proto(image.region),
            request_id=str(uuid.uuid4()),
        )
        try:
            answer: Any = await self._services.ask(
                "sampler", principal, self._services.sampler.CreateSample, request
            )
        except (FailedPrecondition, InvalidArgument):
            # Taken, or of a volume that the pool's settings leave out.
            return None
        served = _served(principal, image, client_id, answer.sample)
        if await self._serve(principal, dataset, served, strategy):
            return served
        # Another program of the same user was given it at the same moment.
        self._release_soon(principal, answer.sample.name)
        return None

    async def _serve(
        self, principal: Principal, dataset: Dataset, served: ServedSample, strategy: str
    ) -> bool:
        """Note who has an image, and give back what the same program has too many of; False when another has it."""
        said = {"ts": served.serve_time_us // 1_000_000, "client_id": served.client_id}
        info = {"strategy": {strategy: said}}
        given_up = await self._records.serve(dataset.project.project_id, served, info, _MOST_HELD)
        for each in given_up or ():
            self._release_soon(principal, each.sample)
        return given_up is not None

    async def _again(
        self, principal: Principal, dataset: Dataset, strategy: str, client_id: str
    ) -> tuple[Image, ServedSample] | None:
        """What the same program has already, that which it was given longest ago first."""
        project_id = dataset.project.project_id
        for held in await self._records.samples(project_id, principal.user, client_id):
            try:
                image = dataset.image(held.image_id, self._unit)
                request = sampler_pb2.RenewLeaseRequest(name=held.sample)
                answer: Any = await self._services.ask(
                    "sampler", principal, self._services.sampler.RenewLease, request
                )
            except (FailedPrecondition, NotFound):
                await self._records.give_back(project_id, held.image_id)
                continue
            renewed = _served(principal, image, client_id, answer.sample)
            if await self._serve(principal, dataset, renewed, strategy):
                return image, renewed
        return None

    def _leave_soon(self, principal: Principal, project: str, session: str) -> None:
        """Give back what was only asked for its place; the client need not wait for that."""
        request = sampler_pb2.LeaveSessionRequest(parent=project, session=session)
        self._soon(self._services.ask("sampler", principal, self._services.sampler.LeaveSession, request))

    def _release_soon(self, principal: Principal, name: str) -> None:
        request = sampler_pb2.ReleaseSampleRequest(name=name)
        self._soon(self._services.ask("sampler", principal, self._services.sampler.ReleaseSample, request))

    def _soon(self, call: Coroutine[Any, Any, Any]) -> None:
        """Make a call in the background; what cannot be given back ends by itself."""

        async def carry_out() -> None:
            with contextlib.suppress(BiosegmentError):
                await call

        task = asyncio.create_task(carry_out())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def _served(principal: Principal, image: Image, client_id: str, sample: sampler_pb2.Sample) -> ServedSample:
    lease = sample.lease
    return ServedSample(
        image.image_id,
        principal.user,
        client_id,
        sample.name,
        lease.token,
        now_us(),
        lease.expire_time.ToMicroseconds(),
    )
