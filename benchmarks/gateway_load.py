"""People in front of 3D Slicer and of browsers: the load generator of `benchmarks.gateway`, a process of its own.

usage: python -m benchmarks.gateway_load SPECIFICATION.json

Each has a connection of their own and asks at fixed times, whether or not the last answer has come. The last line of
the output is JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp

TILE = 256
_GZIP = 31
_LABELLED = 4
"""Of so many next samples one is answered with a final label."""


@dataclass(frozen=True, slots=True)
class Specification:
    """What to do.

    Attributes:
        kind: `info`, `next` or `tiles`.
        http: Base address.
        volume: Name.
        shape: Of the volume, z, y, x.
        tokens: One person each.
        interval_s: Between the requests of a person.
        seconds: How long.
        arrival_s: Within which everybody comes.
    """

    kind: str
    http: str
    volume: str
    shape: tuple[int, int, int]
    tokens: list[str]
    interval_s: float
    seconds: float
    arrival_s: float


class Visitor:
    """Somebody with a token and a connection.

    Args:
        load: Where it is noted what happens.
        number: Of the person; also the seed of their whims.
        session: With their token.
    """

    def __init__(self, load: Load, number: int, session: aiohttp.ClientSession) -> None:
        self._load = load
        self._number = number
        self._session = session
        self._random = random.Random(number)
        self._asked = 0

    async def ask(self) -> None:
        """One request that is measured, and what comes with it."""
        self._asked += 1
        await {"info": self._info, "next": self._next, "tiles": self._tile}[self._load.specification.kind]()

    async def _info(self) -> None:
        body = await self._measured("GET", f"{self._base}/info/")
        if body is not None and not json.loads(body)["models"]:
            self._load.counts["wrong: no models"] += 1

    async def _tile(self) -> None:
        depth, height, width = self._load.specification.shape
        # Somebody who goes through the slices at one place, and then somewhere else.
        if self._asked % 16 == 1:
            self._slice = self._random.randrange(depth)
            self._place = (
                self._random.randrange(-(-height // TILE)),
                self._random.randrange(-(-width // TILE)),
            )
        self._slice = (self._slice + 1) % depth
        row, column = self._place
        url = f"/tiles/{self._load.specification.volume}/xy/0/{self._slice}/{row}/{column}.jpg"
        body = await self._measured("GET", url)
        if body is not None and body[:2] != b"\xff\xd8":
            self._load.counts["wrong: no JPEG"] += 1

    async def _next(self) -> None:
        client = {"client_id": f"bench-{self._number}"}
        body = await self._measured("POST", f"{self._base}/activelearning/entropy", json=client)
        if body is None:
            return
        found = json.loads(body)
        if not found:
            self._load.counts["nothing left"] += 1
            return
        image = await self._other("GET", f"{self._base}/datastore/image?image={quote_plus(found['id'])}")
        if image is not None and self._asked % _LABELLED == 0:
            await self._label(found["id"], image)

    async def _label(self, image_id: str, image: bytes) -> None:
        """Everything is background: the file of the image with other voxels."""
        head, _, packed = image.partition(b"\n\n")
        zeros = bytes(len(zlib.decompress(packed, _GZIP)))
        packer = zlib.compressobj(1, wbits=_GZIP)
        form = aiohttp.FormData()
        form.add_field("params", json.dumps({"label_info": [{"name": "mitochondria", "idx": 1}]}))
        file = head + b"\n\n" + packer.compress(zeros) + packer.flush()
        form.add_field("label", file, filename="label.nrrd")
        await self._other("PUT", f"{self._base}/datastore/label?image={quote_plus(image_id)}", data=form)

    @property
    def _base(self) -> str:
        return f"/monailabel/{self._load.specification.volume.split('/')[1]}"

    async def _measured(self, method: str, url: str, **options: object) -> bytes | None:
        began = time.perf_counter()
        body = await self._other(method, url, **options)
        if body is not None:
            self._load.times_ms.append(1e3 * (time.perf_counter() - began))
        return body

    async def _other(self, method: str, url: str, **options: object) -> bytes | None:
        what = f"{method} /{url.partition('?')[0].split('/')[-1] or 'info'}"
        if self._load.specification.kind == "tiles":
            what = "tiles"
        try:
            async with self._session.request(method, url, **options) as answer:  # type: ignore[arg-type]
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._load.counts[f"error: {what}: {type(error).__name__}"] += 1
            return None
        if answer.status != 200:
            self._load.counts[f"error: {what}: {answer.status} {body[:200].decode(errors='replace')}"] += 1
            return None
        self._load.counts[what] += 1
        return body


class Load:
    """All of them."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.times_ms: list[float] = []
        self.late_ms: list[float] = []
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Ask until the time is over and everything is answered."""
        spec = self.specification
        begin = time.perf_counter() + 0.5
        async with asyncio.TaskGroup() as group:
            for number, token in enumerate(spec.tokens):
                first = begin + number * spec.arrival_s / len(spec.tokens)
                group.create_task(self._person(number, token, first))

    async def _person(self, number: int, token: str, first: float) -> None:
        spec = self.specification
        headers = {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(spec.http, headers=headers, timeout=timeout) as session:
            visitor = Visitor(self, number, session)
            async with asyncio.TaskGroup() as group:
                for turn in range(max(1, int(spec.seconds / spec.interval_s))):
                    due = first + turn * spec.interval_s
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    self.late_ms.append(1e3 * (time.perf_counter() - due))
                    group.create_task(visitor.ask())


def main() -> int:
    """Run what the file says."""
    load = Load(Specification(**json.loads(Path(sys.argv[1]).read_text())))
    asyncio.run(load.run())
    found = {
        "times_ms": load.times_ms,
        "late_ms": load.late_ms,
        "counts": load.counts,
        "processor_s": time.process_time(),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
