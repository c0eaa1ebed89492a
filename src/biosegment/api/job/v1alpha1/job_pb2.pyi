import datetime

from biosegment.api.volume.v1alpha1 import geometry_pb2 as _geometry_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Job(_message.Message):
    __slots__ = ("name", "project", "state", "spec", "progress", "owner", "attempt", "error", "result", "create_time", "start_time", "end_time", "revision", "queue_position", "metrics", "cancel_requested", "resources", "start_eta_s")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Job.State]
        STATE_QUEUED: _ClassVar[Job.State]
        STATE_RUNNING: _ClassVar[Job.State]
        STATE_SUCCEEDED: _ClassVar[Job.State]
        STATE_FAILED: _ClassVar[Job.State]
        STATE_CANCELLED: _ClassVar[Job.State]
    STATE_UNSPECIFIED: Job.State
    STATE_QUEUED: Job.State
    STATE_RUNNING: Job.State
    STATE_SUCCEEDED: Job.State
    STATE_FAILED: Job.State
    STATE_CANCELLED: Job.State
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    START_ETA_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    state: Job.State
    spec: JobSpec
    progress: Progress
    owner: str
    attempt: int
    error: JobError
    result: JobResult
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    revision: int
    queue_position: int
    metrics: _containers.ScalarMap[str, float]
    cancel_requested: bool
    resources: Resources
    start_eta_s: float
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., state: _Optional[_Union[Job.State, str]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., owner: _Optional[str] = ..., attempt: _Optional[int] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., result: _Optional[_Union[JobResult, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ..., queue_position: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., cancel_requested: bool = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., start_eta_s: _Optional[float] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpus", "gpus", "memory_bytes")
    CPUS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    cpus: int
    gpus: int
    memory_bytes: int
    def __init__(self, cpus: _Optional[int] = ..., gpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("fraction", "step", "done", "total", "unit", "eta_s")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    step: str
    done: int
    total: int
    unit: str
    eta_s: float
    def __init__(self, fraction: _Optional[float] = ..., step: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., eta_s: _Optional[float] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("volume", "model", "layers", "artifact", "annotations", "artifacts")
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    volume: str
    model: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    artifact: str
    annotations: _containers.RepeatedScalarFieldContainer[str]
    artifacts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, volume: _Optional[str] = ..., model: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., artifact: _Optional[str] = ..., annotations: _Optional[_Iterable[str]] = ..., artifacts: _Optional[_Iterable[str]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("import_volume", "import_labels", "export", "train", "predict", "score", "pretrain", "instances", "measure_objects")
    IMPORT_VOLUME_FIELD_NUMBER: _ClassVar[int]
    IMPORT_LABELS_FIELD_NUMBER: _ClassVar[int]
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PRETRAIN_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MEASURE_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    import_volume: ImportVolumeSpec
    import_labels: ImportLabelsSpec
    export: ExportSpec
    train: TrainSpec
    predict: PredictSpec
    score: ScoreSpec
    pretrain: PretrainSpec
    instances: InstancesSpec
    measure_objects: MeasureObjectsSpec
    def __init__(self, import_volume: _Optional[_Union[ImportVolumeSpec, _Mapping]] = ..., import_labels: _Optional[_Union[ImportLabelsSpec, _Mapping]] = ..., export: _Optional[_Union[ExportSpec, _Mapping]] = ..., train: _Optional[_Union[TrainSpec, _Mapping]] = ..., predict: _Optional[_Union[PredictSpec, _Mapping]] = ..., score: _Optional[_Union[ScoreSpec, _Mapping]] = ..., pretrain: _Optional[_Union[PretrainSpec, _Mapping]] = ..., instances: _Optional[_Union[InstancesSpec, _Mapping]] = ..., measure_objects: _Optional[_Union[MeasureObjectsSpec, _Mapping]] = ...) -> None: ...

class ImportVolumeSpec(_message.Message):
    __slots__ = ("volume_id", "display_name", "uri", "upload", "voxel_size", "axes", "channel", "time_point", "dataset", "reference")
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    VOXEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TIME_POINT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    volume_id: str
    display_name: str
    uri: str
    upload: str
    voxel_size: _geometry_pb2.VoxelSize
    axes: str
    channel: int
    time_point: int
    dataset: str
    reference: bool
    def __init__(self, volume_id: _Optional[str] = ..., display_name: _Optional[str] = ..., uri: _Optional[str] = ..., upload: _Optional[str] = ..., voxel_size: _Optional[_Union[_geometry_pb2.VoxelSize, _Mapping]] = ..., axes: _Optional[str] = ..., channel: _Optional[int] = ..., time_point: _Optional[int] = ..., dataset: _Optional[str] = ..., reference: bool = ...) -> None: ...

class ImportLabelsSpec(_message.Message):
    __slots__ = ("volume", "uri", "upload", "offset", "values", "zero_meaning", "class_scope", "as_annotations", "other_values", "instances", "extent", "layer_id", "display_name", "axes", "channel", "time_point", "dataset")
    class ZeroMeaning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ZERO_MEANING_UNSPECIFIED: _ClassVar[ImportLabelsSpec.ZeroMeaning]
        ZERO_MEANING_NOT_ANNOTATED: _ClassVar[ImportLabelsSpec.ZeroMeaning]
        ZERO_MEANING_BACKGROUND: _ClassVar[ImportLabelsSpec.ZeroMeaning]
    ZERO_MEANING_UNSPECIFIED: ImportLabelsSpec.ZeroMeaning
    ZERO_MEANING_NOT_ANNOTATED: ImportLabelsSpec.ZeroMeaning
    ZERO_MEANING_BACKGROUND: ImportLabelsSpec.ZeroMeaning
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ZERO_MEANING_FIELD_NUMBER: _ClassVar[int]
    CLASS_SCOPE_FIELD_NUMBER: _ClassVar[int]
    AS_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_VALUES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    EXTENT_FIELD_NUMBER: _ClassVar[int]
    LAYER_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TIME_POINT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    volume: str
    uri: str
    upload: str
    offset: _geometry_pb2.Index
    values: _containers.ScalarMap[int, int]
    zero_meaning: ImportLabelsSpec.ZeroMeaning
    class_scope: _containers.RepeatedScalarFieldContainer[int]
    as_annotations: bool
    other_values: int
    instances: bool
    extent: _geometry_pb2.Region
    layer_id: str
    display_name: str
    axes: str
    channel: int
    time_point: int
    dataset: str
    def __init__(self, volume: _Optional[str] = ..., uri: _Optional[str] = ..., upload: _Optional[str] = ..., offset: _Optional[_Union[_geometry_pb2.Index, _Mapping]] = ..., values: _Optional[_Mapping[int, int]] = ..., zero_meaning: _Optional[_Union[ImportLabelsSpec.ZeroMeaning, str]] = ..., class_scope: _Optional[_Iterable[int]] = ..., as_annotations: bool = ..., other_values: _Optional[int] = ..., instances: bool = ..., extent: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., layer_id: _Optional[str] = ..., display_name: _Optional[str] = ..., axes: _Optional[str] = ..., channel: _Optional[int] = ..., time_point: _Optional[int] = ..., dataset: _Optional[str] = ...) -> None: ...

class ExportSpec(_message.Message):
    __slots__ = ("source", "format", "region", "segmentation", "prediction", "as_of", "without_edits")
    class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FORMAT_UNSPECIFIED: _ClassVar[ExportSpec.Format]
        FORMAT_OME_TIFF: _ClassVar[ExportSpec.Format]
        FORMAT_TIFF: _ClassVar[ExportSpec.Format]
        FORMAT_OME_ZARR: _ClassVar[ExportSpec.Format]
        FORMAT_HDF5: _ClassVar[ExportSpec.Format]
        FORMAT_MRC: _ClassVar[ExportSpec.Format]
        FORMAT_NRRD: _ClassVar[ExportSpec.Format]
        FORMAT_NIFTI: _ClassVar[ExportSpec.Format]
        FORMAT_IMS: _ClassVar[ExportSpec.Format]
        FORMAT_AMIRAMESH: _ClassVar[ExportSpec.Format]
        FORMAT_MIB_MODEL: _ClassVar[ExportSpec.Format]
    FORMAT_UNSPECIFIED: ExportSpec.Format
    FORMAT_OME_TIFF: ExportSpec.Format
    FORMAT_TIFF: ExportSpec.Format
    FORMAT_OME_ZARR: ExportSpec.Format
    FORMAT_HDF5: ExportSpec.Format
    FORMAT_MRC: ExportSpec.Format
    FORMAT_NRRD: ExportSpec.Format
    FORMAT_NIFTI: ExportSpec.Format
    FORMAT_IMS: ExportSpec.Format
    FORMAT_AMIRAMESH: ExportSpec.Format
    FORMAT_MIB_MODEL: ExportSpec.Format
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_EDITS_FIELD_NUMBER: _ClassVar[int]
    source: str
    format: ExportSpec.Format
    region: _geometry_pb2.Region
    segmentation: bool
    prediction: str
    as_of: _timestamp_pb2.Timestamp
    without_edits: bool
    def __init__(self, source: _Optional[str] = ..., format: _Optional[_Union[ExportSpec.Format, str]] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., segmentation: bool = ..., prediction: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., without_edits: bool = ...) -> None: ...

class TrainSpec(_message.Message):
    __slots__ = ("parent", "from_scratch", "annotations", "display_name", "seed", "max_steps", "max_seconds_s", "options", "interactive", "resources")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FROM_SCRATCH_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_S_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    parent: str
    from_scratch: bool
    annotations: _containers.RepeatedScalarFieldContainer[str]
    display_name: str
    seed: int
    max_steps: int
    max_seconds_s: float
    options: _struct_pb2.Struct
    interactive: bool
    resources: Resources
    def __init__(self, parent: _Optional[str] = ..., from_scratch: bool = ..., annotations: _Optional[_Iterable[str]] = ..., display_name: _Optional[str] = ..., seed: _Optional[int] = ..., max_steps: _Optional[int] = ..., max_seconds_s: _Optional[float] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., interactive: bool = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class PredictSpec(_message.Message):
    __slots__ = ("model", "volume", "region", "probabilities", "measures", "passes", "ortho_planes", "resources")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    ORTHO_PLANES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    model: str
    volume: str
    region: _geometry_pb2.Region
    probabilities: bool
    measures: _containers.RepeatedScalarFieldContainer[str]
    passes: Passes
    ortho_planes: bool
    resources: Resources
    def __init__(self, model: _Optional[str] = ..., volume: _Optional[str] = ..., region: _Optional[_Union[_geometry_pb2.Region, _Mapping]] = ..., probabilities: bool = ..., measures: _Optional[_Iterable[str]] = ..., passes: _Optional[_Union[Passes, _Mapping]] = ..., ortho_planes: bool = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class Passes(_message.Message):
    __slots__ = ("mc_dropout", "test_time_augmentation", "ensemble")
    MC_DROPOUT_FIELD_NUMBER: _ClassVar[int]
    TEST_TIME_AUGMENTATION_FIELD_NUMBER: _ClassVar[int]
    ENSEMBLE_FIELD_NUMBER: _ClassVar[int]
    mc_dropout: int
    test_time_augmentation: int
    ensemble: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mc_dropout: _Optional[int] = ..., test_time_augmentation: _Optional[int] = ..., ensemble: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreSpec(_message.Message):
    __slots__ = ("model", "volumes", "measures", "max_pixels", "passes", "resources")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    model: str
    volumes: _containers.RepeatedScalarFieldContainer[str]
    measures: _containers.RepeatedScalarFieldContainer[str]
    max_pixels: int
    passes: Passes
    resources: Resources
    def __init__(self, model: _Optional[str] = ..., volumes: _Optional[_Iterable[str]] = ..., measures: _Optional[_Iterable[str]] = ..., max_pixels: _Optional[int] = ..., passes: _Optional[_Union[Passes, _Mapping]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class PretrainSpec(_message.Message):
    __slots__ = ("volumes", "seed", "max_steps", "display_name", "max_seconds_s", "options", "resources")
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_SECONDS_S_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    volumes: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    max_steps: int
    display_name: str
    max_seconds_s: float
    options: _struct_pb2.Struct
    resources: Resources
    def __init__(self, volumes: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., max_steps: _Optional[int] = ..., display_name: _Optional[str] = ..., max_seconds_s: _Optional[float] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class InstancesSpec(_message.Message):
    __slots__ = ("layer", "class_value", "method", "min_size_voxels", "connectivity", "threshold", "seed_distance_nm", "boundary_layer", "boundary_class_value", "display_name", "resources")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_VOXELS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIVITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SEED_DISTANCE_NM_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_LAYER_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_CLASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    class_value: int
    method: str
    min_size_voxels: int
    connectivity: int
    threshold: float
    seed_distance_nm: float
    boundary_layer: str
    boundary_class_value: int
    display_name: str
    resources: Resources
    def __init__(self, layer: _Optional[str] = ..., class_value: _Optional[int] = ..., method: _Optional[str] = ..., min_size_voxels: _Optional[int] = ..., connectivity: _Optional[int] = ..., threshold: _Optional[float] = ..., seed_distance_nm: _Optional[float] = ..., boundary_layer: _Optional[str] = ..., boundary_class_value: _Optional[int] = ..., display_name: _Optional[str] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class MeasureObjectsSpec(_message.Message):
    __slots__ = ("layer", "meshes", "mesh_formats", "mesh_cell_nm", "resources")
    class MeshFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MESH_FORMAT_UNSPECIFIED: _ClassVar[MeasureObjectsSpec.MeshFormat]
        MESH_FORMAT_STL: _ClassVar[MeasureObjectsSpec.MeshFormat]
        MESH_FORMAT_PLY: _ClassVar[MeasureObjectsSpec.MeshFormat]
        MESH_FORMAT_GLB: _ClassVar[MeasureObjectsSpec.MeshFormat]
        MESH_FORMAT_PRECOMPUTED: _ClassVar[MeasureObjectsSpec.MeshFormat]
    MESH_FORMAT_UNSPECIFIED: MeasureObjectsSpec.MeshFormat
    MESH_FORMAT_STL: MeasureObjectsSpec.MeshFormat
    MESH_FORMAT_PLY: MeasureObjectsSpec.MeshFormat
    MESH_FORMAT_GLB: MeasureObjectsSpec.MeshFormat
    MESH_FORMAT_PRECOMPUTED: MeasureObjectsSpec.MeshFormat
    LAYER_FIELD_NUMBER: _ClassVar[int]
    MESHES_FIELD_NUMBER: _ClassVar[int]
    MESH_FORMATS_FIELD_NUMBER: _ClassVar[int]
    MESH_CELL_NM_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    meshes: bool
    mesh_formats: _containers.RepeatedScalarFieldContainer[MeasureObjectsSpec.MeshFormat]
    mesh_cell_nm: float
    resources: Resources
    def __init__(self, layer: _Optional[str] = ..., meshes: bool = ..., mesh_formats: _Optional[_Iterable[_Union[MeasureObjectsSpec.MeshFormat, str]]] = ..., mesh_cell_nm: _Optional[float] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("project", "spec", "request_id")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    project: str
    spec: JobSpec
    request_id: str
    def __init__(self, project: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("project", "states", "page_size", "page_token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    states: _containers.RepeatedScalarFieldContainer[Job.State]
    page_size: int
    page_token: str
    def __init__(self, project: _Optional[str] = ..., states: _Optional[_Iterable[_Union[Job.State, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("name", "after_revision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    after_revision: int
    def __init__(self, name: _Optional[str] = ..., after_revision: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class WatchJobsRequest(_message.Message):
    __slots__ = ("project", "resume_token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    resume_token: str
    def __init__(self, project: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class WatchJobsResponse(_message.Message):
    __slots__ = ("job", "resume_token")
    JOB_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job: Job
    resume_token: str
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RetryJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobLogsRequest(_message.Message):
    __slots__ = ("name", "after_line", "page_size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_LINE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    after_line: int
    page_size: int
    def __init__(self, name: _Optional[str] = ..., after_line: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class JobLogLine(_message.Message):
    __slots__ = ("line", "time", "attempt", "text")
    LINE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    line: int
    time: _timestamp_pb2.Timestamp
    attempt: int
    text: str
    def __init__(self, line: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempt: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class ListJobLogsResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[JobLogLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[JobLogLine, _Mapping]]] = ...) -> None: ...
