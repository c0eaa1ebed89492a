"""What the SDK returns: plain frozen values, one class per resource of the API."""

from __future__ import annotations

from biosegment.client.resources.annotation import Annotation, AnnotationRecord, Draft
from biosegment.client.resources.instance import InstanceAt, InstanceEdit
from biosegment.client.resources.job import Job, JobError, JobLogLine, JobState, Passes, Resources
from biosegment.client.resources.model import Model
from biosegment.client.resources.platform import AuditEvent, Garbage, ServiceStatus, Token, User
from biosegment.client.resources.progress import (
    AgreementCurve,
    AgreementPoint,
    AuthorProgress,
    ClassIou,
    ClassProgress,
    DayProgress,
    ModelProgress,
    NewAgreement,
    ProjectProgress,
    ReviewCounts,
    StoppingHint,
)
from biosegment.client.resources.project import LabelClass, Member, Project
from biosegment.client.resources.sample import (
    Agreement,
    Agreements,
    AuthorAgreement,
    Claim,
    ClassAgreement,
    Exhaustion,
    LostSample,
    Pool,
    Review,
    ReviewClaim,
    Sample,
    SampleEvent,
    Session,
    Strategy,
)
from biosegment.client.resources.segmentation import SegmentationSession, Segmented
from biosegment.client.resources.volume import Artifact, Layer, Level, Volume

__all__ = [
    "Agreement",
    "AgreementCurve",
    "AgreementPoint",
    "Agreements",
    "Annotation",
    "AnnotationRecord",
    "Artifact",
    "AuditEvent",
    "AuthorAgreement",
    "AuthorProgress",
    "Claim",
    "ClassAgreement",
    "ClassIou",
    "ClassProgress",
    "DayProgress",
    "Draft",
    "Exhaustion",
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
    "LostSample",
    "Member",
    "Model",
    "ModelProgress",
    "NewAgreement",
    "Passes",
    "Pool",
    "Project",
    "ProjectProgress",
    "Resources",
    "Review",
    "ReviewClaim",
    "ReviewCounts",
    "Sample",
    "SampleEvent",
    "SegmentationSession",
    "Segmented",
    "ServiceStatus",
    "Session",
    "StoppingHint",
    "Strategy",
    "Token",
    "User",
    "Volume",
]
