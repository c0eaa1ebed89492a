"""Labels of images: a final one becomes annotations of the platform, others are kept under their tag."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2
from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import BiosegmentError, FailedPrecondition, InvalidArgument, NotFound
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from biosegment_gateway.monailabel.cache import CachedFile, FileCache
from biosegment_gateway.monailabel.dataset import Dataset, Image
from biosegment_gateway.monailabel.file_reader import ReadFile
from biosegment_gateway.monailabel.file_writer import EXTENSIONS, Segment, write_file
from biosegment_gateway.monailabel.geometry import LengthUnit, placed
from biosegment_gateway.monailabel.label_map import from_classes, names_in, positions, to_classes
from biosegment_gateway.monailabel.record import FINAL, LabelRecord, ServedSample
from biosegment_gateway.monailabel.services import Services
from biosegment_gateway.monailabel.sql import Records, now_us

_MAX_TAG: Final = 100
_SLAB_VOXELS: Final = 4 << 20
"""Of one record: it then fits into a message however it is compressed."""
_REPEATED_US: Final = 300_000_000
"""The same label by the same user within so long is a request that is repeated."""
_LEASE_LOST: Final = (
    "LEASE_LOST",
    "LEASE_EXPIRED",
    "LEASE_TAKEN_OVER",
    "SAMPLE_ANNOTATED",
    "SAMPLE_NOT_FOUND",
)
_VERDICTS: Final = {"approved": True, "flagged": False}


@dataclass(frozen=True, slots=True)
class SavedLabel:
    """A label that was stored."""

    image_id: str
    tag: str
    annotations: tuple[str, ...]


class Labels:
    """Stores and gives out labels.

    Args:
        services: Where annotations go, in the name of the user.
        records: Of labels.
        authorizer: Decides about what is kept here alone.
        cache: Of files.
        unit: Of lengths in files.
    """

    def __init__(
        self, services: Services, records: Records, authorizer: Authorizer, cache: FileCache, unit: LengthUnit
    ) -> None:
        self._services = services
        self._records = records
        self._authorizer = authorizer
        self._cache = cache
        self._unit: LengthUnit = unit

    async def save(
        self,
        principal: Principal,
        dataset: Dataset,
        image: Image,
        tag: str,
        file: ReadFile,
        extension: str,
        params: Mapping[str, Any],
    ) -> SavedLabel:
        """Store what a client sent.

        A final label is one in which the annotator looked at every voxel of the image for every label of its list:
        what has none of them is background. Of classes that are not in the list it says nothing.

        Args:
            principal: Needs the permission to annotate.
            dataset: Of the project.
            image: That was labelled.
            tag: Under which.
            file: Its voxels.
            extension: Of the file, which it comes back with.
            params: Of the client: `label_info` above all.

        Raises:
            InvalidArgument: BAD_TAG, BAD_LABEL, BAD_LABEL_INFO, UNKNOWN_LABEL, GEOMETRY_MISMATCH, NO_LABEL.
        """
        project = dataset.project
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project.project_id)
        require_tag(tag)
        classes = project.classes
        names = tuple(segment.name for segment in file.segments) or names_in(
            params.get("label_info"), classes
        )
        found = await asyncio.to_thread(positions, file.voxels, file.segments, names)
        labels = await asyncio.to_thread(placed, found, file.geometry, image.region.shape, image.geometry)
        annotations: tuple[str, ...] = ()
        if tag == FINAL:
            annotations = await self._repeated(principal, project.project_id, image, labels, names)
        if tag == FINAL and not annotations:
            values, scope = await asyncio.to_thread(to_classes, labels, names, classes)
            annotations = await self._commit(principal, project.project_id, image, values, scope)
        await self.put(
            project.project_id, image.image_id, tag, labels, names, extension, params, principal, annotations
        )
        return SavedLabel(image.image_id, tag, annotations)

    async def put(
        self,
        project_id: str,
        image_id: str,
        tag: str,
        labels: NDArray[np.uint8],
        names: tuple[str, ...],
        extension: str,
        info: Mapping[str, Any],
        principal: Principal,
        annotations: tuple[str, ...] = (),
    ) -> None:
        """Keep a label (z, y, x) of positions in `names` under a tag."""
        packed = await asyncio.to_thread(_packed, labels)
        time_us = now_us()
        record = LabelRecord(
            image_id,
            tag,
            extension if extension in EXTENSIONS else ".nrrd",
            {"name": f"{image_id}{extension}", "ts": time_us // 1_000_000, **info, "user": principal.user},
            principal.user,
            time_us,
            names,
            packed,
            annotations=annotations,
        )
        await self._records.put_label(project_id, record)

    async def file(
        self, principal: Principal, dataset: Dataset, image: Image, tag: str
    ) -> tuple[CachedFile, str]:
        """The file of a label, and its extension; NotFound LABEL_NOT_FOUND."""
        label = await self.get(dataset.project.project_id, image.image_id, tag)
        colors = dataset.project.classes.colors
        segments = [
            Segment(number, name, colors.get(name, 0xFFFFFF)) for number, name in enumerate(label.names, 1)
        ]

        async def make(path: Path) -> None:
            if label.layer:
                values = await self._services.read(principal, label.layer, image.region)
                labels, _ = await asyncio.to_thread(from_classes, values, dataset.project.classes)
            else:
                data = await asyncio.to_thread(zlib.decompress, label.labels)
                labels = np.frombuffer(data, np.uint8).reshape(image.region.shape)
            await asyncio.to_thread(
                write_file, path, labels, image.geometry, self._unit, label.extension, segments
            )

        key = f"label {image.volume.name} {image.image_id} {image.geometry.to_list()} {tag} {label.update_time_us}"
        return await self._cache.get(f"{key} {self._unit} {label.extension}", make), label.extension

    async def get(self, project_id: str, image_id: str, tag: str) -> LabelRecord:
        """A label that is there; NotFound LABEL_NOT_FOUND."""
        label = await self._records.label(project_id, image_id, tag)
        if label is None or label.is_pending:
            raise NotFound("LABEL_NOT_FOUND", f"image {image_id!r} has no label {tag[:_MAX_TAG]!r}")
        return label

    async def note(
        self, principal: Principal, project_id: str, image_id: str, tag: str, info: Mapping[str, Any]
    ) -> None:
        """Add to what is known of a label; a reviewer's verdict about a final one is passed on to its annotations.

        Raises:
            NotFound: LABEL_NOT_FOUND.
            PermissionDenied: A verdict takes the permission to review.
        """
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)
        label = await self.get(project_id, image_id, tag)
        meta = info.get("segmentationMeta")
        verdict = _VERDICTS.get(str(meta.get("status"))) if isinstance(meta, Mapping) else None
        before = label.info.get("segmentationMeta")
        is_new = (
            not isinstance(before, Mapping)
            or not isinstance(meta, Mapping)
            or before.get("status") != meta.get("status")
        )
        if verdict is not None and is_new and tag == FINAL:
            assert isinstance(meta, Mapping)
            comment = str(meta.get("comment") or ("approved" if verdict else "flagged"))[:1000]
            for annotation in label.annotations:
                request = annotation_pb2.ReviewAnnotationRequest(
                    name=annotation, accepted=verdict, comment=comment, request_id=str(uuid.uuid4())
                )
                await self._annotations(principal, self._services.annotations.ReviewAnnotation, request)
        await self._records.note_label(project_id, image_id, tag, {**info, "user": principal.user})

    async def drop(self, principal: Principal, project_id: str, image_id: str, tag: str) -> None:
        """Delete a label; of a final one its annotations are taken back.

        Raises:
            NotFound: LABEL_NOT_FOUND.
            PermissionDenied: Somebody else's takes the permission to review.
        """
        label = await self.get(project_id, image_id, tag)
        own = label.author == principal.user
        permission = Permission.ANNOTATE if own else Permission.REVIEW
        await self._authorizer.authorize(principal, permission, project_id)
        for annotation in label.annotations:
            request = annotation_pb2.RevertAnnotationRequest(name=annotation, request_id=str(uuid.uuid4()))
            try:
                await self._annotations(principal, self._services.annotations.RevertAnnotation, request)
            except FailedPrecondition as error:
                if error.reason != "ALREADY_REVERTED":
                    raise
        await self._records.drop_label(project_id, image_id, tag)

    async def _commit(
        self,
        principal: Principal,
        project_id: str,
        image: Image,
        values: NDArray[np.uint8],
        scope: tuple[int, ...],
    ) -> tuple[str, ...]:
        """Make dense records of an image's labels, with the lease that its annotator has.

        A client that sends the same labels again, since the gateway died before it had answered, makes nothing twice:
        what was given to label stays noted until all of it is recorded, and tells how the first records were asked for.
        """
        held = await self._held(principal, project_id, image.image_id)
        has_lease, names = held is not None, []
        for part in slabs(image.region):
            block = np.ascontiguousarray(values[part.relative_to(image.region).slices])
            annotation = annotation_pb2.Annotation(
                region=region_to_proto(part),
                kind=annotation_pb2.Annotation.KIND_DENSE,
                class_scope=scope,
                comment=f"MONAI Label: {image.image_id}",
            )
            request = annotation_pb2.CommitAnnotationRequest(
                parent=image.volume.name,
                annotation=annotation,
                labels=await asyncio.to_thread(zlib.compress, block.tobytes(), 1),
                encoding=annotation_pb2.LABELS_ENCODING_ZLIB,
            )
            name = await self._commit_leased(principal, request, held) if held and has_lease else ""
            # The work is not lost with the lease: it becomes an annotation of a region of one's own choice.
            has_lease = bool(name)
            names.append(name or await self._commit_own(principal, request, held))
        return tuple(names)

    async def _repeated(
        self,
        principal: Principal,
        project_id: str,
        image: Image,
        labels: NDArray[np.uint8],
        names: tuple[str, ...],
    ) -> tuple[str, ...]:
        """What the same final label became a moment ago, when it comes again since the answer was lost; else ()."""
        label = await self._records.label(project_id, image.image_id, FINAL)
        if (
            label is None
            or (label.author, label.names) != (principal.user, names)
            or now_us() - label.update_time_us > _REPEATED_US
            or label.labels != await asyncio.to_thread(_packed, labels)
        ):
            return ()
        return label.annotations

    async def _commit_leased(self, principal: Principal, request: Any, held: ServedSample) -> str:
        """Record labels for a lease; '' when it is lost."""
        request.annotation.sample, request.lease_token = held.sample, held.lease_token
        request.request_id = _request_id("leased", held, request)
        try:
            answer = await self._annotations(principal, self._services.annotations.CommitAnnotation, request)
        except FailedPrecondition as error:
            if error.reason not in _LEASE_LOST:
                raise
            return ""
        return str(answer.annotation.name)

    async def _commit_own(self, principal: Principal, request: Any, held: ServedSample | None) -> str:
        """Record labels without a lease."""
        request.annotation.sample = request.lease_token = ""
        request.request_id = _request_id("own", held, request) if held is not None else str(uuid.uuid4())
        answer = await self._annotations(principal, self._services.annotations.CommitAnnotation, request)
        return str(answer.annotation.name)

    async def _held(self, principal: Principal, project_id: str, image_id: str) -> ServedSample | None:
        """What the caller was given to label, with a new token where the lease can be renewed."""
        held = await self._records.sample(project_id, image_id)
        if held is None or held.user_id != principal.user:
            return None
        request = sampler_pb2.RenewLeaseRequest(name=held.sample)
        try:
            answer: Any = await self._services.ask(
                "sampler", principal, self._services.sampler.RenewLease, request
            )
        except BiosegmentError as error:
            if error.reason not in _LEASE_LOST and not isinstance(error, NotFound):
                raise
            return held
        return replace(held, lease_token=answer.sample.lease.token)

    async def _annotations(self, principal: Principal, method: Any, request: Any) -> Any:
        return await self._services.ask("datastore", principal, method, request)


def _packed(labels: NDArray[np.uint8]) -> bytes:
    return zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)


def _request_id(way: str, held: ServedSample, request: Any) -> str:
    """The same for the same labels of what somebody was given to label."""
    digest = hashlib.sha256(request.labels + request.annotation.SerializeToString(deterministic=True))
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{way} {held.sample} {digest.hexdigest()}"))


def require_tag(tag: str) -> None:
    """Raise InvalidArgument BAD_TAG."""
    if not 0 < len(tag) <= _MAX_TAG or not tag.isprintable() or "/" in tag:
        raise InvalidArgument(
            "BAD_TAG", f"tag {tag[:_MAX_TAG]!r} must have 1 to {_MAX_TAG} printable characters"
        )


def slabs(region: Region) -> list[Region]:
    """A region cut along z, and along y where a slice is too large, so that each part is one record."""
    z, y, x = region.shape
    rows = max(1, min(y, _SLAB_VOXELS // x))
    depth = max(1, min(z, _SLAB_VOXELS // (rows * x)))
    low = region.start
    return [
        Region(
            Index(low.z + front, low.y + top, low.x),
            Index(low.z + min(z, front + depth), low.y + min(y, top + rows), low.x + x),
        )
        for front in range(0, z, depth)
        for top in range(0, y, rows)
    ]
