import datetime

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as _annotation_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstanceEdit(_message.Message):
    __slots__ = ("name", "sequence", "merge", "split", "delete", "reassign", "reclassify", "reverts", "author", "create_time", "comment", "reverted")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    REASSIGN_FIELD_NUMBER: _ClassVar[int]
    RECLASSIFY_FIELD_NUMBER: _ClassVar[int]
    REVERTS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    REVERTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    sequence: int
    merge: InstanceMerge
    split: InstanceSplit
    delete: InstanceDelete
    reassign: InstanceReassign
    reclassify: InstanceReclassify
    reverts: str
    author: str
    create_time: _timestamp_pb2.Timestamp
    comment: str
    reverted: bool
    def __init__(self, name: _Optional[str] = ..., sequence: _Optional[int] = ..., merge: _Optional[_Union[InstanceMerge, _Mapping]] = ..., split: _Optional[_Union[InstanceSplit, _Mapping]] = ..., delete: _Optional[_Union[InstanceDelete, _Mapping]] = ..., reassign: _Optional[_Union[InstanceReassign, _Mapping]] = ..., reclassify: _Optional[_Union[InstanceReclassify, _Mapping]] = ..., reverts: _Optional[str] = ..., author: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment: _Optional[str] = ..., reverted: bool = ...) -> None: ...

class InstanceMerge(_message.Message):
    __slots__ = ("instances", "into")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    INTO_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedScalarFieldContainer[int]
    into: int
    def __init__(self, instances: _Optional[_Iterable[int]] = ..., into: _Optional[int] = ...) -> None: ...

class InstanceSplit(_message.Message):
    __slots__ = ("instance", "region", "seeds", "new_instances")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    NEW_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instance: int
    region: _geometry_pb2.Region
    seeds: _containers.RepeatedCompositeFieldContainer[InstanceSeeds]
    new_instances: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, instance: _Optional[int] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., seeds: _Optional[_Iterable[_Union[InstanceSeeds, _Mapping]]] = ..., new_instances: _Optional[_Iterable[int]] = ...) -> None: ...

class InstanceSeeds(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[_geometry_pb2.Index]
    def __init__(self, points: _Optional[_Iterable[_Union[_geometry_pb2.Index, _Mapping]]] = ...) -> None: ...

class InstanceDelete(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, instances: _Optional[_Iterable[int]] = ...) -> None: ...

class InstanceReassign(_message.Message):
    __slots__ = ("region", "instance", "sources", "new_instance")
    REGION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    NEW_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    region: _geometry_pb2.Region
    instance: int
    sources: _containers.RepeatedScalarFieldContainer[int]
    new_instance: int
    def __init__(self, region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., instance: _Optional[int] = ..., sources: _Optional[_Iterable[int]] = ..., new_instance: _Optional[int] = ...) -> None: ...

class InstanceReclassify(_message.Message):
    __slots__ = ("instances", "class_value")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedScalarFieldContainer[int]
    class_value: int
    def __init__(self, instances: _Optional[_Iterable[int]] = ..., class_value: _Optional[int] = ...) -> None: ...

class CommitInstanceEditRequest(_message.Message):
    __slots__ = ("parent", "edit", "labels", "encoding", "request_id", "base_sequence")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    edit: InstanceEdit
    labels: bytes
    encoding: _annotation_pb2.LabelsEncoding
    request_id: str
    base_sequence: int
    def __init__(self, parent: _Optional[str] = ..., edit: _Optional[_Union[InstanceEdit, _Mapping]] = ..., labels: _Optional[bytes] = ..., encoding: _Optional[_Union[_annotation_pb2.LabelsEncoding, str]] = ..., request_id: _Optional[str] = ..., base_sequence: _Optional[int] = ...) -> None: ...

class CommitInstanceEditResponse(_message.Message):
    __slots__ = ("edit",)
    EDIT_FIELD_NUMBER: _ClassVar[int]
    edit: InstanceEdit
    def __init__(self, edit: _Optional[_Union[InstanceEdit, _Mapping]] = ...) -> None: ...

class RevertInstanceEditRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevertInstanceEditResponse(_message.Message):
    __slots__ = ("edit",)
    EDIT_FIELD_NUMBER: _ClassVar[int]
    edit: InstanceEdit
    def __init__(self, edit: _Optional[_Union[InstanceEdit, _Mapping]] = ...) -> None: ...

class GetInstanceEditRequest(_message.Message):
    __slots__ = ("name", "with_labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WITH_LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    with_labels: bool
    def __init__(self, name: _Optional[str] = ..., with_labels: bool = ...) -> None: ...

class GetInstanceEditResponse(_message.Message):
    __slots__ = ("edit", "labels")
    EDIT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    edit: InstanceEdit
    labels: bytes
    def __init__(self, edit: _Optional[_Union[InstanceEdit, _Mapping]] = ..., labels: _Optional[bytes] = ...) -> None: ...

class ListInstanceEditsRequest(_message.Message):
    __slots__ = ("parent", "instance", "after_sequence", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    instance: int
    after_sequence: int
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., instance: _Optional[int] = ..., after_sequence: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListInstanceEditsResponse(_message.Message):
    __slots__ = ("edits", "next_page_token")
    EDITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[InstanceEdit]
    next_page_token: str
    def __init__(self, edits: _Optional[_Iterable[_Union[InstanceEdit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetInstanceAtRequest(_message.Message):
    __slots__ = ("parent", "position")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    parent: str
    position: _geometry_pb2.Index
    def __init__(self, parent: _Optional[str] = ..., position: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ...) -> None: ...

class GetInstanceAtResponse(_message.Message):
    __slots__ = ("instance", "stored_instance", "sequence")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STORED_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    instance: int
    stored_instance: int
    sequence: int
    def __init__(self, instance: _Optional[int] = ..., stored_instance: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...
