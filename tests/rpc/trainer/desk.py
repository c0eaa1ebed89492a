"""A trainer that segments, beside a real datastore: two volumes, a model whose answers are known, requests."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2
from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import DeadlineExceeded
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore_server import RunningDatastore, running_datastore
from tests.rpc.trainer.conftest import TrainerProcess, free_address
from tests.rpc.trainer.tiny_clicks import write_click_bundle

BALLS, WIDE = (12, 96, 96), (4, 300, 300)
ALL = Region.of_shape(BALLS)
CENTRES = ((6, 30, 30), (6, 70, 60))
WAITING = 3
XY, XZ, YZ, IN_3D = pb.PLANE_XY, pb.PLANE_XZ, pb.PLANE_YZ, pb.PLANE_UNSPECIFIED


def balls() -> tuple[Any, Any]:
    """Two bright balls of 120 nm radius in voxels of 30 x 10 x 10 nm, on a ramp: uint8 image, and where they are."""
    z, y, x = np.mgrid[: BALLS[0], : BALLS[1], : BALLS[2]]
    inside = np.zeros(BALLS, bool)
    for cz, cy, cx in CENTRES:
        inside |= (3 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= 12**2
    return (np.where(inside, 180, 70) + x // 8).astype(np.uint8), inside


def wide() -> Any:
    """A disc of 60 voxels radius in voxels of 5 nm."""
    _, y, x = np.mgrid[: WIDE[0], : WIDE[1], : WIDE[2]]
    return np.where((y - 150) ** 2 + (x - 131) ** 2 <= 60**2, 180, 70).astype(np.uint8)


@dataclass
class Desk:
    """A datastore, a trainer, and two volumes of project `em` of ada."""

    datastore: RunningDatastore
    trainer: TrainerProcess
    balls: str
    wide: str

    async def ask(self, request: pb.SegmentRequest, user: str = "ada") -> pb.SegmentResponse:
        answer: pb.SegmentResponse = await self.trainer.as_user(user).segmentation.Segment(request)
        return answer

    async def patiently(self, request: pb.SegmentRequest) -> pb.SegmentResponse:
        """Ask again where the process starts for longer than a call may last, as others use all cores."""
        async with asyncio.timeout(240):
            while True:
                try:
                    return await self.ask(request)
                except DeadlineExceeded:
                    await asyncio.sleep(1)

    def child(self) -> psutil.Process | None:
        """The process that segments."""
        assert self.trainer.process is not None
        for each in psutil.Process(self.trainer.process.pid).children():
            # One that has just died is none.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "biosegment_trainer.interaction.child" in each.cmdline():
                    return each
        return None


def asked(
    volume: str,
    region: Region = ALL,
    clicks: tuple[tuple[tuple[int, int, int], bool], ...] = (),
    *,
    level: int | None = None,
    scribbles: Any = None,
    previous: Any = None,
    **fields: Any,
) -> pb.SegmentRequest:
    fields.setdefault("plane", XY)
    fields.setdefault("class_value", 2)
    return pb.SegmentRequest(
        project="projects/em",
        volume_image=pb.VolumeImage(volume=volume, region=region_to_proto(region), level=level),
        clicks=[pb.Click(position=index_to_proto(at), positive=good) for at, good in clicks],
        scribbles=b"" if scribbles is None else sent(scribbles),
        previous_mask=b"" if previous is None else sent(previous),
        **fields,
    )


def sent(array: Any) -> bytes:
    return zlib.compress(np.ascontiguousarray(array).tobytes())


def mask_of(answer: pb.SegmentResponse, region: Region = ALL) -> Any:
    return np.frombuffer(zlib.decompress(answer.mask), np.uint8).reshape(region.shape)


def edges(answer: pb.SegmentResponse) -> tuple[float, ...]:
    return (answer.voxel_size.z_nm, answer.voxel_size.y_nm, answer.voxel_size.x_nm)


def overlap(mask: Any, truth: Any) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@asynccontextmanager
async def open_desk(folder: Path, keys: Path) -> AsyncIterator[Desk]:
    """Start all of it; the process that segments runs already."""
    write_click_bundle(folder / "bundles")
    async with AsyncExitStack() as stack:
        datastore = await stack.enter_async_context(running_datastore(folder, keys))
        ada = datastore.as_user("ada")
        project = await ada.create_project("em", classes=("mitochondria", "vesicles"))
        for user, role in (("vic", project_pb2.ROLE_VIEWER), ("ann", project_pb2.ROLE_ANNOTATOR)):
            member = project_pb2.Member(name=f"projects/em/members/{user}", role=role)
            await ada.datastore.SetMember(datastore_pb2.SetMemberRequest(member=member))
        names = []
        for name, image, size in (("balls", balls()[0], 10), ("wide", wide(), 5)):
            voxel_size = geometry_pb2.VoxelSize(z_nm=30, y_nm=size, x_nm=size)
            path = datastore.write_tiff(f"{name}.tif", image)
            names.append((await ada.import_volume(project.name, path, name, voxel_size=voxel_size)).name)
        trainer = TrainerProcess(folder, keys, datastore, free_address())
        stack.push_async_callback(trainer.stop)
        stack.push_async_callback(trainer.close)
        prefix = "BIOSEGMENT_TRAINER__"
        await trainer.start(
            **{
                f"{prefix}SHIPPED_BUNDLES_DIR": str(folder / "bundles"),
                f"{prefix}SEGMENT_WAITING": str(WAITING),
                f"{prefix}SEGMENT_MAX_VOXELS": str(4 * 300 * 300),
                f"{prefix}SEGMENT_THREADS": "1",
            }
        )
        started = Desk(datastore, trainer, *names)
        await started.patiently(asked(started.balls, clicks=((CENTRES[0], True),)))
        yield started
        assert await trainer.stop() == 0
