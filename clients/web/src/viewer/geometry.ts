/** A plane through a volume, named by its in-plane axes: `xy` lies across z. */
export type Plane = "xy" | "xz" | "yz";

export type Axis = "z" | "y" | "x";

export interface Triple {
  z: number;
  y: number;
  x: number;
}

/** One level of an image's pyramid. */
export interface Level {
  shape: Triple;
  voxelSizeNm: Triple;
}

/** What /tiles/{name}/info.json tells. */
export interface TileInfo {
  levels: Level[];
  tileSize: number;
  formats: ("png" | "jpg")[];
}

/** Axes of a plane: normal, down, right. The first letter of its name goes to the right, the second one down. */
export const AXES: Record<Plane, [normal: Axis, row: Axis, column: Axis]> = {
  xy: ["z", "y", "x"],
  xz: ["y", "z", "x"],
  yz: ["x", "z", "y"],
};

/** What is looked at: the middle of the view and the scale in nm, and the slice of level 0. */
export interface View {
  plane: Plane;
  index: number;
  /** nm from slice to slice. */
  spacing: number;
  /** nm from the image's first edge, down and to the right. */
  row: number;
  column: number;
  /** nm per CSS pixel. */
  scale: number;
}

export interface Box {
  width: number;
  height: number;
}

export interface Tile {
  level: number;
  index: number;
  row: number;
  column: number;
  /** Where it lies in the view, in CSS pixels. */
  left: number;
  top: number;
  width: number;
  height: number;
}

/** Edge lengths of the whole image in nm, down and to the right. */
export function size(level: Level, plane: Plane): [number, number] {
  const [, row, column] = AXES[plane];
  return [level.shape[row] * level.voxelSizeNm[row], level.shape[column] * level.voxelSizeNm[column]];
}

export function slices(level: Level, plane: Plane): number {
  return level.shape[AXES[plane][0]];
}

/** The view that shows a whole slice. */
export function wholeSlice(level: Level, plane: Plane, index: number, box: Box): View {
  const [height, width] = size(level, plane);
  const scale = Math.max(height / Math.max(1, box.height), width / Math.max(1, box.width));
  const spacing = level.voxelSizeNm[AXES[plane][0]];
  return { plane, index, spacing, row: height / 2, column: width / 2, scale };
}

/** The coarsest level whose pixels are not larger than those of the screen; the finest when all are. */
export function levelFor(info: TileInfo, view: View, pixelRatio: number): number {
  const [, row, column] = AXES[view.plane];
  const wanted = view.scale / pixelRatio;
  let found = 0;
  for (const [number, level] of info.levels.entries()) {
    // A small excess is not seen, and spares three quarters of the tiles.
    if (Math.min(level.voxelSizeNm[row], level.voxelSizeNm[column]) <= wanted * 1.25) found = number;
  }
  return found;
}

/** Tiles of one level that a view shows. */
export function tiles(info: TileInfo, number: number, view: View, box: Box): Tile[] {
  const level = info.levels[number];
  if (!level) return [];
  const [normal, rowAxis, columnAxis] = AXES[view.plane];
  // Layers and coarse levels have slices of their own thickness.
  const depth = (view.index + 0.5) * view.spacing;
  const index = Math.min(level.shape[normal] - 1, Math.floor(depth / level.voxelSizeNm[normal]));
  const rows = along(
    level.shape[rowAxis],
    level.voxelSizeNm[rowAxis],
    view.row,
    view.scale,
    box.height,
    info.tileSize,
  );
  const columns = along(
    level.shape[columnAxis],
    level.voxelSizeNm[columnAxis],
    view.column,
    view.scale,
    box.width,
    info.tileSize,
  );
  return rows.flatMap((row) =>
    columns.map((column) => ({
      level: number,
      index,
      row: row.number,
      column: column.number,
      top: row.start,
      height: row.length,
      left: column.start,
      width: column.length,
    })),
  );
}

/** Tiles along one axis: number, start and length in CSS pixels. The last tile may be shorter than the others. */
function along(voxels: number, voxel: number, middle: number, scale: number, length: number, tile: number) {
  const first = Math.max(0, Math.floor((middle - (length / 2) * scale) / voxel / tile));
  const end = Math.min(Math.ceil(voxels / tile), Math.ceil((middle + (length / 2) * scale) / voxel / tile));
  const found = [];
  for (let number = first; number < end; number++) {
    const count = Math.min(tile, voxels - number * tile);
    const start = (number * tile * voxel - middle) / scale + length / 2;
    found.push({ number, start, length: (count * voxel) / scale });
  }
  return found;
}

/** Zoom by a factor (above 1 shows more) so that what lies at a place of the view stays there. */
export function zoomed(view: View, factor: number, left: number, top: number, box: Box, whole: View): View {
  const scale = Math.min(whole.scale * 4, Math.max(whole.scale / 2000, view.scale * factor));
  const change = view.scale - scale;
  return {
    ...view,
    scale,
    row: view.row + (top - box.height / 2) * change,
    column: view.column + (left - box.width / 2) * change,
  };
}
