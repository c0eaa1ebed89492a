import type { GetProgressResponse } from "./api/messages";

/** What had been annotated by the end of each day, `x` in days since 1970. Areas where all annotations are one slice
 * thick: the report has voxels by day and the area of all, hence the mean area of a voxel; voxels otherwise. */
export function growth(of: GetProgressResponse): { unit: string; points: { x: number; y: number }[] } {
  const voxels = Number(of.annotatedVoxels);
  const flat = of.annotatedVolumeUm3 === 0 && of.annotatedAreaUm2 > 0 && voxels > 0;
  const scale = flat ? of.annotatedAreaUm2 / voxels : 1;
  let sum = 0;
  const points = of.days.map((day) => {
    sum += Number(day.voxels) * scale;
    return { x: Date.parse(`${day.day}T00:00:00Z`) / 86_400_000, y: sum };
  });
  const first = points[0];
  // It began with nothing; one day alone would be no line.
  if (first) points.unshift({ x: first.x - 1, y: 0 });
  return { unit: flat ? "µm²" : "voxels", points };
}
