import { expect, test } from "vitest";
import type { GetProgressResponse, Model } from "../src/api/messages";
import { growth } from "../src/growth";
import { lineage } from "../src/lineage";
import { extent, ticks } from "../src/parts/scale";

test("marks of an axis are round numbers that lie within it", () => {
  expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(ticks(0, 0.07, 5)).toEqual([0, 0.02, 0.04, 0.06]);
  expect(ticks(3, 3170, 5)).toEqual([1000, 2000, 3000]);
  expect(ticks(1, 1, 5)).toEqual([]);
});

test("a scale has some length whatever it shows", () => {
  expect(extent([])).toEqual([0, 1]);
  expect(extent([0])).toEqual([0, 1]);
  expect(extent([4, 4])).toEqual([2, 6]);
  expect(extent([3, 1, Number.NaN])).toEqual([1, 3]);
});

test("what was annotated adds up, in area where all annotations are flat", () => {
  const days = [
    { day: "2030-01-01", voxels: "100" },
    { day: "2030-01-03", voxels: "300" },
  ];
  const report = { annotatedVoxels: "400", annotatedAreaUm2: 4, annotatedVolumeUm3: 0, days };
  const flat = growth(report as unknown as GetProgressResponse);
  expect(flat.unit).toBe("µm²");
  expect(flat.points.map((point) => point.y)).toEqual([0, 1, 4]);
  expect(flat.points.map((point) => point.x - (flat.points[0]?.x ?? 0))).toEqual([0, 1, 3]);
  const thick = growth({ ...report, annotatedVolumeUm3: 2 } as unknown as GetProgressResponse);
  expect([thick.unit, thick.points.at(-1)?.y]).toEqual(["voxels", 400]);
});

const model = (version: number, parent: string, shared = false): Model =>
  ({ name: `models/${version}`, version, parent, shared, displayName: `model ${version}` }) as Model;

test("each model stands below the one that it started from", () => {
  const rows = lineage([model(4, "models/1"), model(3, "models/2"), model(2, "models/1"), model(1, "")], []);
  expect(rows.map(({ model: { version }, depth, parent }) => [version, depth, parent])).toEqual([
    [1, 0, "random weights"],
    [2, 1, "v1"],
    [3, 2, "v2"],
    [4, 1, "v1"],
  ]);
});

test("parents from elsewhere are named and begin a tree", () => {
  const rows = lineage([model(1, "models/9"), model(2, "models/8")], [model(9, "", true)]);
  expect(rows.map(({ depth, parent }) => [depth, parent])).toEqual([
    [0, "model 9"],
    [0, "8"],
  ]);
});
