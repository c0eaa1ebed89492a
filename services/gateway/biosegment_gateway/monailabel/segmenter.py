"""Labels from the trainer's process that segments: by a model, by clicks, by strokes; nothing is stored."""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.auth import Principal
from biosegment.errors import (
    BiosegmentError,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from biosegment.rpc.geometry import data_type_to_proto, index_to_proto, region_to_proto, voxel_size_to_proto
from biosegment.volume import BACKGROUND, Index, Region, VoxelSize
from biosegment_gateway.monailabel.services import Services

_PIECE_BYTES: Final = 3 << 20
"""Of one request: seconds on two cores, so that others get their turn in between, and less than a message takes."""
_CALL_S: Final = 58.0
_PATIENCE_S: Final = 240.0
"""How long is tried again while the process starts or others are served."""
_PAUSE_S: Final = 0.5

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is segmented: a part of a volume, or voxels that a client sent.

    Attributes:
        shape: Voxels (z, y, x).
        volume: `projects/{p}/volumes/{v}`; '' for voxels that were sent.
        region: Of the volume.
        voxels: (z, y, x) that were sent; None for a volume.
        voxel_size: Of sent voxels.
    """

    shape: Index
    volume: str = ""
    region: Region | None = None
    voxels: NDArray[Any] | None = field(default=None, repr=False)
    voxel_size: VoxelSize | None = None

    def part(self, start: int, stop: int) -> Picture:
        """Some of the slices."""
        shape = Index(stop - start, self.shape.y, self.shape.x)
        if self.region is not None:
            low = self.region.start
            region = Region.of_shape(shape, Index(low.z + start, low.y, low.x))
            return Picture(shape, self.volume, region)
        assert self.voxels is not None
        return Picture(shape, voxels=self.voxels[start:stop], voxel_size=self.voxel_size)


class Segmenter:
    """Asks for labels.

    Args:
        services: The trainer, in the name of the user.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def by_model(self, principal: Principal, project: str, picture: Picture) -> tuple[Labels, str]:
        """Class values over a picture, 1 none of the classes, and the model that says so."""
        sent_bytes = picture.voxels.dtype.itemsize if picture.voxels is not None else 1
        depth = max(1, _PIECE_BYTES // (picture.shape.y * picture.shape.x * sent_bytes))
        pieces, model = [], ""
        for start in range(0, picture.shape.z, depth):
            part = picture.part(start, min(picture.shape.z, start + depth))
            request = pb.SegmentByModelRequest(project=project, model=model)
            await _put(request, part)
            answer: Any = await self._patiently(
                principal, self._services.segmentation.SegmentByModel, request
            )
            model = answer.model
            pieces.append(await asyncio.to_thread(_unpacked, answer.labels, part.shape))
        return await asyncio.to_thread(np.concatenate, pieces), model

    async def by_clicks(
        self,
        principal: Principal,
        project: str,
        picture: Picture,
        start: Labels,
        clicks: Mapping[int, Sequence[tuple[Index, bool]]],
        is_flat: bool,
    ) -> Labels:
        """Class values over a picture after clicks.

        Args:
            principal: The user.
            project: Whose classes count.
            picture: That was clicked in.
            start: Class values to begin with.
            clicks: By class value, in order: a voxel (z, y, x) of the picture, and whether it is of the class.
            is_flat: Each click works in its own slice; else objects are followed from slice to slice.
        """
        labels = start.copy()
        for value, made in clicks.items():
            request = pb.SegmentRequest(
                project=project,
                class_value=value,
                plane=pb.PLANE_XY if is_flat else pb.PLANE_UNSPECIFIED,
                previous_mask=await asyncio.to_thread(_mask_of, labels, value),
            )
            await _put(request, picture)
            low = picture.region.start if picture.region is not None else Index(0, 0, 0)
            for position, positive in made:
                moved = Index(*(at + origin for at, origin in zip(position, low, strict=True)))
                request.clicks.append(pb.Click(position=index_to_proto(moved), positive=positive))
            answer: Any = await self._patiently(principal, self._services.segmentation.Segment, request)
            await asyncio.to_thread(_lay, labels, value, answer.mask)
        return labels

    async def by_strokes(
        self,
        principal: Principal,
        project: str,
        picture: Picture,
        strokes: Labels,
        class_value: int,
        *,
        all_slices: bool,
        network_features: bool,
    ) -> NDArray[np.bool_]:
        """Where a class is, by strokes: 0 none, 1 background, 2 and up class values."""
        request = pb.SegmentRequest(
            project=project,
            class_value=class_value,
            plane=pb.PLANE_XY,
            scribbles=await asyncio.to_thread(_packed, strokes),
            draft=all_slices,
            network_features=network_features,
        )
        await _put(request, picture)
        answer: Any = await self._patiently(principal, self._services.segmentation.Segment, request)
        return _unpacked(answer.mask, picture.shape).astype(bool)

    async def _patiently(
        self, principal: Principal, method: Callable[..., Awaitable[Any]], request: Any
    ) -> Any:
        """Ask again while the process starts, or others are served: clients of MONAI Label ask only once."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await self._services.ask("trainer", principal, method, request, timeout=_CALL_S)
            except (DeadlineExceeded, ResourceExhausted, Unavailable) as error:
                if not _passes(error) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)


def _passes(error: BiosegmentError) -> bool:
    """Whether it may be gone in a moment."""
    if isinstance(error, DeadlineExceeded):
        return error.reason != "TOO_SLOW"
    return error.reason in ("BUSY", "SERVICE_UNAVAILABLE")


async def _put(request: pb.SegmentRequest | pb.SegmentByModelRequest, picture: Picture) -> None:
    if picture.region is not None:
        request.volume_image.CopyFrom(
            pb.VolumeImage(volume=picture.volume, region=region_to_proto(picture.region))
        )
        return
    voxels = picture.voxels
    assert voxels is not None
    assert picture.voxel_size is not None
    if math.prod(voxels.shape) < 1:
        raise InvalidArgument("BAD_FILE", "the image has no voxels")
    request.image.CopyFrom(
        pb.Image(
            shape=index_to_proto(picture.shape),
            data_type=data_type_to_proto(voxels.dtype),
            data=await asyncio.to_thread(_packed, voxels),
            voxel_size=voxel_size_to_proto(picture.voxel_size),
        )
    )


def _packed(voxels: NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    return zlib.compress(little.tobytes(), 1)


def _mask_of(labels: Labels, value: int) -> bytes:
    return _packed((labels == value).astype(np.uint8))


def _lay(labels: Labels, value: int, data: bytes) -> None:
    """Let a class be where a mask is, and nowhere else."""
    mask = _unpacked(data, Index(*labels.shape)).astype(bool)
    labels[(labels == value) & ~mask] = BACKGROUND
    labels[mask] = value


def _unpacked(data: bytes, shape: Index) -> Labels:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)
