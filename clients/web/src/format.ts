import type { Index, Job, VoxelSize } from "./api/messages";

/** The last part of a resource name, its id. */
export const last = (name: string | undefined): string => (name ?? "").split("/").pop() ?? "";

/** A protobuf name as words: STATE_RUNNING of prefix STATE_ is `running`. */
export const word = (value: string | undefined, prefix: string): string =>
  (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");

export const shape = (value: Index | undefined): string =>
  value ? `${value.z} × ${value.y} × ${value.x}` : "";

export const rounded = (value: number): string => Number(value.toPrecision(4)).toString();

export const voxel = (size: VoxelSize | undefined): string =>
  size ? `${[size.zNm, size.yNm, size.xNm].map(rounded).join(" × ")} nm` : "";

export const when = (time: string | undefined): string =>
  time ? new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";

/** Seconds as people say them; '' when not known. */
export function duration(seconds: number): string {
  if (!(seconds > 0)) return "";
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3570) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${rounded(count / 1024 ** step)} ${units[step]}`;
}

export const count = (value: string | number): string => Number(value).toLocaleString();

export const color = (rgb: number): string => `#${rgb.toString(16).padStart(6, "0")}`;

const KINDS: Record<string, string> = {
  importVolume: "import",
  importLabels: "import of labels",
  export: "export",
  train: "training",
  predict: "prediction",
  score: "scoring",
  pretrain: "pretraining",
  instances: "objects",
  measureObjects: "table of objects",
};

/** What a job is, for people. */
export const jobKind = (job: Job): string => KINDS[Object.keys(job.spec ?? {})[0] ?? ""] ?? "job";

export const jobState = (job: Job): string =>
  job.cancelRequested && !ended(job) ? "stopping" : word(job.state, "STATE_");

export const ended = (job: Job): boolean =>
  ["STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED"].includes(job.state);

/** What a job works on: the volume, model or file that its request names; '' when it names none. */
export function jobSubject(job: Job): string {
  const spec = job.spec;
  if (!spec) return "";
  if (spec.importVolume)
    return spec.importVolume.displayName || spec.importVolume.volumeId || last(spec.importVolume.uri);
  const name =
    spec.importLabels?.volume ??
    spec.export?.source ??
    spec.predict?.volume ??
    spec.instances?.layer ??
    spec.measureObjects?.layer ??
    "";
  return name
    .split("/")
    .slice(3)
    .filter((part) => part !== "layers")
    .join("/");
}

/** How far a job is, in words. */
export function jobProgress(job: Job): string {
  if (job.error) return job.error.message;
  if (job.state === "STATE_QUEUED") {
    const start = duration(job.startEtaS);
    const place = job.queuePosition ? `${job.queuePosition} before it` : "next in the queue";
    return start ? `${place}, begins in about ${start}` : place;
  }
  if (ended(job) || !job.progress) return "";
  const { step, done, total, unit, etaS } = job.progress;
  const counted = Number(total) ? `${count(done)} of ${count(total)} ${unit}` : "";
  const left = duration(etaS);
  return [step, counted, left && `${left} left`].filter(Boolean).join(" · ");
}
