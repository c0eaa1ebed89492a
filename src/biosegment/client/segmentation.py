"""Segmenting with clicks and strokes."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.trainer.v1alpha1.segmentation_pb2_grpc import SegmentationServiceStub
from biosegment.client.annotations import Annotations as AnnotationCalls
from biosegment.client.resources import Annotation, SegmentationSession, Segmented
from biosegment.client.resources.segmentation import packed, require_mask
from biosegment.client.volumes import Volumes as VolumeCalls
from biosegment.errors import BiosegmentError, FailedPrecondition, InvalidArgument
from biosegment.rpc.geometry import data_type_to_proto, index_to_proto, region_to_proto, voxel_size_to_proto
from biosegment.volume import Region, VoxelSize

_PLANES: Final = {"3d": pb.PLANE_UNSPECIFIED, "xy": pb.PLANE_XY, "xz": pb.PLANE_XZ, "yz": pb.PLANE_YZ}
_SURE: Final = 128
_PREPARE_WITHIN_S: Final = 5.0


class Segmentation:
    """Interactive segmentation: masks from clicks and strokes; nothing is stored until it is committed."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = SegmentationServiceStub(channel)
        self._annotations = AnnotationCalls(channel)
        self._volumes = VolumeCalls(channel)

    async def begin(
        self,
        volume: str,
        region: Region,
        *,
        class_value: int,
        plane: str = "xy",
        layer: str = "",
        mask: NDArray[np.uint8] | None = None,
        model: str = "",
    ) -> SegmentationSession:
        """Begin to segment a region; what anybody annotated there until now counts as seen.

        The process that answers clicks starts meanwhile, so that the first one need not wait for it.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            region: Voxels of level 0, zyx, half-open.
            class_value: Of the class to segment.
            plane: `xy`, `xz`, `yz`: slices; or `3d`, where an object is followed through the slices.
            layer: Layer of the volume to begin with: labels, annotations, or the probabilities of the class.
            mask: uint8 0/1 (z, y, x) to begin with instead; empty when neither is given.
            model: `models/{m}` that takes clicks; the shipped one when empty.

        Raises:
            InvalidArgument: BAD_BASE when the layer does not say where the class is.
        """
        _plane(plane)
        base_sequence, _ = await asyncio.gather(self._seen(volume, region), self._prepare(volume))
        if layer and mask is None:
            mask = await self._mask_of(layer, region, class_value)
        return SegmentationSession(
            volume,
            region,
            class_value,
            plane=plane,
            mask=mask,
            model=model,
            base_layer=layer,
            base_sequence=base_sequence,
        )

    async def refresh(self, session: SegmentationSession) -> None:
        """Count what anybody annotated in the session's region until now as seen, and go on after BASE_OUTDATED.

        The mask, the strokes, what can be undone and what was taken out of the first mask stay.
        """
        session.base_sequence = await self._seen(session.volume, session.region)

    async def click(
        self, session: SegmentationSession, position: tuple[int, int, int], *, positive: bool = True
    ) -> Segmented:
        """Click on a voxel: one request, one step to undo. Earlier clicks, in a plane those in its slice, hold.

        Args:
            session: That the click belongs to; its mask is the new one afterwards.
            position: z, y, x in voxels of level 0 of the volume, within the region.
            positive: Whether the voxel belongs to the class.

        Raises:
            Conflict: BASE_OUTDATED; somebody annotated there since: look at it, and `refresh` to go on.
            InvalidArgument: PROMPT_OUTSIDE.
        """
        answer = await self._ask(session, clicks=session.clicks_with(position, positive))
        session.step(answer.mask, click=(position, positive))
        return answer

    async def scribble(
        self,
        session: SegmentationSession,
        strokes: NDArray[np.uint8],
        *,
        draft: bool = False,
        network_features: bool = False,
    ) -> Segmented:
        """Draw strokes: one request, one step to undo. The slices with strokes are segmented anew, with no model.

        Args:
            session: That the strokes belong to; they are added to its earlier ones.
            strokes: uint8 (z, y, x) of the region's shape: 0 nothing, 1 background, 2 and up classes.
            draft: Segment the other slices too.
            network_features: Use what the first layers of the shipped model see.

        Raises:
            Conflict: BASE_OUTDATED, as for `click`.
            InvalidArgument: NEED_TWO_CLASSES when only one thing was drawn so far.
        """
        _require_strokes(strokes, session.region)
        every = np.where(strokes > 0, strokes, session.strokes).astype(np.uint8)
        answer = await self._ask(session, scribbles=every, draft=draft, network_features=network_features)
        session.step(answer.mask, every)
        return answer

    async def commit(
        self,
        session: SegmentationSession,
        *,
        complete: bool = False,
        work_time_s: float = 0.0,
        comment: str = "",
    ) -> Annotation:
        """Store the mask as an annotation, on which models train; the session can go on after it.

        Args:
            session: Whose mask is stored.
            complete: The whole region was looked at: what is not in the mask is background. Otherwise only what was
                taken out of the first mask is, and nothing is said of the rest.
            work_time_s: Seconds that it took.
            comment: For people.

        Raises:
            Conflict: BASE_OUTDATED, as for `click`.
            FailedPrecondition: NOTHING_TO_COMMIT.
        """
        labels = session.labels(complete=complete)
        if not labels.any():
            raise FailedPrecondition("NOTHING_TO_COMMIT", "the mask is empty; click or draw something first")
        found = await self._annotations.commit(
            labels,
            volume=session.volume,
            region=session.region,
            kind="dense" if complete else "scribbles",
            class_scope=[session.class_value],
            work_time_s=work_time_s,
            comment=comment,
            base_sequence=session.base_sequence,
        )
        session.committed(found.sequence)
        return found

    async def segment(
        self,
        volume: str,
        region: Region,
        *,
        class_value: int,
        clicks: Sequence[tuple[tuple[int, int, int], bool]] = (),
        scribbles: NDArray[np.uint8] | None = None,
        previous: NDArray[np.uint8] | None = None,
        plane: str = "xy",
        level: int | None = None,
        model: str = "",
        base_layer: str = "",
        base_sequence: int | None = None,
        session: str = "",
        draft: bool = False,
        network_features: bool = False,
        with_probability: bool = False,
    ) -> Segmented:
        """Segment a region of a volume with one request; `begin` keeps count of masks and bases by itself.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            region: Voxels of level 0, zyx, half-open.
            class_value: Of the class to segment.
            clicks: Voxels (z, y, x) of level 0 and whether they belong to the class. All are worked off: with the mask
                that earlier ones led to, send the newest alone.
            scribbles: uint8 (z, y, x) over the region: 0 nothing, 1 background, 2 and up classes.
            previous: Mask that is corrected, uint8 0/1 (z, y, x) over the region.
            plane: `xy`, `xz`, `yz` or `3d`.
            level: Of the pyramid, to work at its voxel size; None for the project's working resolution.
            model: `models/{m}` that takes clicks; the shipped one when empty.
            base_layer: Layer that the first mask was taken from.
            base_sequence: Number of the last annotation record that was seen; a newer one there refuses the request.
            session: Of one person at one place: its newest request alone is served.
            draft: Scribbles segment the slices without strokes too.
            network_features: Scribbles use what the first layers of the shipped model see.
            with_probability: Return the probability too.

        Raises:
            InvalidArgument: PROMPT_OUTSIDE, UNKNOWN_CLASS, NO_PROMPT, BAD_MASK ...
            ResourceExhausted: REGION_TOO_LARGE, BUSY.
            Conflict: BASE_OUTDATED, SUPERSEDED.
        """
        request = _request(
            "/".join(volume.split("/")[:2]),
            region,
            class_value=class_value,
            clicks=clicks,
            scribbles=scribbles,
            previous=previous,
            plane=plane,
            model=model,
            draft=draft,
            network_features=network_features,
            with_probability=with_probability,
        )
        request.volume_image.CopyFrom(
            pb.VolumeImage(volume=volume, region=region_to_proto(region), level=level)
        )
        request.base_layer, request.session = base_layer, session
        if base_sequence is not None:
            request.base_sequence = base_sequence
        return Segmented.from_proto(await self._stub.Segment(request), region)

    async def segment_image(
        self,
        project: str,
        image: NDArray[Any],
        voxel_size: VoxelSize,
        *,
        class_value: int,
        clicks: Sequence[tuple[tuple[int, int, int], bool]] = (),
        scribbles: NDArray[np.uint8] | None = None,
        previous: NDArray[np.uint8] | None = None,
        plane: str = "xy",
        model: str = "",
        draft: bool = False,
        network_features: bool = False,
        with_probability: bool = False,
    ) -> Segmented:
        """Segment an image that is not on the platform; it is sent along and kept nowhere.

        Args:
            project: `projects/{p}`, whose classes and rights count.
            image: Grey values (z, y, x); at most 4 MiB when compressed. It is normalised by its own slices.
            voxel_size: In nm.
            class_value: As for `segment`, and so are the others; positions are voxels of the image.
            clicks: As for `segment`.
            scribbles: As for `segment`.
            previous: As for `segment`.
            plane: As for `segment`.
            model: As for `segment`.
            draft: As for `segment`.
            network_features: As for `segment`.
            with_probability: As for `segment`.
        """
        if image.ndim != 3 or not image.size:
            raise InvalidArgument("BAD_IMAGE", f"the image has shape {image.shape}; it is (z, y, x)")
        z, y, x = image.shape
        region = Region.of_shape((z, y, x))
        request = _request(
            project,
            region,
            class_value=class_value,
            clicks=clicks,
            scribbles=scribbles,
            previous=previous,
            plane=plane,
            model=model,
            draft=draft,
            network_features=network_features,
            with_probability=with_probability,
        )
        data_type = data_type_to_proto(image.dtype)
        sent = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
        request.image.CopyFrom(
            pb.Image(
                shape=index_to_proto(region.shape),
                data_type=data_type,
                data=zlib.compress(sent.tobytes(), 1),
                voxel_size=voxel_size_to_proto(voxel_size),
            )
        )
        return Segmented.from_proto(await self._stub.Segment(request), region)

    async def by_model(self, volume: str, region: Region, *, model: str = "") -> NDArray[np.uint8]:
        """Label a region without a prompt, by a model that segments; nothing is stored. A job predicts whole volumes.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            region: Voxels of level 0, zyx, half-open.
            model: `models/{m}`; when empty the project's newest, else the shipped one that trainings start from.

        Returns:
            uint8 (z, y, x): 1 none of the classes, 2 and up classes.

        Raises:
            ResourceExhausted: REGION_TOO_LARGE, BUSY.
            FailedPrecondition: NO_MODEL, NO_USABLE_CLASS.
            DeadlineExceeded: TOO_SLOW; ask for a smaller region.
        """
        request = pb.SegmentByModelRequest(project="/".join(volume.split("/")[:2]), model=model)
        request.volume_image.CopyFrom(pb.VolumeImage(volume=volume, region=region_to_proto(region)))
        answer = await self._stub.SegmentByModel(request)
        return np.frombuffer(zlib.decompress(answer.labels), np.uint8).reshape(region.shape)

    async def _ask(self, session: SegmentationSession, **prompts: Any) -> Segmented:
        return await self.segment(
            session.volume,
            session.region,
            class_value=session.class_value,
            previous=session.mask,
            plane=session.plane,
            model=session.model,
            base_layer=session.base_layer,
            base_sequence=session.base_sequence,
            session=session.name,
            **prompts,
        )

    async def _prepare(self, volume: str) -> None:
        """Have the process started that will answer; what is wrong is said about the first click."""
        request = pb.PrepareSegmentationRequest(project="/".join(volume.split("/")[:2]))
        with contextlib.suppress(BiosegmentError):
            await self._stub.PrepareSegmentation(request, timeout=_PREPARE_WITHIN_S)

    async def _seen(self, volume: str, region: Region) -> int:
        records = await self._annotations.history(volume, region)
        return records[-1].sequence if records else 0

    async def _mask_of(self, name: str, region: Region, class_value: int) -> NDArray[np.uint8]:
        layer = await self._volumes.layer(name)
        kinds = {"annotations": class_value, "labels": class_value, "probabilities": None}
        if layer.kind not in kinds or layer.channels > 1 or any(step != 1 for step in layer.downsampling):
            raise InvalidArgument(
                "BAD_BASE",
                f"{name} is {layer.kind} with downsampling {tuple(layer.downsampling)}; begin with labels, annotations "
                "or probabilities at full resolution",
            )
        if layer.kind == "probabilities" and layer.class_value != class_value:
            raise InvalidArgument(
                "BAD_BASE",
                f"{name} holds the probabilities of class {layer.class_value}, and not of class {class_value}",
            )
        values = await self._volumes.read(name, region)
        return (values >= _SURE if layer.kind == "probabilities" else values == class_value).astype(np.uint8)


def _request(
    project: str,
    region: Region,
    *,
    class_value: int,
    clicks: Sequence[tuple[tuple[int, int, int], bool]],
    scribbles: NDArray[np.uint8] | None,
    previous: NDArray[np.uint8] | None,
    plane: str,
    model: str,
    draft: bool,
    network_features: bool,
    with_probability: bool,
) -> pb.SegmentRequest:
    if scribbles is not None:
        _require_strokes(scribbles, region)
    return pb.SegmentRequest(
        project=project,
        model=model,
        class_value=class_value,
        clicks=[pb.Click(position=index_to_proto(at), positive=positive) for at, positive in clicks],
        scribbles=packed(scribbles) if scribbles is not None else b"",
        previous_mask=packed(require_mask(previous, region)) if previous is not None else b"",
        plane=_plane(plane),
        draft=draft,
        network_features=network_features,
        with_probability=with_probability,
    )


def _plane(plane: str) -> pb.Plane:
    if plane not in _PLANES:
        raise InvalidArgument("BAD_PLANE", f"plane {plane!r} is none of {', '.join(_PLANES)}")
    return _PLANES[plane]


def _require_strokes(strokes: NDArray[np.uint8], region: Region) -> None:
    if strokes.dtype != np.uint8 or tuple(strokes.shape) != tuple(region.shape):
        raise InvalidArgument(
            "BAD_SCRIBBLES",
            f"the strokes are {strokes.dtype} {tuple(strokes.shape)}; {region} takes uint8 {tuple(region.shape)}",
        )
