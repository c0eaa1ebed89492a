"""Jobs that find objects and measure them."""

from __future__ import annotations

from collections.abc import Sequence

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.client.job_creation import JobCreation, project_of
from biosegment.client.resources import Job, Resources
from biosegment.errors import InvalidArgument

MESH_FORMATS = tuple(
    name.removeprefix("MESH_FORMAT_").lower()
    for name, number in pb.MeasureObjectsSpec.MeshFormat.items()
    if number
)
"""Names of the file formats of meshes."""


class ObjectJobs(JobCreation):
    """Instances, their table and their meshes."""

    async def instances(
        self,
        layer: str,
        *,
        class_value: int = 0,
        method: str = "connected_components",
        min_size_voxels: int = 0,
        connectivity: int = 26,
        threshold: float = 0.0,
        seed_distance_nm: float = 0.0,
        boundary_layer: str = "",
        boundary_class_value: int = 0,
        display_name: str = "",
        resources: Resources | None = None,
    ) -> Job:
        """Find the objects of a class in a prediction; the job's `layers` name the layer of their ids.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`, labels or probabilities.
            class_value: Class of the objects; of a probabilities layer its own when 0.
            method: `connected_components`, or `watershed`, which also parts objects at constrictions.
            min_size_voxels: Smaller objects are dropped, in voxels of level 0.
            connectivity: 6: voxels are neighbours by faces; 26: also by edges and corners.
            threshold: From which probability on a voxel is of the class; 0 for 0.5. Of probabilities only.
            seed_distance_nm: Watershed: an object is parted where it is thinner than twice this; 0 for a default.
            boundary_layer: Watershed: labels or probabilities that say where objects end.
            boundary_class_value: Class of the boundary, as `class_value`.
            display_name: Of the layer, for people.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.InstancesSpec(
            layer=layer,
            class_value=class_value,
            method=method,
            min_size_voxels=min_size_voxels,
            connectivity=connectivity,
            threshold=threshold,
            seed_distance_nm=seed_distance_nm,
            boundary_layer=boundary_layer,
            boundary_class_value=boundary_class_value,
            display_name=display_name,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project_of(layer), pb.JobSpec(instances=spec))

    async def measure_objects(
        self,
        layer: str,
        *,
        meshes: bool = False,
        mesh_formats: Sequence[str] = (),
        mesh_cell_nm: float = 0.0,
        resources: Resources | None = None,
    ) -> Job:
        """Make a table of the objects of a layer of instances: volume, surface, shape, place, intensities.

        The job's `artifacts` are the table as CSV, the table as Parquet, and with `meshes` a zip file with a mesh of
        each object; fetch them with `volumes.download`.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            meshes: Also make meshes.
            mesh_formats: Some of `MESH_FORMATS`; STL when empty.
            mesh_cell_nm: Edge of the grid on which meshes are made; that of the voxels when 0.
            resources: What to reserve; the platform's default when None.

        Raises:
            InvalidArgument: UNKNOWN_FORMAT, NOT_INSTANCES.
            FailedPrecondition: NO_OBJECTS.
        """
        unknown = set(mesh_formats).difference(MESH_FORMATS)
        if unknown:
            raise InvalidArgument(
                "UNKNOWN_FORMAT",
                f"there is no mesh format {min(unknown)!r}; there are {', '.join(MESH_FORMATS)}",
            )
        spec = pb.MeasureObjectsSpec(
            layer=layer,
            meshes=meshes,
            mesh_formats=[f"MESH_FORMAT_{each.upper()}" for each in mesh_formats],
            mesh_cell_nm=mesh_cell_nm,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project_of(layer), pb.JobSpec(measure_objects=spec))
