"""What every RPC of the contract demands of its caller, written down from the contract and `docs/operations.md`.

Requests are in protobuf's JSON form; names in braces are those of `tests.system.world.World`, and
`{unique}` is new in each request.
"""

from __future__ import annotations

import base64
import enum
import io
import zipfile
from dataclasses import dataclass, field
from typing import Any, Final


class Right(enum.Enum):
    """What a caller needs: a membership of the project in the request, or something of the platform."""

    READ = enum.auto()
    ANNOTATE = enum.auto()
    REVIEW = enum.auto()
    EXPORT = enum.auto()
    SETTINGS = enum.auto()
    MEMBERS = enum.auto()
    VOLUMES = enum.auto()
    LAYERS = enum.auto()
    MODELS = enum.auto()
    OWN = enum.auto()
    ANYBODY = enum.auto()
    """A valid token, and no membership."""
    ANY_USER = enum.auto()
    """The same, and no service either."""
    ADMIN = enum.auto()
    WORKER = enum.auto()
    """The worker of the very job."""
    SAMPLER = enum.auto()
    """The sampler itself."""


R: Final = Right
_MANAGED: Final = {R.SETTINGS, R.MEMBERS, R.VOLUMES, R.LAYERS, R.MODELS}
_OPEN: Final = {R.ANYBODY, R.ANY_USER}

USERS: Final[dict[str, set[Right]]] = {
    "stranger": _OPEN,
    "viewer": {*_OPEN, R.READ},
    "annotator": {*_OPEN, R.READ, R.ANNOTATE},
    "reviewer": {*_OPEN, R.READ, R.ANNOTATE, R.REVIEW, R.EXPORT},
    "manager": {*_OPEN, R.READ, R.ANNOTATE, R.REVIEW, R.EXPORT, *_MANAGED},
    "owner": {*_OPEN, R.READ, R.ANNOTATE, R.REVIEW, R.EXPORT, *_MANAGED, R.OWN},
    "admin": set(R) - {R.WORKER, R.SAMPLER},
}
"""Least first, so that whatever a call removes is still there for those who must not remove it."""

SERVICES: Final[dict[str, set[Right]]] = {
    "gateway": {R.ANYBODY, R.READ},
    "datastore": {R.ANYBODY, R.READ},
    "sampler": {R.ANYBODY, R.READ, R.MODELS, R.SAMPLER},
    "trainer": {R.ANYBODY, R.READ, R.LAYERS},
}


_LOOK: Final = {R.ANYBODY, R.READ, R.EXPORT}
_WORK: Final = {*_LOOK, R.ANNOTATE, R.REVIEW}
_MANAGE: Final = {*_WORK, *_MANAGED, R.OWN}
SCOPES: Final[dict[str, set[Right]]] = {
    "read": _LOOK,
    "read:projects/alpha": _LOOK,
    "annotate": _WORK,
    "annotate:projects/alpha": _WORK,
    "manage:projects/beta": {R.ANYBODY},
    "manage:projects/alpha": _MANAGE,
    "manage": {*_MANAGE, R.ANY_USER},
    "admin": set(R) - {R.WORKER, R.SAMPLER},
}
"""What a token of a scope may be used for in project alpha, if its user may; least first, as above."""


@dataclass(frozen=True, slots=True)
class Row:
    """One RPC with a request.

    Attributes:
        rpc: `Service.Method`.
        right: What it demands.
        request: Valid enough to come as far as authorization.
        answers: Codes that those who are allowed may get.
        at: Services that answer it.
    """

    rpc: str
    right: Right
    request: dict[str, Any] = field(default_factory=dict)
    answers: tuple[str, ...] = ("OK",)
    at: tuple[str, ...] = ()


def _service(name: str, at: str, *rows: tuple[Any, ...]) -> list[Row]:
    return [Row(f"{name}.{method}", *rest, **{"at": (at,)}) for method, *rest in rows]


def _empty_archive() -> str:
    file = io.BytesIO()
    zipfile.ZipFile(file, "w").close()
    return base64.b64encode(file.getvalue()).decode()


_NO_FILE: Final = ("NOT_FOUND",)
_REFUSED: Final = ("FAILED_PRECONDITION",)
_OK_OR_GONE: Final = ("OK", "NOT_FOUND")
_OK_OR_REFUSED: Final = ("OK", "FAILED_PRECONDITION")
_OUTDATED: Final = ("ABORTED",)
_WRONG: Final = ("INVALID_ARGUMENT",)
_VOXEL: Final = {"start": {}, "stop": {"z": 1, "y": 1, "x": 1}}
_OUTSIDE: Final = {"start": {}, "stop": {"z": 1000, "y": 1, "x": 1}}
_LABELS: Final = {"kind": "KIND_LABELS", "dataType": "DATA_TYPE_UINT8"}
_PROJECT: Final = {"name": "{project}"}
_IN_PROJECT: Final = {"parent": "{project}"}
_VOLUME: Final = {"name": "{volume}"}
_IN_VOLUME: Final = {"parent": "{volume}"}
_JOB: Final = {"name": "{job}"}
_TRAINING: Final = {"name": "{training}"}
_NEW_PROJECT: Final = {"displayName": "new", "classes": [{"displayName": "mitochondria"}]}
_HEADER: Final = {"shape": {"z": 1, "y": 1, "x": 1}, "dataType": "DATA_TYPE_UINT8"}
_REGION: Final = {"name": "{writing}", "attempt": 99, "region": _VOXEL, "chunk": {"header": _HEADER}}


def _job(project: str, **spec: Any) -> dict[str, Any]:
    return {"project": project, "spec": spec, "requestId": "{unique}"}


def _member(user: str, role: str) -> dict[str, Any]:
    return {"member": {"name": f"{{project}}/members/{user}", "role": role}}


ROWS: Final[list[Row]] = [
    *_service(
        "DatastoreService",
        "datastore",
        ("CreateProject", R.ANY_USER, {"projectId": "new-{unique}", "project": _NEW_PROJECT}),
        ("GetProject", R.READ, _PROJECT),
        ("ListProjects", R.ANYBODY),
        (
            "UpdateProject",
            R.SETTINGS,
            {"project": {"name": "{project}", "displayName": "a"}, "updateMask": "displayName"},
        ),
        ("DeleteProject", R.OWN, _PROJECT, _REFUSED),
        ("ListMembers", R.READ, _IN_PROJECT),
        ("SetMember", R.MEMBERS, _member("guest", "ROLE_VIEWER")),
        ("SetMember", R.OWN, _member("second", "ROLE_OWNER")),
        ("SetMember", R.OWN, _member("third", "ROLE_VIEWER")),
        ("RemoveMember", R.MEMBERS, {"name": "{project}/members/guest"}, _OK_OR_GONE),
        ("RemoveMember", R.OWN, {"name": "{project}/members/second"}, _OK_OR_GONE),
        ("GetMember", R.READ, {"name": "{project}/members/viewer"}),
        ("GetVolume", R.READ, _VOLUME),
        ("ListVolumes", R.READ, _IN_PROJECT),
        (
            "UpdateVolume",
            R.VOLUMES,
            {"volume": {"name": "{volume}", "displayName": "v"}, "updateMask": "displayName"},
        ),
        ("DeleteVolume", R.VOLUMES, _VOLUME, _REFUSED),
        ("GetSliceStatistics", R.READ, _VOLUME),
        ("CreateLayer", R.LAYERS, {**_IN_VOLUME, "layerId": "new-{unique}", "layer": _LABELS}),
        ("RestartLayer", R.LAYERS, {"name": "{writing}"}),
        ("GetLayer", R.READ, {"name": "{layer}"}),
        ("ListLayers", R.READ, _IN_VOLUME),
        ("WriteRegion", R.LAYERS, _REGION, _OUTDATED),
        ("CommitLayer", R.LAYERS, {"name": "{writing}", "attempt": 99}, _OUTDATED),
        ("DeleteLayer", R.LAYERS, {"name": "{spare_layer}"}, _OK_OR_GONE),
        ("ReadRegion", R.READ, {**_VOLUME, "region": _VOXEL}),
        ("ReadRegion", R.READ, {"name": "{layer}", "region": _VOXEL}),
        ("CreateUpload", R.VOLUMES, {**_IN_PROJECT, "upload": {"fileName": "a.tif", "sizeBytes": "9"}}),
        ("GetUpload", R.VOLUMES, {"name": "{upload}"}, _OK_OR_GONE),
        ("WriteUpload", R.VOLUMES, {"name": "{upload}"}, _OK_OR_GONE),
        ("DeleteUpload", R.VOLUMES, {"name": "{spare_upload}"}, _OK_OR_GONE),
        ("CreateArtifact", R.LAYERS, {**_IN_PROJECT, "artifactId": "new-{unique}", "attempt": 1}),
        ("CommitArtifacts", R.LAYERS, {**_IN_PROJECT, "attempt": 1}, _WRONG),
        ("GetArtifact", R.READ, {"name": "{artifact}"}),
        ("ReadArtifact", R.READ, {"name": "{artifact}"}),
        ("CollectGarbage", R.ADMIN, {"dryRun": True}),
    ),
    *_service(
        "InstanceEditService",
        "datastore",
        (
            "CommitInstanceEdit",
            R.ANNOTATE,
            {
                "parent": "{objects}",
                "edit": {"reassign": {"region": _VOXEL}},
                "labels": base64.b64encode(b"\1").decode(),
                "requestId": "{unique}",
            },
        ),
        ("GetInstanceEdit", R.READ, {"name": "{edit}", "withLabels": True}),
        ("ListInstanceEdits", R.READ, {"parent": "{objects}"}),
        ("GetInstanceAt", R.READ, {"parent": "{objects}", "position": {}}),
        ("RevertInstanceEdit", R.REVIEW, {"name": "{spare_edit}"}, _OK_OR_REFUSED),
    ),
    *_service(
        "AnnotationService",
        "datastore",
        (
            "CommitAnnotation",
            R.ANNOTATE,
            {
                **_IN_VOLUME,
                "annotation": {"region": _VOXEL, "kind": "KIND_DENSE"},
                "labels": base64.b64encode(b"\2").decode(),
                "requestId": "{unique}",
            },
        ),
        ("GetAnnotation", R.READ, {"name": "{annotation}", "withLabels": True}),
        ("ListAnnotations", R.READ, _IN_VOLUME),
        ("ListAnnotations", R.READ, _IN_PROJECT),
        ("RevertAnnotation", R.REVIEW, {"name": "{spare_annotation}"}, _OK_OR_REFUSED),
        ("ReviewAnnotation", R.REVIEW, {"name": "{annotation}", "accepted": True}),
        ("CompareAnnotations", R.READ, {"first": "{annotation}", "second": "{annotation}"}),
        ("EndLease", R.SAMPLER, {"sample": "{project}/samples/absent", "term": "1"}),
        ("ListAnnotationRecords", R.READ, _IN_PROJECT),
        ("ListAnnotationRecords", R.READ, {**_IN_PROJECT, "volume": "{volume}", "region": _VOXEL}),
        ("RebuildAnnotationsLayer", R.LAYERS, _IN_VOLUME),
        (
            "SaveDraft",
            R.ANNOTATE,
            {
                "draft": {
                    "name": "{volume}/drafts/mine",
                    "annotation": {"region": _VOXEL, "kind": "KIND_DENSE"},
                },
                "labels": base64.b64encode(b"\2").decode(),
            },
        ),
        # Everybody's own: an administrator sees their drafts and nobody else's.
        ("GetDraft", R.ANNOTATE, {"name": "{volume}/drafts/absent"}, _NO_FILE),
        ("ListDrafts", R.ANNOTATE, _IN_PROJECT),
        ("DeleteDraft", R.ANNOTATE, {"name": "{volume}/drafts/absent"}, _NO_FILE),
    ),
    *_service(
        "SamplerService",
        "sampler",
        ("GetPool", R.READ, {"name": "{project}/pool"}),
        ("UpdatePool", R.SETTINGS, {"pool": {"name": "{project}/pool", "seed": "7"}, "updateMask": "seed"}),
        ("ListStrategies", R.ANYBODY),
        ("ClaimSamples", R.ANNOTATE, _IN_PROJECT),
        (
            "CreateSample",
            R.ANNOTATE,
            {**_IN_PROJECT, "volume": "{volume}", "region": _VOXEL},
            _OK_OR_REFUSED,
        ),
        ("GetSample", R.READ, {"name": "{sample}"}),
        ("ListSamples", R.READ, _IN_PROJECT),
        ("WatchSamples", R.READ, _IN_PROJECT),
        ("RenewLease", R.ANNOTATE, {"name": "{sample}"}, _OK_OR_REFUSED),
        ("ReleaseSample", R.ANNOTATE, {"name": "{spare_sample}"}, _OK_OR_REFUSED),
        ("SkipSample", R.ANNOTATE, {"name": "{spare_sample}", "reason": "blurred"}, _OK_OR_REFUSED),
        ("RenewSession", R.ANNOTATE, {**_IN_PROJECT, "session": "window"}),
        ("LeaveSession", R.ANNOTATE, {**_IN_PROJECT, "session": "window"}),
        ("FlagSample", R.ANNOTATE, {"name": "{spare_sample}", "text": "what?"}, _OK_OR_REFUSED),
        ("UnflagSample", R.ANNOTATE, {"name": "{spare_sample}", "answer": "that"}, _OK_OR_REFUSED),
        ("ResumeSample", R.ANNOTATE, {"name": "{spare_sample}"}, _OK_OR_REFUSED),
        ("TakeOverLease", R.SETTINGS, {"name": "{spare_sample}"}, _OK_OR_REFUSED),
        ("ClaimReviews", R.REVIEW, _IN_PROJECT),
        ("ReleaseReview", R.REVIEW, {"annotation": "{annotation}"}, _REFUSED),
        ("ListAgreements", R.READ, _IN_PROJECT),
        ("GetProgress", R.READ, _IN_PROJECT),
        ("RequestTraining", R.MODELS, {"parent": "{empty}"}, _REFUSED),
    ),
    *_service(
        "TrainerService",
        "trainer",
        ("GetModel", R.READ, {"name": "{model}"}),
        ("ListModels", R.READ, {"project": "{project}"}),
        ("UpdateModel", R.MODELS, {"model": {"name": "{model}", "displayName": "m"}}),
        ("GetModelLineage", R.READ, {"name": "{model}"}),
        ("ExportModel", R.READ, {"name": "{model}"}, _OK_OR_REFUSED),
        ("DeleteModel", R.MODELS, {"name": "{model}"}),
        ("ImportModel", R.MODELS, {"project": "{project}", "data": _empty_archive()}, _WRONG),
        ("ListMeasures", R.ANYBODY),
    ),
    *_service(
        "SegmentationService",
        "trainer",
        ("Segment", R.ANNOTATE, {"project": "{project}"}, _WRONG),
        ("SegmentByModel", R.ANNOTATE, {"project": "{project}"}, _WRONG),
        ("PrepareSegmentation", R.ANNOTATE, {"project": "{project}"}),
    ),
    *_service(
        "WorkerService",
        "trainer",
        ("ReportProgress", R.WORKER, {"job": "{training}", "attempt": 99}),
        (
            "ReadVoxels",
            R.WORKER,
            {
                "job": "{training}",
                "attempt": 99,
                "volume": "projects/absent/volumes/absent",
                "region": _VOXEL,
            },
        ),
    ),
    *_service(
        "JobService",
        "datastore",
        ("CreateJob", R.VOLUMES, _job("{project}", importVolume={"uri": "{imports}/absent.tif"}), _NO_FILE),
        (
            "CreateJob",
            R.EXPORT,
            _job("{project}", export={"source": "{volume}", "format": "FORMAT_OME_TIFF", "region": _OUTSIDE}),
            _WRONG,
        ),
        ("GetJob", R.READ, _JOB),
        ("ListJobs", R.READ, {"project": "{project}"}),
        ("ListJobs", R.ADMIN),
        ("WatchJob", R.READ, _JOB),
        ("WatchJobs", R.READ, {"project": "{project}"}),
        ("CancelJob", R.MODELS, _JOB),
        ("RetryJob", R.VOLUMES, _JOB, _REFUSED),
        ("RetryJob", R.EXPORT, {"name": "{export}"}, _REFUSED),
        ("ListJobLogs", R.READ, _JOB),
    ),
    *_service(
        "JobService",
        "trainer",
        ("CreateJob", R.MODELS, _job("{empty}", train={}), _REFUSED),
        ("CreateJob", R.MODELS, _job("{empty}", predict={"volume": "{volume}"}), _REFUSED),
        ("CreateJob", R.MODELS, _job("{project}", score={"model": "{model}"}), _WRONG),
        ("CreateJob", R.MODELS, _job("{project}", pretrain={}), _WRONG),
        ("CreateJob", R.MODELS, _job("{project}", measureObjects={"layer": "{layer}"}), _WRONG),
        (
            "CreateJob",
            R.MODELS,
            _job("{project}", instances={"layer": "{layer}", "method": "watershed", "classValue": 77}),
            _WRONG,
        ),
        ("GetJob", R.READ, _TRAINING),
        ("ListJobs", R.READ, {"project": "{project}"}),
        ("ListJobs", R.ADMIN),
        ("WatchJob", R.READ, _TRAINING),
        ("WatchJobs", R.READ, {"project": "{project}"}),
        ("CancelJob", R.MODELS, _TRAINING),
        ("ListJobLogs", R.READ, _TRAINING),
    ),
    *_service(
        "IdentityService",
        "gateway",
        ("GetSelf", R.ANY_USER),
        ("CreateUser", R.ADMIN, {"userId": "user-{unique}"}),
        ("ListUsers", R.ADMIN),
        (
            "UpdateUser",
            R.ADMIN,
            {"user": {"name": "users/guest", "displayName": "Guest"}, "updateMask": "displayName"},
        ),
        # Too short, so that nobody's sign-in changes.
        ("SetPassword", R.ANY_USER, {"newPassword": "short"}, _WRONG),
        ("SetPassword", R.ADMIN, {"name": "users/guest", "newPassword": "short"}, _WRONG),
        ("CreateToken", R.ANY_USER),
        ("CreateToken", R.ADMIN, {"parent": "users/guest"}),
        ("ListTokens", R.ANY_USER),
        ("ListTokens", R.ADMIN, {"parent": "users/guest"}),
        ("RevokeToken", R.ADMIN, {"name": "users/guest/tokens/absent"}, _NO_FILE),
        ("ListAuditEvents", R.ADMIN),
    ),
    *_service("PlatformService", "gateway", ("GetStatus", R.ANYBODY)),
]
