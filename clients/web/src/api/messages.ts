// Generated from proto/ by scripts/generate_web_types.py; do not edit.

export interface Agreement {
  sample: string;
  first: string;
  second: string;
  firstAuthor: string;
  secondAuthor: string;
  comparedVoxels: string;
  agreedVoxels: string;
  classes: ClassAgreement[];
}

export interface AgreementCurve {
  className: string;
  verdict: StoppingHintVerdict;
  text: string;
  points: AgreementPoint[];
}

export interface AgreementPoint {
  model: string;
  version: number;
  iou: number;
  error?: number;
  annotations: string;
}

export interface Annotation {
  name: string;
  sequence: string;
  region?: Region;
  kind: AnnotationKind;
  classScope: number[];
  author: string;
  createTime?: string;
  sample: string;
  strategy: string;
  model: string;
  workTimeS: number;
  state: AnnotationState;
  labelsSha256: string;
  reviewComment: string;
  voxelCounts: Record<string, string>;
  comment: string;
}

export type AnnotationKind =
  | "KIND_UNSPECIFIED"
  | "KIND_DENSE"
  | "KIND_SCRIBBLES"
  | "KIND_INSTANCES";

export interface AnnotationRecord {
  sequence: string;
  annotation?: Annotation;
  reverted?: string;
  review?: DatastoreReview;
  author: string;
  createTime?: string;
}

export type AnnotationState =
  | "STATE_UNSPECIFIED"
  | "STATE_PENDING"
  | "STATE_ACCEPTED"
  | "STATE_REJECTED"
  | "STATE_REVERTED";

export interface ArrayChunk {
  header?: ArrayHeader;
  offset: string;
  data: string;
}

export interface ArrayHeader {
  shape?: Index;
  dataType: DataType;
}

export interface Artifact {
  name: string;
  fileName: string;
  sizeBytes: string;
  sha256: string;
  mediaType: string;
  createTime?: string;
}

export interface AuditEvent {
  sequence: string;
  time?: string;
  user: string;
  action: string;
  resource: string;
  outcome: string;
  peer: string;
}

export interface AuthorAgreement {
  firstAuthor: string;
  secondAuthor: string;
  samples: string;
  comparedVoxels: string;
  agreedVoxels: string;
  classes: ClassAgreement[];
}

export interface AuthorProgress {
  author: string;
  annotations: string;
  samples: string;
  voxels: string;
  voxelsByClass: Record<string, string>;
  areaUm2: number;
  volumeUm3: number;
  measuredAnnotations: string;
  workTimeS: number;
  medianWorkTimeS: number;
  reviews?: ReviewCounts;
  lastAnnotationTime?: string;
}

export interface CancelJobRequest {
  name: string;
}

export interface CancelJobResponse {
  job?: Job;
}

export interface ClaimReviewsRequest {
  parent: string;
  count: number;
  volume: string;
  session: string;
  heartbeat: boolean;
}

export interface ClaimReviewsResponse {
  reviews: SamplerReview[];
  notice: string;
  waiting: string;
}

export interface ClaimSamplesRequest {
  parent: string;
  count: number;
  strategy: string;
  volume: string;
  requestId: string;
  session: string;
  heartbeat: boolean;
}

export interface ClaimSamplesResponse {
  samples: Sample[];
  notice: string;
  exhaustion?: Exhaustion;
}

export interface ClassAgreement {
  classValue: number;
  intersectionVoxels: string;
  unionVoxels: string;
  iou: number;
}

export interface ClassIou {
  className: string;
  iou?: number;
  parentIou?: number;
}

export interface ClassOverlap {
  classValue: number;
  intersectionVoxels: string;
  unionVoxels: string;
}

export interface ClassProgress {
  classValue: number;
  annotations: string;
  voxels: string;
  areaUm2: number;
  volumeUm3: number;
}

export interface Click {
  position?: Index;
  positive: boolean;
}

export interface CollectGarbageRequest {
  dryRun: boolean;
}

export interface CollectGarbageResponse {
  objects: string;
  sizeBytes: string;
  prefixes: string[];
}

export interface CommitAnnotationRequest {
  parent: string;
  annotation?: Annotation;
  labels: string;
  encoding: LabelsEncoding;
  leaseToken: string;
  requestId: string;
  baseSequence?: string;
  draft: string;
}

export interface CommitAnnotationResponse {
  annotation?: Annotation;
}

export interface CommitArtifactsRequest {
  parent: string;
  artifacts: Artifact[];
  attempt: number;
}

export interface CommitArtifactsResponse {
  artifacts: Artifact[];
}

export interface CommitInstanceEditRequest {
  parent: string;
  edit?: InstanceEdit;
  labels: string;
  encoding: LabelsEncoding;
  requestId: string;
  baseSequence?: string;
}

export interface CommitInstanceEditResponse {
  edit?: InstanceEdit;
}

export interface CommitLayerRequest {
  name: string;
  attempt: number;
}

export interface CommitLayerResponse {
  layer?: Layer;
}

export interface CompareAnnotationsRequest {
  first: string;
  second: string;
}

export interface CompareAnnotationsResponse {
  comparedVoxels: string;
  agreedVoxels: string;
  classes: ClassOverlap[];
}

export interface CreateArtifactRequest {
  parent: string;
  artifactId: string;
  attempt: number;
}

export interface CreateArtifactResponse {
  name: string;
  uri: string;
}

export interface CreateJobRequest {
  project: string;
  spec?: JobSpec;
  requestId: string;
}

export interface CreateJobResponse {
  job?: Job;
}

export interface CreateLayerRequest {
  parent: string;
  layerId: string;
  layer?: Layer;
  requestId: string;
}

export interface CreateLayerResponse {
  layer?: Layer;
}

export interface CreateProjectRequest {
  projectId: string;
  project?: Project;
  requestId: string;
}

export interface CreateProjectResponse {
  project?: Project;
}

export interface CreateSampleRequest {
  parent: string;
  volume: string;
  region?: Region;
  requestId: string;
  session: string;
  heartbeat: boolean;
}

export interface CreateSampleResponse {
  sample?: Sample;
}

export interface CreateTokenRequest {
  parent: string;
  token?: Token;
}

export interface CreateTokenResponse {
  token?: Token;
  secret: string;
}

export interface CreateUploadRequest {
  parent: string;
  upload?: Upload;
  requestId: string;
}

export interface CreateUploadResponse {
  upload?: Upload;
}

export interface CreateUserRequest {
  userId: string;
  user?: User;
}

export interface CreateUserResponse {
  user?: User;
}

export type DataType =
  | "DATA_TYPE_UNSPECIFIED"
  | "DATA_TYPE_UINT8"
  | "DATA_TYPE_INT8"
  | "DATA_TYPE_UINT16"
  | "DATA_TYPE_INT16"
  | "DATA_TYPE_UINT32"
  | "DATA_TYPE_UINT64"
  | "DATA_TYPE_FLOAT16"
  | "DATA_TYPE_FLOAT32";

export interface DatastoreReview {
  annotation: string;
  accepted: boolean;
  comment: string;
}

export interface DayProgress {
  day: string;
  annotations: string;
  voxels: string;
  authors: string;
  measuredAnnotations: string;
  workTimeS: number;
}

export interface DeleteDraftRequest {
  name: string;
}

export type DeleteDraftResponse = object;

export interface DeleteLayerRequest {
  name: string;
  force: boolean;
}

export type DeleteLayerResponse = object;

export interface DeleteModelRequest {
  name: string;
}

export type DeleteModelResponse = object;

export interface DeleteProjectRequest {
  name: string;
  force: boolean;
}

export type DeleteProjectResponse = object;

export interface DeleteUploadRequest {
  name: string;
}

export type DeleteUploadResponse = object;

export interface DeleteVolumeRequest {
  name: string;
  force: boolean;
}

export type DeleteVolumeResponse = object;

export interface DisplayWindow {
  low: number;
  high: number;
}

export interface Draft {
  name: string;
  annotation?: Annotation;
  baseSequence: string;
  author: string;
  updateTime?: string;
  etag: string;
}

export interface EndLeaseRequest {
  sample: string;
  term: string;
  successor: string;
  successorName: string;
}

export type EndLeaseResponse = object;

export interface Exhaustion {
  held: Record<string, string>;
  skipped: string;
  flagged: string;
  awaitingReview: string;
  annotations: string;
  excluded: string;
  suggestions: ExhaustionSuggestion[];
}

export type ExhaustionSuggestion =
  | "SUGGESTION_UNSPECIFIED"
  | "SUGGESTION_REVIEW"
  | "SUGGESTION_ANSWER_FLAGS"
  | "SUGGESTION_RELEASE_SKIPPED"
  | "SUGGESTION_OTHER_WINDOW"
  | "SUGGESTION_WAIT"
  | "SUGGESTION_CHOOSE_REGION"
  | "SUGGESTION_WIDEN_POOL"
  | "SUGGESTION_ADD_VOLUME"
  | "SUGGESTION_CLAIM_AGAIN";

export interface ExportModelRequest {
  name: string;
  format: ExportModelRequestFormat;
}

export type ExportModelRequestFormat =
  | "FORMAT_UNSPECIFIED"
  | "FORMAT_MONAI_BUNDLE"
  | "FORMAT_ONNX"
  | "FORMAT_BIOIMAGE_IO";

export interface ExportModelResponse {
  data: string;
}

export interface ExportSpec {
  source: string;
  format: ExportSpecFormat;
  region?: Region;
  segmentation: boolean;
  prediction: string;
  asOf?: string;
  withoutEdits: boolean;
}

export type ExportSpecFormat =
  | "FORMAT_UNSPECIFIED"
  | "FORMAT_OME_TIFF"
  | "FORMAT_TIFF"
  | "FORMAT_OME_ZARR"
  | "FORMAT_HDF5"
  | "FORMAT_MRC"
  | "FORMAT_NRRD"
  | "FORMAT_NIFTI"
  | "FORMAT_IMS"
  | "FORMAT_AMIRAMESH"
  | "FORMAT_MIB_MODEL";

export interface Flag {
  text: string;
  user: string;
  createTime?: string;
}

export interface FlagSampleRequest {
  name: string;
  text: string;
}

export interface FlagSampleResponse {
  sample?: Sample;
}

export interface GetAnnotationRequest {
  name: string;
  withLabels: boolean;
}

export interface GetAnnotationResponse {
  annotation?: Annotation;
  labels: string;
}

export interface GetArtifactRequest {
  name: string;
}

export interface GetArtifactResponse {
  artifact?: Artifact;
}

export interface GetDraftRequest {
  name: string;
}

export interface GetDraftResponse {
  draft?: Draft;
  labels: string;
}

export interface GetInstanceAtRequest {
  parent: string;
  position?: Index;
}

export interface GetInstanceAtResponse {
  instance: string;
  storedInstance: string;
  sequence: string;
}

export interface GetInstanceEditRequest {
  name: string;
  withLabels: boolean;
}

export interface GetInstanceEditResponse {
  edit?: InstanceEdit;
  labels: string;
}

export interface GetJobRequest {
  name: string;
}

export interface GetJobResponse {
  job?: Job;
}

export interface GetLayerRequest {
  name: string;
}

export interface GetLayerResponse {
  layer?: Layer;
}

export interface GetMemberRequest {
  name: string;
}

export interface GetMemberResponse {
  member?: Member;
}

export interface GetModelLineageRequest {
  name: string;
}

export interface GetModelLineageResponse {
  models: Model[];
}

export interface GetModelRequest {
  name: string;
}

export interface GetModelResponse {
  model?: Model;
}

export interface GetPoolRequest {
  name: string;
}

export interface GetPoolResponse {
  pool?: Pool;
}

export interface GetProgressRequest {
  parent: string;
  flatRounds: number;
  flatTolerance: number;
}

export interface GetProgressResponse {
  annotations: string;
  newAnnotations: string;
  annotatedVoxels: string;
  annotationsByAuthor: Record<string, string>;
  voxelsByClass: Record<string, string>;
  samplesByState: Record<string, string>;
  workTimeS: number;
  rounds: number;
  measuredAnnotations: string;
  medianWorkTimeS: number;
  annotatedAreaUm2: number;
  annotatedVolumeUm3: number;
  authors: AuthorProgress[];
  classes: ClassProgress[];
  days: DayProgress[];
  reviews?: ReviewCounts;
  models: ModelProgress[];
  hint?: StoppingHint;
  notice: string;
}

export interface GetProjectRequest {
  name: string;
}

export interface GetProjectResponse {
  project?: Project;
}

export interface GetSampleRequest {
  name: string;
}

export interface GetSampleResponse {
  sample?: Sample;
}

export type GetSelfRequest = object;

export interface GetSelfResponse {
  user?: User;
  scopes: string[];
}

export interface GetSliceStatisticsRequest {
  name: string;
}

export interface GetSliceStatisticsResponse {
  statistics?: SliceStatistics;
}

export type GetStatusRequest = object;

export interface GetStatusResponse {
  services: ServiceStatus[];
}

export interface GetUploadRequest {
  name: string;
}

export interface GetUploadResponse {
  upload?: Upload;
}

export interface GetVolumeRequest {
  name: string;
}

export interface GetVolumeResponse {
  volume?: Volume;
}

export interface Image {
  shape?: Index;
  dataType: DataType;
  data: string;
  voxelSize?: VoxelSize;
}

export interface ImportLabelsSpec {
  volume: string;
  uri?: string;
  upload?: string;
  offset?: Index;
  values: Record<string, number>;
  zeroMeaning: ImportLabelsSpecZeroMeaning;
  classScope: number[];
  asAnnotations: boolean;
  otherValues?: number;
  instances: boolean;
  extent?: Region;
  layerId: string;
  displayName: string;
  axes: string;
  channel?: number;
  timePoint?: number;
  dataset: string;
}

export type ImportLabelsSpecZeroMeaning =
  | "ZERO_MEANING_UNSPECIFIED"
  | "ZERO_MEANING_NOT_ANNOTATED"
  | "ZERO_MEANING_BACKGROUND";

export interface ImportModelRequest {
  project: string;
  displayName: string;
  data: string;
  trusted: boolean;
}

export interface ImportModelResponse {
  model?: Model;
}

export interface ImportVolumeSpec {
  volumeId: string;
  displayName: string;
  uri?: string;
  upload?: string;
  voxelSize?: VoxelSize;
  axes: string;
  channel?: number;
  timePoint?: number;
  dataset: string;
  reference: boolean;
}

export interface Index {
  z: string;
  y: string;
  x: string;
}

export interface InstanceDelete {
  instances: string[];
}

export interface InstanceEdit {
  name: string;
  sequence: string;
  merge?: InstanceMerge;
  split?: InstanceSplit;
  delete?: InstanceDelete;
  reassign?: InstanceReassign;
  reclassify?: InstanceReclassify;
  reverts?: string;
  author: string;
  createTime?: string;
  comment: string;
  reverted: boolean;
}

export interface InstanceMerge {
  instances: string[];
  into: string;
}

export interface InstanceReassign {
  region?: Region;
  instance?: string;
  sources: string[];
  newInstance: string;
}

export interface InstanceReclassify {
  instances: string[];
  classValue: number;
}

export interface InstanceSeeds {
  points: Index[];
}

export interface InstanceSplit {
  instance: string;
  region?: Region;
  seeds: InstanceSeeds[];
  newInstances: string[];
}

export interface InstancesSpec {
  layer: string;
  classValue: number;
  method: string;
  minSizeVoxels: string;
  connectivity: number;
  threshold: number;
  seedDistanceNm: number;
  boundaryLayer: string;
  boundaryClassValue: number;
  displayName: string;
  resources?: Resources;
}

export interface Job {
  name: string;
  project: string;
  state: JobState;
  spec?: JobSpec;
  progress?: Progress;
  owner: string;
  attempt: number;
  error?: JobError;
  result?: JobResult;
  createTime?: string;
  startTime?: string;
  endTime?: string;
  revision: string;
  queuePosition: number;
  metrics: Record<string, number>;
  cancelRequested: boolean;
  resources?: Resources;
  startEtaS: number;
}

export interface JobError {
  reason: string;
  message: string;
}

export interface JobLogLine {
  line: string;
  time?: string;
  attempt: number;
  text: string;
}

export interface JobResult {
  volume: string;
  model: string;
  layers: string[];
  artifact: string;
  annotations: string[];
  artifacts: string[];
}

export interface JobSpec {
  importVolume?: ImportVolumeSpec;
  importLabels?: ImportLabelsSpec;
  export?: ExportSpec;
  train?: TrainSpec;
  predict?: PredictSpec;
  score?: ScoreSpec;
  pretrain?: PretrainSpec;
  instances?: InstancesSpec;
  measureObjects?: MeasureObjectsSpec;
}

export type JobState =
  | "STATE_UNSPECIFIED"
  | "STATE_QUEUED"
  | "STATE_RUNNING"
  | "STATE_SUCCEEDED"
  | "STATE_FAILED"
  | "STATE_CANCELLED";

export interface LabelClass {
  value: number;
  displayName: string;
  colorRgb: number;
}

export type LabelsEncoding =
  | "LABELS_ENCODING_UNSPECIFIED"
  | "LABELS_ENCODING_ZLIB";

export interface Layer {
  name: string;
  displayName: string;
  kind: LayerKind;
  state: LayerState;
  dataType: DataType;
  downsampling?: Index;
  shape?: Index;
  classValue: number;
  measure: string;
  model: string;
  job: string;
  attempt: number;
  uri: string;
  region?: Region;
  projectedSequence: string;
  createTime?: string;
  commitTime?: string;
  chunkShape?: Index;
  shardShape?: Index;
  channels: number;
  sourceLayer: string;
  editTime?: string;
}

export type LayerKind =
  | "KIND_UNSPECIFIED"
  | "KIND_ANNOTATIONS"
  | "KIND_PROBABILITIES"
  | "KIND_LABELS"
  | "KIND_INSTANCES"
  | "KIND_SCORE_MAP";

export type LayerState =
  | "STATE_UNSPECIFIED"
  | "STATE_WRITING"
  | "STATE_COMMITTED";

export interface Lease {
  token: string;
  holder: string;
  expireTime?: string;
  holderName: string;
  session: string;
  activityTime?: string;
  heartbeatTime?: string;
  purpose: LeasePurpose;
}

export type LeasePurpose =
  | "PURPOSE_UNSPECIFIED"
  | "PURPOSE_ANNOTATE"
  | "PURPOSE_CORRECT"
  | "PURPOSE_SECOND";

export interface LeaveSessionRequest {
  parent: string;
  session: string;
}

export interface LeaveSessionResponse {
  samples: string[];
  reviews: string[];
}

export interface Level {
  shape?: Index;
  downsampling?: Index;
  path: string;
}

export interface ListAgreementsRequest {
  parent: string;
  sample: string;
  pageSize: number;
  pageToken: string;
}

export interface ListAgreementsResponse {
  agreements: Agreement[];
  nextPageToken: string;
  authors: AuthorAgreement[];
  pending: string;
}

export interface ListAnnotationRecordsRequest {
  parent: string;
  afterSequence: string;
  pageSize: number;
  volume: string;
  region?: Region;
}

export interface ListAnnotationRecordsResponse {
  records: AnnotationRecord[];
}

export interface ListAnnotationsRequest {
  parent: string;
  states: AnnotationState[];
  region?: Region;
  sample: string;
  pageSize: number;
  pageToken: string;
}

export interface ListAnnotationsResponse {
  annotations: Annotation[];
  nextPageToken: string;
}

export interface ListAuditEventsRequest {
  pageSize: number;
  beforeSequence: string;
  user: string;
  resource: string;
  action: string;
  startTime?: string;
  endTime?: string;
  afterSequence: string;
  oldestFirst: boolean;
}

export interface ListAuditEventsResponse {
  events: AuditEvent[];
}

export interface ListDraftsRequest {
  parent: string;
  pageSize: number;
  pageToken: string;
}

export interface ListDraftsResponse {
  drafts: Draft[];
  nextPageToken: string;
}

export interface ListInstanceEditsRequest {
  parent: string;
  instance: string;
  afterSequence: string;
  pageSize: number;
  pageToken: string;
}

export interface ListInstanceEditsResponse {
  edits: InstanceEdit[];
  nextPageToken: string;
}

export interface ListJobLogsRequest {
  name: string;
  afterLine: string;
  pageSize: number;
}

export interface ListJobLogsResponse {
  lines: JobLogLine[];
}

export interface ListJobsRequest {
  project: string;
  states: JobState[];
  pageSize: number;
  pageToken: string;
}

export interface ListJobsResponse {
  jobs: Job[];
  nextPageToken: string;
}

export interface ListLayersRequest {
  parent: string;
  kinds: LayerKind[];
  model: string;
  pageSize: number;
  pageToken: string;
}

export interface ListLayersResponse {
  layers: Layer[];
  nextPageToken: string;
}

export type ListMeasuresRequest = object;

export interface ListMeasuresResponse {
  measures: Measure[];
}

export interface ListMembersRequest {
  parent: string;
}

export interface ListMembersResponse {
  members: Member[];
}

export interface ListModelsRequest {
  project: string;
  pageSize: number;
  pageToken: string;
}

export interface ListModelsResponse {
  models: Model[];
  nextPageToken: string;
}

export interface ListProjectsRequest {
  pageSize: number;
  pageToken: string;
}

export interface ListProjectsResponse {
  projects: Project[];
  nextPageToken: string;
}

export interface ListSamplesRequest {
  parent: string;
  states: SampleState[];
  holder: string;
  pageSize: number;
  pageToken: string;
  user: string;
  flagged: boolean;
}

export interface ListSamplesResponse {
  samples: Sample[];
  nextPageToken: string;
}

export type ListStrategiesRequest = object;

export interface ListStrategiesResponse {
  strategies: Strategy[];
}

export interface ListTokensRequest {
  parent: string;
}

export interface ListTokensResponse {
  tokens: Token[];
}

export interface ListUsersRequest {
  pageSize: number;
  pageToken: string;
}

export interface ListUsersResponse {
  users: User[];
  nextPageToken: string;
}

export interface ListVolumesRequest {
  parent: string;
  pageSize: number;
  pageToken: string;
}

export interface ListVolumesResponse {
  volumes: Volume[];
  nextPageToken: string;
}

export interface LostSample {
  name: string;
  holder: string;
  notice: string;
}

export interface Measure {
  measure: string;
  description: string;
  needsPasses: boolean;
  channels: number;
}

export interface MeasureObjectsSpec {
  layer: string;
  meshes: boolean;
  meshFormats: MeasureObjectsSpecMeshFormat[];
  meshCellNm: number;
  resources?: Resources;
}

export type MeasureObjectsSpecMeshFormat =
  | "MESH_FORMAT_UNSPECIFIED"
  | "MESH_FORMAT_STL"
  | "MESH_FORMAT_PLY"
  | "MESH_FORMAT_GLB"
  | "MESH_FORMAT_PRECOMPUTED";

export interface Member {
  name: string;
  role: Role;
  createTime?: string;
}

export interface Model {
  name: string;
  project: string;
  displayName: string;
  version: number;
  parent: string;
  network: string;
  classValues: number[];
  workingResolutionNm: number;
  annotations: string[];
  annotationCount: number;
  config?: Record<string, unknown>;
  metrics: Record<string, number>;
  job: string;
  author: string;
  createTime?: string;
  uri: string;
  weightsSha256: string;
  dataLicense: string;
  deleted: boolean;
  remarks: string[];
  classNames: string[];
  shared: boolean;
}

export interface ModelProgress {
  model: string;
  version: number;
  displayName: string;
  parent: string;
  createTime?: string;
  deleted: boolean;
  trainedAnnotations: string;
  heldOutAnnotations: string;
  iou?: number;
  parentIou?: number;
  parentKept: boolean;
  classes: ClassIou[];
  newAgreements: NewAgreement[];
  newAnnotations: string;
  newVoxels: string;
  remarks: string[];
}

export interface NewAgreement {
  className: string;
  iou: number;
  error?: number;
  annotations: string;
}

export interface Passes {
  mcDropout: number;
  testTimeAugmentation: number;
  ensemble: string[];
}

export type Plane =
  | "PLANE_UNSPECIFIED"
  | "PLANE_XY"
  | "PLANE_XZ"
  | "PLANE_YZ";

export interface Pool {
  name: string;
  strategies: StrategyShare[];
  volumes: string[];
  excluded: VolumeRegion[];
  sampleShape?: Index;
  sliceDistance: number;
  leaseDurationS: number;
  retrain?: RetrainPolicy;
  seed: string;
  scoredModel: string;
  latestModel: string;
  activeJob: string;
  failure: string;
  etag: string;
  openCandidates: string;
  heartbeatTimeoutS: number;
  secondAnnotatorShare: number;
}

export interface PredictSpec {
  model: string;
  volume: string;
  region?: Region;
  probabilities: boolean;
  measures: string[];
  passes?: Passes;
  orthoPlanes: boolean;
  resources?: Resources;
}

export interface PrepareSegmentationRequest {
  project: string;
}

export type PrepareSegmentationResponse = object;

export interface PretrainSpec {
  volumes: string[];
  seed: string;
  maxSteps: number;
  displayName: string;
  maxSecondsS: number;
  options?: Record<string, unknown>;
  resources?: Resources;
}

export interface Progress {
  fraction: number;
  step: string;
  done: string;
  total: string;
  unit: string;
  etaS: number;
}

export interface Project {
  name: string;
  displayName: string;
  description: string;
  classes: LabelClass[];
  workingResolutionNm: number;
  createTime?: string;
  updateTime?: string;
  etag: string;
}

export interface ReadArtifactRequest {
  name: string;
  offset: string;
}

export interface ReadArtifactResponse {
  offset: string;
  data: string;
  crc32c: number;
}

export interface ReadRegionRequest {
  name: string;
  level: number;
  region?: Region;
  withEdits: boolean;
  asOf?: string;
}

export interface ReadRegionResponse {
  chunk?: ArrayChunk;
}

export interface ReadVoxelsRequest {
  job: string;
  attempt: number;
  volume: string;
  region?: Region;
  asOf?: string;
}

export interface ReadVoxelsResponse {
  chunk?: ArrayChunk;
}

export interface RebuildAnnotationsLayerRequest {
  parent: string;
}

export interface RebuildAnnotationsLayerResponse {
  layer: string;
  projectedSequence: string;
}

export interface Region {
  start?: Index;
  stop?: Index;
}

export interface ReleaseReviewRequest {
  annotation: string;
}

export type ReleaseReviewResponse = object;

export interface ReleaseSampleRequest {
  name: string;
}

export interface ReleaseSampleResponse {
  sample?: Sample;
}

export interface RemoveMemberRequest {
  name: string;
}

export type RemoveMemberResponse = object;

export interface RenewLeaseRequest {
  name: string;
  idle: boolean;
}

export interface RenewLeaseResponse {
  sample?: Sample;
}

export interface RenewSessionRequest {
  parent: string;
  session: string;
  active: boolean;
  samples: string[];
}

export interface RenewSessionResponse {
  samples: Sample[];
  reviews: SamplerReview[];
  lost: LostSample[];
}

export interface ReportProgressRequest {
  job: string;
  attempt: number;
  fraction: number;
  step: string;
  done: string;
  total: string;
  unit: string;
  metrics: Record<string, number>;
  log: string[];
}

export interface ReportProgressResponse {
  cancel: boolean;
}

export interface RequestTrainingRequest {
  parent: string;
  force: boolean;
  requestId: string;
}

export interface RequestTrainingResponse {
  job: string;
}

export interface Resources {
  cpus: number;
  gpus: number;
  memoryBytes: string;
}

export interface RestartLayerRequest {
  name: string;
}

export interface RestartLayerResponse {
  layer?: Layer;
}

export interface ResumeSampleRequest {
  name: string;
  session: string;
  heartbeat: boolean;
}

export interface ResumeSampleResponse {
  sample?: Sample;
}

export interface RetrainPolicy {
  manual: boolean;
  afterAnnotations: number;
  afterIdleS: number;
}

export interface RetryJobRequest {
  name: string;
}

export interface RetryJobResponse {
  job?: Job;
}

export interface RevertAnnotationRequest {
  name: string;
  requestId: string;
}

export interface RevertAnnotationResponse {
  annotation?: Annotation;
}

export interface RevertInstanceEditRequest {
  name: string;
  requestId: string;
}

export interface RevertInstanceEditResponse {
  edit?: InstanceEdit;
}

export interface ReviewAnnotationRequest {
  name: string;
  accepted: boolean;
  comment: string;
  requestId: string;
}

export interface ReviewAnnotationResponse {
  annotation?: Annotation;
}

export interface ReviewCounts {
  pending: string;
  accepted: string;
  rejected: string;
  reverted: string;
}

export interface RevokeTokenRequest {
  name: string;
}

export type RevokeTokenResponse = object;

export type Role =
  | "ROLE_UNSPECIFIED"
  | "ROLE_OWNER"
  | "ROLE_MANAGER"
  | "ROLE_ANNOTATOR"
  | "ROLE_REVIEWER"
  | "ROLE_VIEWER";

export interface Sample {
  name: string;
  volume: string;
  region?: Region;
  state: SampleState;
  strategy: string;
  score: number;
  rank: number;
  model: string;
  scoreLayer: string;
  seed: string;
  lease?: Lease;
  annotation: string;
  skipReason: string;
  notice: string;
  createTime?: string;
  scoreRegion?: Region;
  flag?: Flag;
  events: SampleEvent[];
  earlierAnnotation: string;
  skippedBy: string;
}

export interface SampleEvent {
  time?: string;
  user: string;
  action: SampleEventAction;
  text: string;
}

export type SampleEventAction =
  | "ACTION_UNSPECIFIED"
  | "ACTION_ANNOTATED"
  | "ACTION_ACCEPTED"
  | "ACTION_REJECTED"
  | "ACTION_REVERTED"
  | "ACTION_SKIPPED"
  | "ACTION_RELEASED"
  | "ACTION_FLAGGED"
  | "ACTION_UNFLAGGED"
  | "ACTION_RESUMED"
  | "ACTION_TAKEN_OVER";

export type SampleState =
  | "STATE_UNSPECIFIED"
  | "STATE_LEASED"
  | "STATE_ANNOTATED"
  | "STATE_SKIPPED"
  | "STATE_OPEN";

export interface SamplerReview {
  annotation: string;
  volume: string;
  region?: Region;
  author: string;
  sample: string;
  createTime?: string;
  holder: string;
  expireTime?: string;
}

export interface SaveDraftRequest {
  draft?: Draft;
  labels: string;
  encoding: LabelsEncoding;
}

export interface SaveDraftResponse {
  draft?: Draft;
}

export interface ScoreSpec {
  model: string;
  volumes: string[];
  measures: string[];
  maxPixels: string;
  passes?: Passes;
  resources?: Resources;
}

export interface SegmentByModelRequest {
  project: string;
  image?: Image;
  volumeImage?: VolumeImage;
  model: string;
}

export interface SegmentByModelResponse {
  labels: string;
  model: string;
  classValues: number[];
}

export interface SegmentRequest {
  project: string;
  image?: Image;
  volumeImage?: VolumeImage;
  model: string;
  classValue: number;
  clicks: Click[];
  scribbles: string;
  previousMask: string;
  plane: Plane;
  baseLayer: string;
  baseSequence?: string;
  withProbability: boolean;
  session: string;
  draft: boolean;
  networkFeatures: boolean;
}

export interface SegmentResponse {
  mask: string;
  probability: string;
  changed?: Region;
  level: number;
  voxelSize?: VoxelSize;
  model: string;
}

export interface ServiceStatus {
  service: string;
  health: ServiceStatusHealth;
  version: string;
  address: string;
}

export type ServiceStatusHealth =
  | "HEALTH_UNSPECIFIED"
  | "HEALTH_SERVING"
  | "HEALTH_NOT_SERVING"
  | "HEALTH_UNREACHABLE";

export interface SetMemberRequest {
  member?: Member;
}

export interface SetMemberResponse {
  member?: Member;
}

export interface SetPasswordRequest {
  name: string;
  oldPassword: string;
  newPassword: string;
}

export type SetPasswordResponse = object;

export interface SkipSampleRequest {
  name: string;
  reason: string;
}

export interface SkipSampleResponse {
  sample?: Sample;
}

export interface SliceStatistics {
  mean: number[];
  std: number[];
}

export interface StoppingHint {
  verdict: StoppingHintVerdict;
  text: string;
  curves: AgreementCurve[];
}

export type StoppingHintVerdict =
  | "VERDICT_UNSPECIFIED"
  | "VERDICT_TOO_FEW"
  | "VERDICT_RISING"
  | "VERDICT_FALLING"
  | "VERDICT_FLAT"
  | "VERDICT_BLIND";

export interface Strategy {
  strategy: string;
  description: string;
  measures: string[];
  coldStart: boolean;
}

export interface StrategyShare {
  strategy: string;
  share: number;
}

export interface TakeOverLeaseRequest {
  name: string;
  session: string;
  heartbeat: boolean;
}

export interface TakeOverLeaseResponse {
  sample?: Sample;
}

export interface Token {
  name: string;
  displayName: string;
  createTime?: string;
  expireTime?: string;
  lastUseTime?: string;
  scopes: string[];
}

export interface TrainSpec {
  parent: string;
  fromScratch: boolean;
  annotations: string[];
  displayName: string;
  seed: string;
  maxSteps: number;
  maxSecondsS: number;
  options?: Record<string, unknown>;
  interactive: boolean;
  resources?: Resources;
}

export interface UnflagSampleRequest {
  name: string;
  answer: string;
}

export interface UnflagSampleResponse {
  sample?: Sample;
}

export interface UpdateModelRequest {
  model?: Model;
}

export interface UpdateModelResponse {
  model?: Model;
}

export interface UpdatePoolRequest {
  pool?: Pool;
  updateMask?: string;
}

export interface UpdatePoolResponse {
  pool?: Pool;
}

export interface UpdateProjectRequest {
  project?: Project;
  updateMask?: string;
}

export interface UpdateProjectResponse {
  project?: Project;
}

export interface UpdateUserRequest {
  user?: User;
  updateMask?: string;
}

export interface UpdateUserResponse {
  user?: User;
}

export interface UpdateVolumeRequest {
  volume?: Volume;
  updateMask?: string;
}

export interface UpdateVolumeResponse {
  volume?: Volume;
}

export interface Upload {
  name: string;
  fileName: string;
  sizeBytes: string;
  receivedBytes: string;
  expireTime?: string;
}

export interface User {
  name: string;
  displayName: string;
  isAdmin: boolean;
  createTime?: string;
  disabled: boolean;
}

export interface Volume {
  name: string;
  displayName: string;
  shape?: Index;
  dataType: DataType;
  voxelSize?: VoxelSize;
  levels: Level[];
  uri: string;
  source: string;
  displayWindow?: DisplayWindow;
  createTime?: string;
  updateTime?: string;
  etag: string;
  creator: string;
  reference: boolean;
}

export interface VolumeImage {
  volume: string;
  region?: Region;
  level?: number;
}

export interface VolumeRegion {
  volume: string;
  region?: Region;
}

export interface VoxelSize {
  zNm: number;
  yNm: number;
  xNm: number;
}

export interface WatchJobRequest {
  name: string;
  afterRevision: string;
}

export interface WatchJobResponse {
  job?: Job;
}

export interface WatchJobsRequest {
  project: string;
  resumeToken: string;
}

export interface WatchJobsResponse {
  job?: Job;
  resumeToken: string;
}

export interface WatchSamplesRequest {
  parent: string;
  resumeToken: string;
}

export interface WatchSamplesResponse {
  sample?: Sample;
  resumeToken: string;
}

export interface WriteRegionRequest {
  name: string;
  attempt: number;
  region?: Region;
  chunk?: ArrayChunk;
}

export type WriteRegionResponse = object;

export interface WriteUploadRequest {
  name: string;
  offset: string;
  data: string;
  crc32c: number;
}

export interface WriteUploadResponse {
  upload?: Upload;
}

export interface Methods {
  "AnnotationService/CommitAnnotation": { request: CommitAnnotationRequest; response: CommitAnnotationResponse };
  "AnnotationService/CompareAnnotations": { request: CompareAnnotationsRequest; response: CompareAnnotationsResponse };
  "AnnotationService/DeleteDraft": { request: DeleteDraftRequest; response: DeleteDraftResponse };
  "AnnotationService/EndLease": { request: EndLeaseRequest; response: EndLeaseResponse };
  "AnnotationService/GetAnnotation": { request: GetAnnotationRequest; response: GetAnnotationResponse };
  "AnnotationService/GetDraft": { request: GetDraftRequest; response: GetDraftResponse };
  "AnnotationService/ListAnnotationRecords": { request: ListAnnotationRecordsRequest; response: ListAnnotationRecordsResponse };
  "AnnotationService/ListAnnotations": { request: ListAnnotationsRequest; response: ListAnnotationsResponse };
  "AnnotationService/ListDrafts": { request: ListDraftsRequest; response: ListDraftsResponse };
  "AnnotationService/RebuildAnnotationsLayer": { request: RebuildAnnotationsLayerRequest; response: RebuildAnnotationsLayerResponse };
  "AnnotationService/RevertAnnotation": { request: RevertAnnotationRequest; response: RevertAnnotationResponse };
  "AnnotationService/ReviewAnnotation": { request: ReviewAnnotationRequest; response: ReviewAnnotationResponse };
  "AnnotationService/SaveDraft": { request: SaveDraftRequest; response: SaveDraftResponse };
  "DatastoreService/CollectGarbage": { request: CollectGarbageRequest; response: CollectGarbageResponse };
  "DatastoreService/CommitArtifacts": { request: CommitArtifactsRequest; response: CommitArtifactsResponse };
  "DatastoreService/CommitLayer": { request: CommitLayerRequest; response: CommitLayerResponse };
  "DatastoreService/CreateArtifact": { request: CreateArtifactRequest; response: CreateArtifactResponse };
  "DatastoreService/CreateLayer": { request: CreateLayerRequest; response: CreateLayerResponse };
  "DatastoreService/CreateProject": { request: CreateProjectRequest; response: CreateProjectResponse };
  "DatastoreService/CreateUpload": { request: CreateUploadRequest; response: CreateUploadResponse };
  "DatastoreService/DeleteLayer": { request: DeleteLayerRequest; response: DeleteLayerResponse };
  "DatastoreService/DeleteProject": { request: DeleteProjectRequest; response: DeleteProjectResponse };
  "DatastoreService/DeleteUpload": { request: DeleteUploadRequest; response: DeleteUploadResponse };
  "DatastoreService/DeleteVolume": { request: DeleteVolumeRequest; response: DeleteVolumeResponse };
  "DatastoreService/GetArtifact": { request: GetArtifactRequest; response: GetArtifactResponse };
  "DatastoreService/GetLayer": { request: GetLayerRequest; response: GetLayerResponse };
  "DatastoreService/GetMember": { request: GetMemberRequest; response: GetMemberResponse };
  "DatastoreService/GetProject": { request: GetProjectRequest; response: GetProjectResponse };
  "DatastoreService/GetSliceStatistics": { request: GetSliceStatisticsRequest; response: GetSliceStatisticsResponse };
  "DatastoreService/GetUpload": { request: GetUploadRequest; response: GetUploadResponse };
  "DatastoreService/GetVolume": { request: GetVolumeRequest; response: GetVolumeResponse };
  "DatastoreService/ListLayers": { request: ListLayersRequest; response: ListLayersResponse };
  "DatastoreService/ListMembers": { request: ListMembersRequest; response: ListMembersResponse };
  "DatastoreService/ListProjects": { request: ListProjectsRequest; response: ListProjectsResponse };
  "DatastoreService/ListVolumes": { request: ListVolumesRequest; response: ListVolumesResponse };
  "DatastoreService/RemoveMember": { request: RemoveMemberRequest; response: RemoveMemberResponse };
  "DatastoreService/RestartLayer": { request: RestartLayerRequest; response: RestartLayerResponse };
  "DatastoreService/SetMember": { request: SetMemberRequest; response: SetMemberResponse };
  "DatastoreService/UpdateProject": { request: UpdateProjectRequest; response: UpdateProjectResponse };
  "DatastoreService/UpdateVolume": { request: UpdateVolumeRequest; response: UpdateVolumeResponse };
  "IdentityService/CreateToken": { request: CreateTokenRequest; response: CreateTokenResponse };
  "IdentityService/CreateUser": { request: CreateUserRequest; response: CreateUserResponse };
  "IdentityService/GetSelf": { request: GetSelfRequest; response: GetSelfResponse };
  "IdentityService/ListAuditEvents": { request: ListAuditEventsRequest; response: ListAuditEventsResponse };
  "IdentityService/ListTokens": { request: ListTokensRequest; response: ListTokensResponse };
  "IdentityService/ListUsers": { request: ListUsersRequest; response: ListUsersResponse };
  "IdentityService/RevokeToken": { request: RevokeTokenRequest; response: RevokeTokenResponse };
  "IdentityService/SetPassword": { request: SetPasswordRequest; response: SetPasswordResponse };
  "IdentityService/UpdateUser": { request: UpdateUserRequest; response: UpdateUserResponse };
  "InstanceEditService/CommitInstanceEdit": { request: CommitInstanceEditRequest; response: CommitInstanceEditResponse };
  "InstanceEditService/GetInstanceAt": { request: GetInstanceAtRequest; response: GetInstanceAtResponse };
  "InstanceEditService/GetInstanceEdit": { request: GetInstanceEditRequest; response: GetInstanceEditResponse };
  "InstanceEditService/ListInstanceEdits": { request: ListInstanceEditsRequest; response: ListInstanceEditsResponse };
  "InstanceEditService/RevertInstanceEdit": { request: RevertInstanceEditRequest; response: RevertInstanceEditResponse };
  "JobService/CancelJob": { request: CancelJobRequest; response: CancelJobResponse };
  "JobService/CreateJob": { request: CreateJobRequest; response: CreateJobResponse };
  "JobService/GetJob": { request: GetJobRequest; response: GetJobResponse };
  "JobService/ListJobLogs": { request: ListJobLogsRequest; response: ListJobLogsResponse };
  "JobService/ListJobs": { request: ListJobsRequest; response: ListJobsResponse };
  "JobService/RetryJob": { request: RetryJobRequest; response: RetryJobResponse };
  "PlatformService/GetStatus": { request: GetStatusRequest; response: GetStatusResponse };
  "SamplerService/ClaimReviews": { request: ClaimReviewsRequest; response: ClaimReviewsResponse };
  "SamplerService/ClaimSamples": { request: ClaimSamplesRequest; response: ClaimSamplesResponse };
  "SamplerService/CreateSample": { request: CreateSampleRequest; response: CreateSampleResponse };
  "SamplerService/FlagSample": { request: FlagSampleRequest; response: FlagSampleResponse };
  "SamplerService/GetPool": { request: GetPoolRequest; response: GetPoolResponse };
  "SamplerService/GetProgress": { request: GetProgressRequest; response: GetProgressResponse };
  "SamplerService/GetSample": { request: GetSampleRequest; response: GetSampleResponse };
  "SamplerService/LeaveSession": { request: LeaveSessionRequest; response: LeaveSessionResponse };
  "SamplerService/ListAgreements": { request: ListAgreementsRequest; response: ListAgreementsResponse };
  "SamplerService/ListSamples": { request: ListSamplesRequest; response: ListSamplesResponse };
  "SamplerService/ListStrategies": { request: ListStrategiesRequest; response: ListStrategiesResponse };
  "SamplerService/ReleaseReview": { request: ReleaseReviewRequest; response: ReleaseReviewResponse };
  "SamplerService/ReleaseSample": { request: ReleaseSampleRequest; response: ReleaseSampleResponse };
  "SamplerService/RenewLease": { request: RenewLeaseRequest; response: RenewLeaseResponse };
  "SamplerService/RenewSession": { request: RenewSessionRequest; response: RenewSessionResponse };
  "SamplerService/RequestTraining": { request: RequestTrainingRequest; response: RequestTrainingResponse };
  "SamplerService/ResumeSample": { request: ResumeSampleRequest; response: ResumeSampleResponse };
  "SamplerService/SkipSample": { request: SkipSampleRequest; response: SkipSampleResponse };
  "SamplerService/TakeOverLease": { request: TakeOverLeaseRequest; response: TakeOverLeaseResponse };
  "SamplerService/UnflagSample": { request: UnflagSampleRequest; response: UnflagSampleResponse };
  "SamplerService/UpdatePool": { request: UpdatePoolRequest; response: UpdatePoolResponse };
  "SegmentationService/PrepareSegmentation": { request: PrepareSegmentationRequest; response: PrepareSegmentationResponse };
  "SegmentationService/Segment": { request: SegmentRequest; response: SegmentResponse };
  "SegmentationService/SegmentByModel": { request: SegmentByModelRequest; response: SegmentByModelResponse };
  "TrainerService/DeleteModel": { request: DeleteModelRequest; response: DeleteModelResponse };
  "TrainerService/GetModel": { request: GetModelRequest; response: GetModelResponse };
  "TrainerService/GetModelLineage": { request: GetModelLineageRequest; response: GetModelLineageResponse };
  "TrainerService/ListMeasures": { request: ListMeasuresRequest; response: ListMeasuresResponse };
  "TrainerService/ListModels": { request: ListModelsRequest; response: ListModelsResponse };
  "TrainerService/UpdateModel": { request: UpdateModelRequest; response: UpdateModelResponse };
  "WorkerService/ReportProgress": { request: ReportProgressRequest; response: ReportProgressResponse };
}
