from __future__ import annotations

import pytest
from biosegment_gateway.resource import find_resource
from hypothesis import given
from hypothesis import strategies as st

from biosegment.api.datastore.v1alpha1 import annotation_pb2, datastore_pb2, project_pb2
from biosegment.api.job.v1alpha1 import job_pb2


@pytest.mark.parametrize(
    ("message", "resource"),
    [
        (datastore_pb2.DeleteProjectRequest(name="projects/p", force=True), "projects/p"),
        (
            datastore_pb2.UpdateProjectRequest(
                project=project_pb2.Project(name="projects/p", display_name="x", working_resolution_nm=8)
            ),
            "projects/p",
        ),
        (job_pb2.CancelJobRequest(name="jobs/trainer-01"), "jobs/trainer-01"),
        (
            annotation_pb2.CommitAnnotationRequest(parent="projects/p/volumes/v", labels=b"x" * 100_000),
            "projects/p/volumes/v",
        ),
        (datastore_pb2.CreateProjectRequest(project_id="p"), ""),
        (
            datastore_pb2.CreateProjectResponse(project=project_pb2.Project(name="projects/new")),
            "projects/new",
        ),
    ],
)
def test_the_resource_of_a_message_is_found(message, resource):
    assert find_resource(message.SerializeToString()) == resource


@given(st.binary(max_size=400))
def test_bytes_that_are_no_message_do_no_harm(data):
    found = find_resource(data)
    assert found == "" or found.encode() in data


def test_a_large_message_without_a_name_is_not_searched_through():
    assert find_resource(b"\x0a\xff\xff\xff\x03" + b"\x0a\x01a" * 3_000_000) == ""
