import { expect, test } from "vitest";
import { levelFor, size, type TileInfo, tiles, wholeSlice, zoomed } from "../src/viewer/geometry";

const INFO: TileInfo = {
  tileSize: 256,
  formats: ["jpg", "png"],
  levels: [
    { shape: { z: 10, y: 600, x: 1000 }, voxelSizeNm: { z: 40, y: 8, x: 8 } },
    { shape: { z: 10, y: 300, x: 500 }, voxelSizeNm: { z: 40, y: 16, x: 16 } },
  ],
};
const FINE = INFO.levels[0] as TileInfo["levels"][number];
const BOX = { width: 500, height: 500 };

test("a whole slice fits into the view, in nm and not in voxels", () => {
  expect(wholeSlice(FINE, "xy", 3, BOX)).toMatchObject({
    index: 3,
    spacing: 40,
    row: 2400,
    column: 4000,
    scale: 16,
  });
  expect(size(FINE, "xz")).toEqual([400, 8000]);
  expect(size(FINE, "yz")).toEqual([400, 4800]);
});

test("the level is the coarsest that shows every pixel of the screen", () => {
  const whole = wholeSlice(FINE, "xy", 0, BOX);
  expect(levelFor(INFO, whole, 1)).toBe(1);
  expect(levelFor(INFO, whole, 2)).toBe(0);
  expect(levelFor(INFO, { ...whole, scale: 4 }, 1)).toBe(0);
});

test("tiles cover the slice without gaps and the last ones are shorter", () => {
  const found = tiles(INFO, 1, wholeSlice(FINE, "xy", 3, BOX), BOX);
  expect(found.map(({ row, column }) => [row, column])).toEqual([
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]);
  expect(found[0]).toMatchObject({ level: 1, index: 3, left: 0, top: 100, width: 256, height: 256 });
  expect(found[3]).toMatchObject({ left: 256, top: 356, width: 244, height: 44 });
});

test("only what is in view is asked for", () => {
  const near = { ...wholeSlice(FINE, "xy", 0, BOX), scale: 1, row: 10, column: 10 };
  expect(tiles(INFO, 0, near, BOX).map(({ row, column }) => [row, column])).toEqual([[0, 0]]);
  expect(tiles(INFO, 0, { ...near, row: -9000 }, BOX)).toEqual([]);
});

test("a layer with thicker slices shows the one in which the slice of the volume lies", () => {
  const coarse: TileInfo = {
    ...INFO,
    levels: [{ shape: { z: 5, y: 600, x: 1000 }, voxelSizeNm: { z: 80, y: 8, x: 8 } }],
  };
  const at = (index: number) => tiles(coarse, 0, wholeSlice(FINE, "xy", index, BOX), BOX)[0]?.index;
  expect([0, 1, 2, 3, 9].map(at)).toEqual([0, 0, 1, 1, 4]);
});

test("zooming leaves what is under the pointer where it is", () => {
  const whole = wholeSlice(FINE, "xy", 0, BOX);
  const close = zoomed(whole, 0.5, 100, 400, BOX, whole);
  const under = (view: typeof whole) => [
    view.column + (100 - 250) * view.scale,
    view.row + (400 - 250) * view.scale,
  ];
  expect(close.scale).toBe(8);
  expect(under(close)).toEqual(under(whole));
});
