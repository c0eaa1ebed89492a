"""One window of an annotator, which keeps what it holds for as long as it is open."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from biosegment.client.annotations import Annotations
from biosegment.client.resources import Annotation, Claim, LostSample, Sample, Session
from biosegment.errors import BiosegmentError, FailedPrecondition
from biosegment.volume import Region

if TYPE_CHECKING:
    from biosegment.client.samples import Samples

_BEATS = 3
"""Heartbeats within the time after which leases end without one."""
_TRIES = 10
"""Within the time of one heartbeat, while they fail."""


class SampleSession:
    """A window that holds samples: sends heartbeats in the background, and gives everything back at the end.

    Use it as a context manager. When the program dies, what it held is free again after the pool's
    `heartbeat_timeout_s`.
    """

    def __init__(
        self, samples: Samples, annotations: Annotations, project: str, beat_s: float | None = None
    ) -> None:
        """Nothing is held yet.

        Args:
            samples: To claim from.
            annotations: To commit to.
            project: `projects/{p}`.
            beat_s: Seconds between heartbeats; None for a third of the pool's `heartbeat_timeout_s`.
        """
        self._samples = samples
        self._annotations = annotations
        self._project = project
        self._beat_s = beat_s
        self._name = uuid.uuid4().hex
        self._held: dict[str, Sample] = {}
        self._finishing: set[str] = set()
        self._lost: list[LostSample] = []
        self._was_active = False
        self._failure: BiosegmentError | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        timeout_s = (await self._samples.pool(self._project)).heartbeat_timeout_s
        beat_s = timeout_s / _BEATS if self._beat_s is None else self._beat_s
        self._keeper = asyncio.create_task(self._keep(beat_s))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        # Where nobody can be told, the leases end by themselves.
        with contextlib.suppress(BiosegmentError):
            await self._samples.leave(self._project, self._name)
        self._held.clear()

    async def claim(self, count: int = 1, *, strategy: str = "", volume: str = "") -> Claim:
        """Lease the best samples to this window; see `Samples.claim`."""
        claim = await self._samples.claim(
            self._project, count, strategy=strategy, volume=volume, session=self._name, heartbeat=True
        )
        self._hold(*claim.samples)
        return claim

    async def create(self, volume: str, region: Region) -> Sample:
        """Lease a region of one's own choice to this window; see `Samples.create`."""
        sample = await self._samples.create(self._project, volume, region, session=self._name, heartbeat=True)
        self._hold(sample)
        return sample

    async def resume(self, name: str) -> Sample:
        """Lease an earlier sample to this window again; see `Samples.resume`."""
        sample = await self._samples.resume(name, session=self._name, heartbeat=True)
        self._hold(sample)
        return sample

    async def commit(
        self,
        labels: NDArray[np.uint8] | NDArray[np.uint32],
        sample: Sample,
        *,
        kind: str = "dense",
        class_scope: Sequence[int] = (),
        work_time_s: float = 0.0,
        comment: str = "",
        base_sequence: int | None = None,
        draft: str = "",
    ) -> Annotation:
        """Answer a sample of this window, with its newest lease, whichever `sample` has; see `Annotations.commit`.

        Raises:
            FailedPrecondition: LEASE_LOST when it ran out, and somebody else took the region meanwhile.
        """
        request_id = str(uuid.uuid4())

        async def send(held: Sample) -> Annotation:
            return await self._annotations.commit(
                labels,
                sample=held,
                kind=kind,
                class_scope=class_scope,
                work_time_s=work_time_s,
                comment=comment,
                base_sequence=base_sequence,
                request_id=request_id,
                draft=draft,
            )

        with self._finish(sample.name):
            try:
                return await send(self._held.get(sample.name, sample))
            except FailedPrecondition as error:
                if error.reason != "LEASE_EXPIRED":
                    raise
            return await send(await self._samples.renew(sample.name))

    async def release(self, name: str) -> Sample:
        """Give a sample back to the pool."""
        with self._finish(name):
            return await self._samples.release(name)

    async def skip(self, name: str, reason: str) -> Sample:
        """Set a sample aside."""
        with self._finish(name):
            return await self._samples.skip(name, reason)

    async def flag(self, name: str, text: str) -> Sample:
        """Ask about a sample; it is proposed to nobody until somebody answers."""
        with self._finish(name):
            return await self._samples.flag(name, text)

    async def note_activity(self) -> None:
        """Say that the annotator did something; the next heartbeat tells it."""
        self._was_active = True

    async def held(self) -> tuple[Sample, ...]:
        """What this window holds, with its newest leases.

        Raises:
            BiosegmentError: What went wrong with the last heartbeat; it is tried again.
        """
        if self._failure is not None:
            raise self._failure
        return tuple(self._held.values())

    async def lost(self) -> tuple[LostSample, ...]:
        """What was lost since the last call, to whom, and what to tell the annotator."""
        lost, self._lost = tuple(self._lost), []
        return lost

    async def renew(self) -> Session:
        """Send a heartbeat now; it comes by itself, too."""
        was_active, self._was_active = self._was_active, False
        believed = list(self._held)
        try:
            session = await self._samples.renew_session(
                self._project, self._name, active=was_active, samples=believed
            )
        except BaseException:
            self._was_active = self._was_active or was_active
            raise
        for sample in session.samples:
            # Unless it was finished while the answer was on its way.
            if sample.name in self._held:
                self._held[sample.name] = sample
        for lost in session.lost:
            await self._lose(lost)
        self._failure = None
        return session

    async def _lose(self, lost: LostSample) -> None:
        if lost.name in self._finishing or lost.name not in self._held:
            return
        is_finished = not lost.holder and (await self._samples.get(lost.name)).state in (
            "annotated",
            "skipped",
        )
        self._held.pop(lost.name, None)
        if not is_finished:
            self._lost.append(lost)

    async def _keep(self, beat_s: float) -> None:
        while True:
            await asyncio.sleep(beat_s if self._failure is None else beat_s / _TRIES)
            try:
                await self.renew()
            except BiosegmentError as error:
                self._failure = error

    def _hold(self, *samples: Sample) -> None:
        self._was_active = True
        self._held |= {sample.name: sample for sample in samples}

    @contextlib.contextmanager
    def _finish(self, name: str) -> Iterator[None]:
        self._was_active = True
        self._finishing.add(name)
        try:
            yield
        finally:
            self._finishing.discard(name)
        self._held.pop(name, None)
