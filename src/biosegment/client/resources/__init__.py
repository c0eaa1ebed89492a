"""What the SDK returns: plain frozen values, one class per resource of the API."""

from __future__ import annotations

from biosegment.client.resources.annotation import Annotation, AnnotationRecord, Draft
from biosegment.client.resources.instance import InstanceAt, InstanceEdit
from biosegment.client.resources.job import Job, JobError, JobLogLine, JobState, Passes, Resources
from biosegment.client.resources.model import Model
from biosegment.client.resources.platform import Garbage, ServiceStatus, Token, User
from biosegment.client.resources.project import LabelClass, Member, Project
from biosegment.client.resources.sample import Claim, Pool, ProjectProgress, Sample, Strategy
from biosegment.client.resources.segmentation import SegmentationSession, Segmented
from biosegment.client.resources.volume import Artifact, Layer, Level, Volume

__all__ = [
    "Annotation",
    "AnnotationRecord",
    "Artifact",
    "Claim",
    "Draft",
    "Garbage",
    "InstanceAt",
    "InstanceEdit",
    "Job",
    "JobError",
    "JobLogLine",
    "JobState",
    "LabelClass",
    "Layer",
    "Level",
    "Member",
    "Model",
    "Passes",
    "Pool",
    "Project",
    "ProjectProgress",
    "Resources",
    "Sample",
    "SegmentationSession",
    "Segmented",
    "ServiceStatus",
    "Strategy",
    "Token",
    "User",
    "Volume",
]
