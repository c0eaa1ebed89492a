import datetime

from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LabelsEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABELS_ENCODING_UNSPECIFIED: _ClassVar[LabelsEncoding]
    LABELS_ENCODING_ZLIB: _ClassVar[LabelsEncoding]
LABELS_ENCODING_UNSPECIFIED: LabelsEncoding
LABELS_ENCODING_ZLIB: LabelsEncoding

class Annotation(_message.Message):
    __slots__ = ("name", "sequence", "region", "kind", "class_scope", "author", "create_time", "sample", "strategy", "model", "work_time_s", "state", "labels_sha256", "review_comment", "voxel_counts", "comment")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Annotation.Kind]
        KIND_DENSE: _ClassVar[Annotation.Kind]
        KIND_SCRIBBLES: _ClassVar[Annotation.Kind]
        KIND_INSTANCES: _ClassVar[Annotation.Kind]
    KIND_UNSPECIFIED: Annotation.Kind
    KIND_DENSE: Annotation.Kind
    KIND_SCRIBBLES: Annotation.Kind
    KIND_INSTANCES: Annotation.Kind
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Annotation.State]
        STATE_PENDING: _ClassVar[Annotation.State]
        STATE_ACCEPTED: _ClassVar[Annotation.State]
        STATE_REJECTED: _ClassVar[Annotation.State]
        STATE_REVERTED: _ClassVar[Annotation.State]
    STATE_UNSPECIFIED: Annotation.State
    STATE_PENDING: Annotation.State
    STATE_ACCEPTED: Annotation.State
    STATE_REJECTED: Annotation.State
    STATE_REVERTED: Annotation.State
    class VoxelCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLASS_SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WORK_TIME_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LABELS_SHA256_FIELD_NUMBER: _ClassVar[int]
    REVIEW_COMMENT_FIELD_NUMBER: _ClassVar[int]
    VOXEL_COUNTS_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    sequence: int
    region: _geometry_pb2.Region
    kind: Annotation.Kind
    class_scope: _containers.RepeatedScalarFieldContainer[int]
    author: str
    create_time: _timestamp_pb2.Timestamp
    sample: str
    strategy: str
    model: str
    work_time_s: float
    state: Annotation.State
    labels_sha256: str
    review_comment: str
    voxel_counts: _containers.ScalarMap[int, int]
    comment: str
    def __init__(self, name: _Optional[str] = ..., sequence: _Optional[int] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., kind: _Optional[_Union[Annotation.Kind, str]] = ..., class_scope: _Optional[_Iterable[int]] = ..., author: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sample: _Optional[str] = ..., strategy: _Optional[str] = ..., model: _Optional[str] = ..., work_time_s: _Optional[float] = ..., state: _Optional[_Union[Annotation.State, str]] = ..., labels_sha256: _Optional[str] = ..., review_comment: _Optional[str] = ..., voxel_counts: _Optional[_Mapping[int, int]] = ..., comment: _Optional[str] = ...) -> None: ...

class CommitAnnotationRequest(_message.Message):
    __slots__ = ("parent", "annotation", "labels", "encoding", "lease_token", "request_id", "base_sequence", "draft")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    annotation: Annotation
    labels: bytes
    encoding: LabelsEncoding
    lease_token: str
    request_id: str
    base_sequence: int
    draft: str
    def __init__(self, parent: _Optional[str] = ..., annotation: _Optional[_Union[Annotation, _Mapping]] = ..., labels: _Optional[bytes] = ..., encoding: _Optional[_Union[LabelsEncoding, str]] = ..., lease_token: _Optional[str] = ..., request_id: _Optional[str] = ..., base_sequence: _Optional[int] = ..., draft: _Optional[str] = ...) -> None: ...

class CommitAnnotationResponse(_message.Message):
    __slots__ = ("annotation",)
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    annotation: Annotation
    def __init__(self, annotation: _Optional[_Union[Annotation, _Mapping]] = ...) -> None: ...

class GetAnnotationRequest(_message.Message):
    __slots__ = ("name", "with_labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WITH_LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    with_labels: bool
    def __init__(self, name: _Optional[str] = ..., with_labels: bool = ...) -> None: ...

class GetAnnotationResponse(_message.Message):
    __slots__ = ("annotation", "labels")
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    annotation: Annotation
    labels: bytes
    def __init__(self, annotation: _Optional[_Union[Annotation, _Mapping]] = ..., labels: _Optional[bytes] = ...) -> None: ...

class ListAnnotationsRequest(_message.Message):
    __slots__ = ("parent", "states", "region", "sample", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    states: _containers.RepeatedScalarFieldContainer[Annotation.State]
    region: _geometry_pb2.Region
    sample: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., states: _Optional[_Iterable[_Union[Annotation.State, str]]] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., sample: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAnnotationsResponse(_message.Message):
    __slots__ = ("annotations", "next_page_token")
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    annotations: _containers.RepeatedCompositeFieldContainer[Annotation]
    next_page_token: str
    def __init__(self, annotations: _Optional[_Iterable[_Union[Annotation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RevertAnnotationRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevertAnnotationResponse(_message.Message):
    __slots__ = ("annotation",)
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    annotation: Annotation
    def __init__(self, annotation: _Optional[_Union[Annotation, _Mapping]] = ...) -> None: ...

class ReviewAnnotationRequest(_message.Message):
    __slots__ = ("name", "accepted", "comment", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    accepted: bool
    comment: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., accepted: bool = ..., comment: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReviewAnnotationResponse(_message.Message):
    __slots__ = ("annotation",)
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    annotation: Annotation
    def __init__(self, annotation: _Optional[_Union[Annotation, _Mapping]] = ...) -> None: ...

class CompareAnnotationsRequest(_message.Message):
    __slots__ = ("first", "second")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    first: str
    second: str
    def __init__(self, first: _Optional[str] = ..., second: _Optional[str] = ...) -> None: ...

class CompareAnnotationsResponse(_message.Message):
    __slots__ = ("compared_voxels", "agreed_voxels", "classes")
    COMPARED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    AGREED_VOXELS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    compared_voxels: int
    agreed_voxels: int
    classes: _containers.RepeatedCompositeFieldContainer[ClassOverlap]
    def __init__(self, compared_voxels: _Optional[int] = ..., agreed_voxels: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[ClassOverlap, _Mapping]]] = ...) -> None: ...

class ClassOverlap(_message.Message):
    __slots__ = ("class_value", "intersection_voxels", "union_voxels")
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERSECTION_VOXELS_FIELD_NUMBER: _ClassVar[int]
    UNION_VOXELS_FIELD_NUMBER: _ClassVar[int]
    class_value: int
    intersection_voxels: int
    union_voxels: int
    def __init__(self, class_value: _Optional[int] = ..., intersection_voxels: _Optional[int] = ..., union_voxels: _Optional[int] = ...) -> None: ...

class EndLeaseRequest(_message.Message):
    __slots__ = ("sample", "term", "successor", "successor_name")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    SUCCESSOR_FIELD_NUMBER: _ClassVar[int]
    SUCCESSOR_NAME_FIELD_NUMBER: _ClassVar[int]
    sample: str
    term: int
    successor: str
    successor_name: str
    def __init__(self, sample: _Optional[str] = ..., term: _Optional[int] = ..., successor: _Optional[str] = ..., successor_name: _Optional[str] = ...) -> None: ...

class EndLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AnnotationRecord(_message.Message):
    __slots__ = ("sequence", "annotation", "reverted", "review", "author", "create_time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    REVERTED_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    annotation: Annotation
    reverted: str
    review: Review
    author: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., annotation: _Optional[_Union[Annotation, _Mapping]] = ..., reverted: _Optional[str] = ..., review: _Optional[_Union[Review, _Mapping]] = ..., author: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Review(_message.Message):
    __slots__ = ("annotation", "accepted", "comment")
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    annotation: str
    accepted: bool
    comment: str
    def __init__(self, annotation: _Optional[str] = ..., accepted: bool = ..., comment: _Optional[str] = ...) -> None: ...

class ListAnnotationRecordsRequest(_message.Message):
    __slots__ = ("parent", "after_sequence", "page_size", "volume", "region")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    parent: str
    after_sequence: int
    page_size: int
    volume: str
    region: _geometry_pb2.Region
    def __init__(self, parent: _Optional[str] = ..., after_sequence: _Optional[int] = ..., page_size: _Optional[int] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ...) -> None: ...

class ListAnnotationRecordsResponse(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[AnnotationRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[AnnotationRecord, _Mapping]]] = ...) -> None: ...

class RebuildAnnotationsLayerRequest(_message.Message):
    __slots__ = ("parent",)
    PARENT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    def __init__(self, parent: _Optional[str] = ...) -> None: ...

class RebuildAnnotationsLayerResponse(_message.Message):
    __slots__ = ("layer", "projected_sequence")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    PROJECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    projected_sequence: int
    def __init__(self, layer: _Optional[str] = ..., projected_sequence: _Optional[int] = ...) -> None: ...

class Draft(_message.Message):
    __slots__ = ("name", "annotation", "base_sequence", "author", "update_time", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    annotation: Annotation
    base_sequence: int
    author: str
    update_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, name: _Optional[str] = ..., annotation: _Optional[_Union[Annotation, _Mapping]] = ..., base_sequence: _Optional[int] = ..., author: _Optional[str] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class SaveDraftRequest(_message.Message):
    __slots__ = ("draft", "labels", "encoding")
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    draft: Draft
    labels: bytes
    encoding: LabelsEncoding
    def __init__(self, draft: _Optional[_Union[Draft, _Mapping]] = ..., labels: _Optional[bytes] = ..., encoding: _Optional[_Union[LabelsEncoding, str]] = ...) -> None: ...

class SaveDraftResponse(_message.Message):
    __slots__ = ("draft",)
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    draft: Draft
    def __init__(self, draft: _Optional[_Union[Draft, _Mapping]] = ...) -> None: ...

class GetDraftRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetDraftResponse(_message.Message):
    __slots__ = ("draft", "labels")
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    draft: Draft
    labels: bytes
    def __init__(self, draft: _Optional[_Union[Draft, _Mapping]] = ..., labels: _Optional[bytes] = ...) -> None: ...

class ListDraftsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDraftsResponse(_message.Message):
    __slots__ = ("drafts", "next_page_token")
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    drafts: _containers.RepeatedCompositeFieldContainer[Draft]
    next_page_token: str
    def __init__(self, drafts: _Optional[_Iterable[_Union[Draft, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDraftRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteDraftResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
