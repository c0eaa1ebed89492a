"""The images of a project, with their labels by tag, and the documents in which clients read of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from biosegment.auth import Principal
from biosegment.errors import NotFound
from biosegment.volume import Index, Region
from biosegment_gateway.monailabel.geometry import Geometry, LengthUnit
from biosegment_gateway.monailabel.image import ImageName, no_image, parts
from biosegment_gateway.monailabel.project import Project, Projects, VolumeFacts
from biosegment_gateway.monailabel.record import FINAL, ImageRecord, ProjectNotes
from biosegment_gateway.monailabel.sql import Records
from biosegment_gateway.settings import MAX_PART_VOXELS

MAX_LISTED: Final = 4096
"""Images in a list: a volume of a terabyte would have a hundred thousand. Those with labels come first."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a project.

    Attributes:
        image_id: Its name.
        volume: That it is of.
        region: Of the volume, voxels of level 0.
        geometry: In space.
    """

    image_id: str
    volume: VolumeFacts
    region: Region
    geometry: Geometry


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images of a project.

    Attributes:
        project: Of whom.
        part: Largest voxels of an image.
        uploads: Images that clients uploaded, by id.
    """

    project: Project
    part: Index
    uploads: Mapping[str, ImageRecord]

    @property
    def bases(self) -> dict[str, VolumeFacts]:
        """Volumes by the name that their images begin with: their id, or what a client called it."""
        named = {record.uploaded_volume_id: image_id for image_id, record in self.uploads.items()}
        return {named.get(volume_id, volume_id): volume for volume_id, volume in self.project.volumes.items()}

    def image(self, image_id: str, unit: LengthUnit) -> Image:
        """An image by its name, also one that is not listed; NotFound IMAGE_NOT_FOUND."""
        volume, record, region = self._found(image_id)
        if not Region.of_shape(volume.shape).contains(region) or region.size > MAX_PART_VOXELS:
            raise no_image(image_id)
        if record is not None and record.geometry is not None:
            geometry = Geometry.from_list(record.geometry).part(region)
        else:
            geometry = Geometry.of_region(volume.voxel_size, unit, region)
        return Image(image_id, volume, region, geometry)

    def base_of(self, volume: str) -> tuple[str, VolumeFacts]:
        """The name that the images of `projects/{p}/volumes/{v}` begin with, and the volume; NotFound."""
        for base, facts in self.bases.items():
            if facts.name == volume:
                return base, facts
        raise no_image(volume.rpartition("/")[2])

    def names(self) -> Iterator[str]:
        """Names of all images, in order; of each volume one more than are listed at most."""
        for base, volume in self.bases.items():
            yield from _names(base, volume.shape, self.part)

    def _found(self, image_id: str) -> tuple[VolumeFacts, ImageRecord | None, Region]:
        """Volume, what was uploaded, and region of an image."""
        bases = self.bases
        # What was uploaded may have a name that looks like a part's.
        name = ImageName(image_id) if image_id in self.uploads else ImageName.parse(image_id)
        if name.base not in bases:
            raise no_image(image_id)
        volume = bases[name.base]
        return volume, self.uploads.get(name.base), name.region or Region.of_shape(volume.shape)


@dataclass(frozen=True, slots=True)
class Listing:
    """The images that clients are told of, and which of them have labels.

    Attributes:
        dataset: All images.
        by_tag: Images with labels that are there, by tag.
    """

    dataset: Dataset
    by_tag: Mapping[str, Set[str]]

    def ids(self) -> list[str]:
        """Images in the list, in order."""
        found = list(islice(self.dataset.names(), MAX_LISTED + 1))
        if len(found) <= MAX_LISTED:
            return found
        labelled = sorted(set[str]().union(*self.by_tag.values()))
        listed = dict.fromkeys(image_id for image_id in labelled if self._is_there(image_id))
        for image_id in found:
            if len(listed) >= MAX_LISTED:
                break
            listed.setdefault(image_id)
        return list(listed)

    def status(self) -> dict[str, Any]:
        """What `/info/` says: images, those that are labelled, and labels by tag."""
        ids = set(self.ids())
        tags = {tag: len(ids & images) for tag, images in sorted(self.by_tag.items()) if ids & images}
        return {"total": len(ids), "completed": tags.get(FINAL, 0), "label_tags": tags}

    def document(self, notes: ProjectNotes, extension: str) -> dict[str, Any]:
        """What `/datastore/?output=all` says, with what was noted."""
        project = self.dataset.project
        return {
            "name": project.display_name or project.project_id,
            "description": project.description,
            "images_dir": "",
            "labels_dir": "",
            "objects": {
                image_id: {
                    "image": {
                        "ext": extension,
                        "info": image_info(image_id, notes.images.get(image_id), extension),
                    },
                    "labels": {
                        tag: {"ext": note.extension, "info": dict(note.info)}
                        for tag, note in sorted(notes.labels.get(image_id, {}).items())
                    },
                }
                for image_id in self.ids()
            },
        }

    def labelled(self) -> list[str]:
        """Images with a final label."""
        final = self.by_tag.get(FINAL, frozenset())
        return [image_id for image_id in self.ids() if image_id in final]

    def unlabelled(self) -> list[str]:
        """Images without a final label."""
        final = self.by_tag.get(FINAL, frozenset())
        return [image_id for image_id in self.ids() if image_id not in final]

    def _is_there(self, image_id: str) -> bool:
        try:
            self.dataset.image(image_id, "nm")
        except NotFound:
            return False
        return True


def image_info(image_id: str, noted: Mapping[str, Any] | None, extension: str) -> dict[str, Any]:
    """What is told of an image: what was noted of it above all."""
    return {"name": f"{image_id}{extension}", "strategy": {}, **(noted or {})}


@lru_cache(maxsize=256)
def _names(base: str, shape: Index, part: Index) -> tuple[str, ...]:
    """The first images that a volume is offered as, one more than are listed: clients ask for them every second."""
    return tuple(str(name) for name in islice(parts(base, shape, part), MAX_LISTED + 1))


class Datasets:
    """Reads what belongs to a project.

    Args:
        projects: Classes, volumes, jobs.
        records: Of uploaded images and of labels.
        part: Largest voxels of an image where a project does not say.
    """

    def __init__(self, projects: Projects, records: Records, part: Index) -> None:
        self._projects = projects
        self._records = records
        self._part = part

    async def get(self, principal: Principal, project_id: str) -> Dataset:
        """The images that there are now, in the eyes of a user."""
        project = await self._projects.get(principal, project_id)
        content = await self._records.content(project_id)
        return Dataset(project, content.part or self._part, content.uploads)

    async def listing(self, dataset: Dataset) -> Listing:
        """The images of a data set with the labels that they have now."""
        return Listing(dataset, await self._records.labelled(dataset.project.project_id))
