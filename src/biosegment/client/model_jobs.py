"""Jobs that make models, and that apply them to volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.client.job_creation import JobCreation, project_of, struct_of
from biosegment.client.resources import Job, Passes, Resources
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region


class ModelJobs(JobCreation):
    """Training, prediction and score maps."""

    async def train(
        self,
        project: str,
        *,
        parent: str = "",
        from_scratch: bool = False,
        annotations: Sequence[str] = (),
        display_name: str = "",
        seed: int = 0,
        max_steps: int = 0,
        max_seconds_s: float = 0.0,
        options: Mapping[str, Any] | None = None,
        interactive: bool = True,
        resources: Resources | None = None,
    ) -> Job:
        """Make a new model version from annotations.

        Args:
            project: `projects/{p}`.
            parent: Model to start from; when empty the project's newest, or before the first one the default parent
                that the platform's settings name.
            from_scratch: Start from random weights instead.
            annotations: What to train on; all of the project that hold when empty.
            display_name: For people.
            seed: Seed of everything random.
            max_steps: Optimisation steps; 0: 200 to 1000, by the number of annotations.
            max_seconds_s: Time limit of the optimisation; 0 for none.
            options: Options of the training configuration by name.
            interactive: Somebody waits for it: it goes before background work.
            resources: What to reserve; the platform's default when None.
        """
        spec = pb.TrainSpec(
            parent=parent,
            from_scratch=from_scratch,
            annotations=annotations,
            display_name=display_name,
            seed=seed,
            max_steps=max_steps,
            max_seconds_s=max_seconds_s,
            options=struct_of(options),
            interactive=interactive,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project, pb.JobSpec(train=spec))

    async def pretrain(
        self,
        volumes: Sequence[str],
        *,
        display_name: str = "",
        seed: int = 0,
        max_steps: int = 0,
        max_seconds_s: float = 0.0,
        options: Mapping[str, Any] | None = None,
        resources: Resources | None = None,
    ) -> Job:
        """Make a parent model from the raw voxels of volumes, without any annotation.

        Args:
            volumes: `projects/{p}/volumes/{v}`, at least one, of one project.
            display_name: For people.
            seed: Seed of everything random.
            max_steps: Optimisation steps; 0 for the default.
            max_seconds_s: Time limit of the optimisation; 0 for none.
            options: Options of the training configuration by name.
            resources: What to reserve; the platform's default when None.
        """
        if not volumes:
            raise InvalidArgument("NO_VOLUMES", "pretraining needs the name of at least one volume")
        spec = pb.PretrainSpec(
            volumes=volumes,
            display_name=display_name,
            seed=seed,
            max_steps=max_steps,
            max_seconds_s=max_seconds_s,
            options=struct_of(options),
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project_of(volumes[0]), pb.JobSpec(pretrain=spec))

    async def predict(
        self,
        volume: str,
        *,
        model: str = "",
        region: Region | None = None,
        probabilities: bool = False,
        measures: Sequence[str] = (),
        passes: Passes | None = None,
        ortho_planes: bool = False,
        resources: Resources | None = None,
    ) -> Job:
        """Predict a volume; the job's `layers` name what it made, the labels first.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            model: The project's newest when empty.
            region: Part of it, in voxels of level 0; everything when None.
            probabilities: Also keep the probabilities of each class.
            measures: Also keep score maps of these measures.
            passes: Several passes, whose mean is the prediction.
            ortho_planes: Predict in all three planes and take the mean; for near isotropic voxels.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.PredictSpec(
            model=model,
            volume=volume,
            probabilities=probabilities,
            measures=measures,
            passes=passes.to_proto() if passes else None,
            ortho_planes=ortho_planes,
            resources=resources.to_proto() if resources else None,
        )
        if region is not None:
            spec.region.CopyFrom(region_to_proto(region))
        return await self._create(project_of(volume), pb.JobSpec(predict=spec))

    async def score(
        self,
        project: str,
        *,
        model: str,
        volumes: Sequence[str],
        measures: Sequence[str],
        max_pixels: int = 0,
        passes: Passes | None = None,
        resources: Resources | None = None,
    ) -> Job:
        """Make score maps of volumes, which the sampler then ranks the pool by.

        Args:
            project: `projects/{p}`.
            model: What scores.
            volumes: `projects/{p}/volumes/{v}`, at least one.
            measures: At least one.
            max_pixels: At most so many working pixels, in blocks spread over the volumes; 0 for all.
            passes: Several passes, for measures of their disagreement.
            resources: What to reserve for each worker; the platform's default when None.
        """
        spec = pb.ScoreSpec(
            model=model,
            volumes=volumes,
            measures=measures,
            max_pixels=max_pixels,
            passes=passes.to_proto() if passes else None,
            resources=resources.to_proto() if resources else None,
        )
        return await self._create(project, pb.JobSpec(score=spec))
