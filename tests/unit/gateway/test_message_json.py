from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from biosegment_gateway.contract import public_methods, public_services
from biosegment_gateway.message_json import from_json, to_json
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.api.datastore.v1alpha1 import annotation_pb2, datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import InvalidArgument

INPUTS = [method.input_type for method in public_methods().values()]


def read(value: Any, message: Any) -> Any:
    return message.FromString(from_json(json.dumps(value).encode(), message.DESCRIPTOR))


def test_both_spellings_of_a_field_are_read_and_one_is_written():
    for name in ("pageSize", "page_size"):
        found = read({name: 7}, datastore_pb2.ListVolumesRequest)
        assert found.page_size == 7
    written = to_json(found.SerializeToString(), found.DESCRIPTOR)
    assert written == {"parent": "", "pageSize": 7, "pageToken": ""}


@pytest.mark.parametrize("number", [5_000_000_000, "5000000000", 5e9])
def test_large_numbers_are_read_in_every_form_and_written_as_text(number):
    found = read({"upload": {"sizeBytes": number}}, datastore_pb2.CreateUploadRequest)
    assert found.upload.size_bytes == 5_000_000_000
    assert to_json(found.SerializeToString(), found.DESCRIPTOR)["upload"]["sizeBytes"] == "5000000000"


@pytest.mark.parametrize("text", ["AP8=", "AP8", base64.urlsafe_b64encode(b"\xfb\xff\xfe").decode(), ""])
def test_bytes_are_read_in_both_alphabets_with_and_without_padding(text):
    assert len(read({"data": text}, datastore_pb2.WriteUploadRequest).data) in (0, 2, 3)


@pytest.mark.parametrize("text", ["!!!!", "AP8==", "A", "AP8=AP8=", "A P8", 5, ["AP8="], {"a": 1}])
def test_what_is_no_base64_is_refused_rather_than_read_as_something_else(text):
    with pytest.raises(InvalidArgument, match=r"WriteUploadRequest\.data must be bytes in base64"):
        read({"data": text}, datastore_pb2.WriteUploadRequest)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"spec": {"train": {"maxStep": 1}}}, "there is no field CreateJobRequest.spec.train.maxStep"),
        ({"spec": []}, "CreateJobRequest.spec must be an object, not a list"),
        ({"spec": ""}, "CreateJobRequest.spec must be an object, not a text"),
        ({"spec": {"score": {"volumes": "v"}}}, "CreateJobRequest.spec.score.volumes must be a list"),
        ({"spec": {"score": {"volumes": [None]}}}, "volumes[0]"),
        ({"spec": {"train": {}, "score": {}}}, "oneof"),
        ({"spec": {"importLabels": {"values": {"x": 1}}}}, "values"),
        ({"spec": {"export": {"format": "FORMAT_PAPER"}}}, "FORMAT_PAPER"),
        ({"spec": {"export": {"asOf": "yesterday"}}}, "asOf"),
        ({"spec": {"export": {"asOf": 5}}}, "asOf"),
        ({"spec": {"train": {"options": 5}}}, "options"),
    ],
)
def test_the_message_says_where_a_field_is_wrong(value, words):
    with pytest.raises(InvalidArgument) as caught:
        read(value, job_pb2.CreateJobRequest)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_options_nested_too_deeply_are_refused():
    options: Any = {}
    for _ in range(400):
        options = {"a": options}
    with pytest.raises(InvalidArgument):
        read({"spec": {"train": {"options": options}}}, job_pb2.CreateJobRequest)


def test_no_two_services_share_a_name_and_workers_are_not_public():
    assert "DatastoreService" in public_services()
    assert "WorkerService" not in public_services()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("NaN")
    | st.just("AAAA"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def almost(draw: Any, descriptor: Any, depth: int = 0) -> Any:
    """An object with fields of a message, some of which have a value of the wrong kind."""
    found = {}
    for field in (
        draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=4)) if descriptor.fields else []
    ):
        if field.message_type is not None and depth < 3 and draw(st.booleans()):
            found[field.json_name] = draw(almost(field.message_type, depth + 1))
        else:
            found[field.json_name] = draw(JSON)
    return found


def outcome(body: bytes, descriptor: Any) -> str:
    """What a body is taken for: '' for a message, which can then be written, else the reason of the refusal."""
    try:
        message = from_json(body, descriptor)
    except InvalidArgument as error:
        return error.reason
    json.dumps(to_json(message, descriptor), allow_nan=False)
    return ""


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_sent_is_a_message_or_an_invalid_argument(data):
    descriptor = data.draw(st.sampled_from(INPUTS))
    body = json.dumps(data.draw(almost(descriptor))).encode()
    assert outcome(body, descriptor) in ("", "BAD_JSON", "BAD_FIELD")


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=40))
def test_bytes_of_any_kind_are_a_message_or_an_invalid_argument(body):
    assert outcome(body, annotation_pb2.CommitAnnotationRequest.DESCRIPTOR) in ("", "BAD_JSON", "BAD_FIELD")


def test_what_is_written_is_what_protobuf_reads():
    job = job_pb2.Job(name="jobs/trainer-1", revision=1 << 60, metrics={"loss": float("nan")})
    job.create_time.GetCurrentTime()
    text = json.dumps(to_json(job.SerializeToString(), job.DESCRIPTOR), allow_nan=False)
    again = json_format.Parse(text, job_pb2.Job())
    assert (again.revision, again.create_time) == (job.revision, job.create_time)
    assert again.metrics["loss"] != again.metrics["loss"]
