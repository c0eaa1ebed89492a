"""The asynchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from biosegment.client.annotations import Annotations
from biosegment.client.connection import Connection
from biosegment.client.instances import Instances
from biosegment.client.jobs import Jobs
from biosegment.client.models import Models
from biosegment.client.platform import Platform
from biosegment.client.projects import Projects
from biosegment.client.samples import Samples
from biosegment.client.segmentation import Segmentation
from biosegment.client.transport import transport
from biosegment.client.volumes import Volumes
from biosegment.rpc.channel import CallPolicy, connect

_POLICY = CallPolicy(attempts=60)
"""Three quarters of a minute of repeating calls that may be repeated: a gateway that was killed is back by then, on a
busy machine too."""


class AsyncClient:
    """A connection to the platform; close it, or use it as an asynchronous context manager.

    Attributes:
        connection: Where it goes.
        platform: Health, users and tokens.
        projects: Projects, classes and members.
        volumes: Volumes, layers, voxels and files.
        samples: What to annotate next.
        annotations: What was annotated.
        instances: Corrections of objects.
        models: Model versions.
        jobs: Import, training, prediction, scoring, export.
        segmentation: Masks from clicks and strokes.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        target, tls = transport(connection.address)
        self._channel = connect(target, credentials=connection.credentials, policy=_POLICY, tls=tls)
        self.platform = Platform(self._channel)
        self.projects = Projects(self._channel)
        self.volumes = Volumes(self._channel)
        self.samples = Samples(self._channel)
        self.annotations = Annotations(self._channel)
        self.instances = Instances(self._channel)
        self.models = Models(self._channel)
        self.jobs = Jobs(self._channel)
        self.segmentation = Segmentation(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
