import { expect, test } from "vitest";
import type { Job } from "../src/api/messages";
import { bytes, color, duration, jobProgress, jobSubject, rounded } from "../src/format";

test("durations are said in the unit that people use", () => {
  expect([0, -1, Number.NaN].map(duration)).toEqual(["", "", ""]);
  expect([0.2, 59.4, 59.6, 3569, 3571, 9000].map(duration)).toEqual([
    "1 s",
    "59 s",
    "1 min",
    "59 min",
    "1.0 h",
    "2.5 h",
  ]);
});

test("sizes of files are said with four digits at most", () => {
  expect([0, 1023, 1024, 1536, 2 ** 40].map(bytes)).toEqual(["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 TiB"]);
  expect(bytes(123_456_789)).toBe("117.7 MiB");
  expect(rounded(0.000123456)).toBe("0.0001235");
});

test("a colour has six digits", () => {
  expect(color(0xff)).toBe("#0000ff");
});

const job = (fields: Partial<Job>): Job =>
  ({ state: "STATE_RUNNING", queuePosition: 0, startEtaS: 0, ...fields }) as Job;

test("a queued job says its place and when it begins", () => {
  expect(jobProgress(job({ state: "STATE_QUEUED", queuePosition: 2, startEtaS: 125 }))).toBe(
    "2 before it, begins in about 2 min",
  );
  expect(jobProgress(job({ state: "STATE_QUEUED" }))).toBe("next in the queue");
});

test("a running job says its step, count and time left, and a failed one why", () => {
  const progress = { fraction: 0.5, step: "training", done: "1200", total: "2400", unit: "steps", etaS: 90 };
  expect(jobProgress(job({ progress }))).toBe("training · 1,200 of 2,400 steps · 2 min left");
  const error = { reason: "NO_ROOM", message: "the disk is full" };
  expect(jobProgress(job({ state: "STATE_FAILED", progress, error }))).toBe("the disk is full");
});

test("the subject of a job is the volume or layer that its request names", () => {
  const source = "projects/p/volumes/v/layers/l";
  expect(jobSubject(job({ spec: { export: { source } } as never }))).toBe("v/l");
  expect(
    jobSubject(
      job({ spec: { importVolume: { displayName: "", volumeId: "", uri: "/data/a.tif" } } as never }),
    ),
  ).toBe("a.tif");
  expect(jobSubject(job({ spec: { train: {} } as never }))).toBe("");
});
