"""Everything behind the routes of the MONAI Label API, made from the gateway's settings."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from biosegment.auth import Authorizer, Principal
from biosegment.database import Database
from biosegment.errors import BiosegmentError
from biosegment.memberships import DatastoreMemberships
from biosegment_gateway.monailabel.cache import CachedFile, FileCache
from biosegment_gateway.monailabel.dataset import Dataset, Datasets, Image, Listing
from biosegment_gateway.monailabel.file_reader import ReadFile, read_file
from biosegment_gateway.monailabel.inference import Inference
from biosegment_gateway.monailabel.label import Labels
from biosegment_gateway.monailabel.link import ImageLinks, plain_name
from biosegment_gateway.monailabel.picture import Pictures
from biosegment_gateway.monailabel.project import Projects
from biosegment_gateway.monailabel.sample import Samples
from biosegment_gateway.monailabel.segmenter import Segmenter
from biosegment_gateway.monailabel.services import Services
from biosegment_gateway.monailabel.session import Sessions
from biosegment_gateway.monailabel.sql import Records
from biosegment_gateway.monailabel.task import Tasks
from biosegment_gateway.monailabel.upload import Uploads
from biosegment_gateway.settings import GatewaySettings, parse_part
from biosegment_gateway.upstream import Upstream

_READING: Final = 2
"""Files of clients that are read at the same time."""
_log = structlog.get_logger("biosegment_gateway.monailabel")


@dataclass(frozen=True, slots=True)
class MonaiLabel:
    """The use cases.

    Attributes:
        settings: Of the gateway.
        folder: For files that are being received.
        services: The other services.
        authorizer: Decides about what is kept here alone.
        memberships: Roles of users.
        records: Rows.
        projects: Facts, remembered for a moment.
        datasets: Images and labels.
        pictures: Image files.
        labels: Labels.
        samples: Next samples.
        uploads: Images that clients bring.
        sessions: Images that clients bring for themselves.
        tasks: Trainings and the like.
        inference: Models.
        links: Names of images that carry a permission.
        making: Files that are made before they are asked for.
        reading: Taken while a file of a client is read, which takes memory.
    """

    settings: GatewaySettings
    folder: Path
    services: Services
    authorizer: Authorizer
    memberships: DatastoreMemberships
    records: Records
    projects: Projects
    datasets: Datasets
    pictures: Pictures
    labels: Labels
    samples: Samples
    uploads: Uploads
    sessions: Sessions
    tasks: Tasks
    inference: Inference
    links: ImageLinks
    making: dict[str, asyncio.Task[CachedFile]] = field(default_factory=dict)
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READING))

    async def read(self, path: Path, name: str, max_voxels: int) -> ReadFile:
        """Read a file that a client sent, a few at a time; errors as `read_file`."""
        async with self.reading:
            return await asyncio.to_thread(read_file, path, name, max_voxels)

    async def listing(self, principal: Principal, project_id: str) -> Listing:
        """The images and labels of a project as they are now."""
        dataset = await self.datasets.get(principal, project_id)
        await self.tasks.settle(principal, project_id)
        return await self.datasets.listing(dataset)

    async def image(self, principal: Principal, project_id: str, name: str) -> tuple[Dataset, Image]:
        """An image by the name that a client uses."""
        dataset = await self.datasets.get(principal, project_id)
        return dataset, dataset.image(plain_name(name), self.pictures.unit)

    def told_name(self, principal: Principal, project_id: str, image_id: str, is_open: bool) -> str:
        """The name under which a client is told of an image; `is_open`: it needs no token anyway."""
        return image_id if is_open else self.links.name(project_id, image_id, principal.user)

    def make_soon(self, principal: Principal, image: Image) -> None:
        """Make the file of an image, for it will be asked for in a moment."""
        if image.image_id not in self.making:
            task = asyncio.create_task(self.pictures.get(principal, image))
            self.making[image.image_id] = task
            task.add_done_callback(lambda done: self._made(image.image_id, done))

    def _made(self, image_id: str, task: asyncio.Task[Any]) -> None:
        self.making.pop(image_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            reason = error.reason if isinstance(error, BiosegmentError) else repr(error)
            _log.warning("image_not_made", image=image_id, reason=reason)


@asynccontextmanager
async def open_monailabel(
    settings: GatewaySettings, database: Database, upstreams: Mapping[str, Upstream]
) -> AsyncIterator[MonaiLabel]:
    """Make the use cases; at the end what is being made is given up."""
    with tempfile.TemporaryDirectory(prefix="monailabel-") as ending:
        folder = Path(settings.monailabel_dir or ending)
        unit = settings.monailabel_unit
        services, records = Services(upstreams), Records(database)
        memberships = DatastoreMemberships(upstreams["datastore"].channel)
        authorizer = Authorizer(memberships)
        projects = Projects(services, authorizer)
        datasets = Datasets(projects, records, parse_part(settings.monailabel_part))
        cache = FileCache(folder / "cache", settings.monailabel_cache_bytes)
        incoming = folder / "incoming"
        await asyncio.to_thread(incoming.mkdir, 0o700, parents=True, exist_ok=True)
        found = MonaiLabel(
            settings=settings,
            folder=incoming,
            services=services,
            authorizer=authorizer,
            memberships=memberships,
            records=records,
            projects=projects,
            datasets=datasets,
            pictures=Pictures(services, cache, unit, f".{settings.monailabel_format}"),
            labels=Labels(services, records, authorizer, cache, unit),
            samples=Samples(services, records, datasets, unit),
            uploads=Uploads(services, projects, records, authorizer, unit),
            sessions=Sessions(records, folder / "sessions", settings.monailabel_session_s),
            tasks=Tasks(services, projects, records, unit),
            inference=Inference(Segmenter(services)),
            links=ImageLinks.with_key_of(settings.signing_key_file, settings.monailabel_link_s),
        )
        try:
            yield found
        finally:
            for task in found.making.values():
                task.cancel()
            await asyncio.gather(*found.making.values(), return_exceptions=True)
            await found.samples.close()
