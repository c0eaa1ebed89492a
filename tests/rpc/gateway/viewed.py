"""A volume with layers of every kind behind a gateway, for tests of what viewers see."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.client.volumes import Volumes
from biosegment.volume import Index, Region
from tests.rpc.gateway.conftest import settings_in
from tests.rpc.gateway.pair import Pair, open_pair

SHAPE = (20, 300, 520)
RED, GREEN = 0xE04020, 0x20C060
"""Of the classes 2 and 3."""


@dataclass(frozen=True, slots=True)
class Viewed:
    """What there is to see.

    Attributes:
        pair: The servers.
        volume: The message.
        image: Its voxels.
        labels: Of the layer of labels: class 2 in a corner, 3 in the opposite one, background between.
        names: Resource names of the layers: labels, probabilities, instances, annotations.
    """

    pair: Pair
    volume: Any
    image: Any
    labels: Any
    names: dict[str, str]

    @property
    def web(self) -> httpx.AsyncClient:
        return self.pair.web

    async def level(self, number: int) -> Any:
        """Voxels of a level, as the datastore reads them."""
        return await self.pair.admin.read(self.volume.name, level=number)

    async def picture(self, path: str, **options: Any) -> Image.Image:
        """A picture that the gateway draws."""
        answer = await self.web.get(path, **options)
        assert answer.status_code == 200, answer.text
        return Image.open(io.BytesIO(answer.content))

    async def token_of(self, user_id: str, role: Any = None) -> str:
        """An API token of a new user, who has a role in the project or none."""
        identity: Any = IdentityServiceStub(self.pair.channel)
        await identity.CreateUser(identity_pb2.CreateUserRequest(user_id=user_id))
        if role is not None:
            member = project_pb2.Member(name=f"projects/em/members/{user_id}", role=role)
            await self.pair.admin.datastore.SetMember(pb.SetMemberRequest(member=member))
        made = await identity.CreateToken(identity_pb2.CreateTokenRequest(parent=f"users/{user_id}"))
        return str(made.secret)


@asynccontextmanager
async def open_viewed(folder: Path, keys: Path) -> AsyncIterator[Viewed]:
    """Start the servers and fill them; for many tests, none of which may change what others look at."""
    z, y, x = np.indices(SHAPE)
    image = (1000 + 40 * z + 20 * y + 10 * x).astype(np.uint16)
    labels = np.ones(SHAPE, np.uint8)
    labels[:, :60, :80] = 2
    labels[5:, 200:, 400:] = 3
    async with open_pair(folder, keys, settings_in(folder, keys)) as pair:
        classes = [
            project_pb2.LabelClass(display_name="mitochondria", color_rgb=RED),
            project_pb2.LabelClass(display_name="membrane", color_rgb=GREEN),
        ]
        project = project_pb2.Project(display_name="em", classes=classes)
        await pair.admin.datastore.CreateProject(pb.CreateProjectRequest(project_id="em", project=project))
        volume = await pair.admin.import_volume(
            "projects/em", pair.datastore.write_tiff("stack.tif", image), "brain"
        )
        volumes = Volumes(pair.channel)
        halved = np.ascontiguousarray(np.where(labels == 2, 255, 0).astype(np.uint8)[:, ::2, ::2])
        made = {
            "labels": await volumes.write_layer(volume.name, labels, display_name="prediction"),
            "probabilities": await volumes.write_layer(
                volume.name, halved, kind="probabilities", class_value=2, downsampling=(1, 2, 2)
            ),
            "instances": await volumes.write_layer(
                volume.name, np.where(labels == 1, 0, labels + 7).astype(np.uint32), kind="instances"
            ),
        }
        names = {kind: layer.name for kind, layer in made.items()}
        names["annotations"] = f"{volume.name}/layers/annotations"
        region = Region(Index(3, 10, 20), Index(4, 42, 52))
        await pair.admin.commit(volume.name, region, np.full(region.shape, 2), class_scope=[2, 3])
        assert (await pair.admin.read(names["annotations"], region) == 2).all()  # which waits for it
        yield Viewed(pair, volume, image, labels, names)
