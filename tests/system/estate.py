"""What the SDK can see of a platform, for comparing one with another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import numpy as np

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.client import Client
from biosegment.client.connection import Connection


def seen(client: Client, project: str) -> dict[str, Any]:
    """Everything of a project that must survive: values, and arrays by their name.

    Left out is what belongs to a machine: addresses of arrays, signatures of leases, the annotations layer's own row.
    """
    volumes = client.volumes.list(project)
    layers = [layer for volume in volumes for layer in client.volumes.layers(volume.name)]
    layers = [layer for layer in layers if layer.kind != "annotations"]
    found: dict[str, Any] = {
        "projects": client.projects.list(),
        "members": client.projects.members(project),
        "users": client.platform.users(),
        "tokens": [replace(token, last_use_time=None) for token in client.platform.tokens()],
        "volumes": [replace(volume, uri="") for volume in volumes],
        "layers": [replace(layer, uri="") for layer in layers],
        "annotations": client.annotations.list(project),
        "drafts": client.annotations.drafts(project),
        "samples": [replace(sample, lease_token="") for sample in client.samples.list(project)],
        "pool": client.samples.pool(project),
        "progress": client.samples.progress(project),
        "models": [client.models.get(model.name) for model in client.models.list(project)],
        "jobs": client.jobs.list(project),
        "logs": [client.jobs.log(job.name) for job in client.jobs.list(project)],
    }
    for name in [*(volume.name for volume in volumes), *(layer.name for layer in layers)]:
        found[name] = client.volumes.read(name)
    for volume in volumes:
        found[f"annotations of {volume.name}"] = client.volumes.read(f"{volume.name}/layers/annotations")
    for draft in found["drafts"]:
        found[draft.name] = client.annotations.draft(draft.name)[1]
    for annotation in found["annotations"]:
        found[annotation.name] = client.annotations.labels(annotation.name)
    return found


def require_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    for what, value in before.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(after[what], value, err_msg=what)
        else:
            assert after[what] == value, what


class Wire:
    """Calls that the SDK does not make."""

    def __init__(self, connection: Connection) -> None:
        self._channel = grpc.insecure_channel(connection.address)
        self._metadata = [("authorization", f"Bearer {connection.token}")]

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()

    def records(self, project: str) -> list[bytes]:
        """The history of all annotations, each record as the bytes of its message."""
        stub, last = AnnotationServiceStub(self._channel), 0
        found: list[bytes] = []
        while True:
            request = annotation_pb2.ListAnnotationRecordsRequest(
                parent=project, after_sequence=last, page_size=1000
            )
            page = stub.ListAnnotationRecords(request, timeout=30, metadata=self._metadata).records
            if not page:
                return found
            found += [item.SerializeToString(deterministic=True) for item in page]
            last = page[-1].sequence

    def audit(self) -> list[bytes]:
        """Every event, oldest first, as the bytes of its message."""
        stub, last = IdentityServiceStub(self._channel), 0
        found: list[bytes] = []
        while True:
            request = identity_pb2.ListAuditEventsRequest(page_size=1000, before_sequence=last)
            page = stub.ListAuditEvents(request, timeout=30, metadata=self._metadata).events
            if not page:
                return found[::-1]
            found += [item.SerializeToString(deterministic=True) for item in page]
            last = page[-1].sequence
