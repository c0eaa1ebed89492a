import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { connection } from "../api/call";
import { useKeys } from "../parts/keys";
import { useStore } from "../store";
import {
  type Box,
  levelFor,
  type Plane,
  slices,
  type TileInfo,
  tiles,
  type View,
  wholeSlice,
  zoomed,
} from "./geometry";
import { gestures } from "./gesture";
import { TileCache, tileUrl } from "./tile-cache";

/** An image to draw; the first is the volume, others lie over it. */
export interface Shown {
  name: string;
  info: TileInfo;
  /** Changes when its voxels do. */
  version: string;
  kind: "png" | "jpg";
}

interface SliceViewProps {
  images: Shown[];
  opacity: number;
  overlay: boolean;
  /** More images are on their way. */
  waiting: boolean;
  toggle: () => void;
}

const PLANES: readonly (readonly [Plane, key: string, title: string])[] = [
  ["xy", "z", "xy, across z"],
  ["xz", "y", "xz, across y"],
  ["yz", "x", "yz, across x"],
];

/** One slice of a volume, by tiles: keys, wheel, fingers and buttons move through it. */
export function SliceView({ images, opacity, overlay, waiting, toggle }: SliceViewProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [box, setBox] = useState<Box>({ width: 0, height: 0 });
  const [drawn, setDrawn] = useState(0);
  const cache = useMemo(() => new TileCache(() => setDrawn((before) => before + 1)), []);
  const finest = images[0]?.info.levels[0];
  const [view, setView] = useState<View | undefined>(undefined);
  const back = useStore(connection).times;

  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() =>
      setBox({ width: element.clientWidth, height: element.clientHeight }),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!view && finest && box.width)
      setView(wholeSlice(finest, "xy", Math.floor(slices(finest, "xy") / 2), box));
  }, [view, finest, box]);
  useEffect(() => {
    if (cache.retry()) setDrawn((before) => before + 1);
  }, [back, cache]);
  useLayoutEffect(() => {
    const shown = overlay ? images : images.slice(0, 1);
    if (canvas.current && view) draw(canvas.current, { box, view, images: shown, opacity, waiting, cache });
  }, [view, box, images, opacity, overlay, waiting, drawn, cache]);

  const change = useCallback((how: (view: View) => View) => setView((before) => before && how(before)), []);
  const move = useCallback(
    (by: number) =>
      change((before) => {
        const count = finest ? slices(finest, before.plane) : 1;
        return { ...before, index: Math.min(count - 1, Math.max(0, before.index + by)) };
      }),
    [change, finest],
  );
  const zoom = useCallback(
    (factor: number, left = box.width / 2, top = box.height / 2) =>
      change((before) =>
        finest
          ? zoomed(before, factor, left, top, box, wholeSlice(finest, before.plane, before.index, box))
          : before,
      ),
    [change, finest, box],
  );
  const across = (plane: Plane) =>
    finest && view && setView(wholeSlice(finest, plane, Math.floor(slices(finest, plane) / 2), box));
  useEffect(() => {
    if (!canvas.current) return undefined;
    return gestures(canvas.current, {
      slices: move,
      zoom,
      drag: (right, down) =>
        change((before) => ({
          ...before,
          row: before.row - down * before.scale,
          column: before.column - right * before.scale,
        })),
    });
  }, [move, zoom, change]);
  const whole = () =>
    change((before) => (finest ? wholeSlice(finest, before.plane, before.index, box) : before));
  useKeys({
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    ...Object.fromEntries(PLANES.map(([plane, key]) => [key, () => across(plane)])),
    Home: () => move(-Number.MAX_SAFE_INTEGER),
    End: () => move(Number.MAX_SAFE_INTEGER),
    "+": () => zoom(1 / 1.5),
    "=": () => zoom(1 / 1.5),
    "-": () => zoom(1.5),
    "0": whole,
    l: toggle,
  });
  useShiftedArrows(move);

  const count = finest && view ? slices(finest, view.plane) : 1;
  const normal = PLANES.find(([plane]) => plane === view?.plane)?.[1] ?? "z";
  return (
    <div class="slice-view">
      <div class="controls">
        <fieldset>
          <legend class="unseen">Plane</legend>
          {PLANES.map(([plane, key, title]) => (
            <button
              key={plane}
              type="button"
              class="small"
              title={`${title} (${key})`}
              aria-pressed={plane === view?.plane}
              onClick={() => across(plane)}
            >
              {plane}
            </button>
          ))}
        </fieldset>
        <div class="slider">
          {normal}
          <input
            type="range"
            aria-label={`Slice along ${normal}`}
            min="0"
            max={count - 1}
            value={view?.index ?? 0}
            onInput={(event) => {
              const index = Number(event.currentTarget.value);
              change((before) => ({ ...before, index }));
            }}
          />
          <output>
            {view?.index ?? 0} / {count - 1}
          </output>
        </div>
        <fieldset>
          <legend class="unseen">Zoom</legend>
          <button
            type="button"
            class="small"
            aria-label="Zoom out"
            title="Zoom out (−)"
            onClick={() => zoom(1.5)}
          >
            −
          </button>
          <button type="button" class="small" title="Whole slice (0)" onClick={whole}>
            fit
          </button>
          <button
            type="button"
            class="small"
            aria-label="Zoom in"
            title="Zoom in (+)"
            onClick={() => zoom(1 / 1.5)}
          >
            +
          </button>
        </fieldset>
      </div>
      <canvas
        ref={canvas}
        role="img"
        aria-label={view ? `Slice ${normal} ${view.index} of ${count}` : "Slice"}
      />
      {cache.broken && (
        <p class="failure" role="alert">
          Some pictures could not be loaded.{" "}
          <button type="button" class="small" onClick={() => cache.retry() && setDrawn(drawn + 1)}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}

/** With Shift ten slices at a time; `useKeys` knows a key by its name alone. */
function useShiftedArrows(move: (by: number) => void): void {
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (!event.shiftKey || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
      if (event.target instanceof Element && event.target.closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      move(event.key === "ArrowRight" ? 10 : -10);
    };
    addEventListener("keydown", listen, true);
    return () => removeEventListener("keydown", listen, true);
  }, [move]);
}

interface Drawing {
  box: Box;
  view: View;
  images: Shown[];
  opacity: number;
  waiting: boolean;
  cache: TileCache;
}

function draw(canvas: HTMLCanvasElement, { box, view, images, opacity, waiting, cache }: Drawing): void {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(ratio, ratio);
  cache.forget();
  for (const [number, image] of images.entries()) {
    const wanted = levelFor(image.info, view, ratio);
    context.globalAlpha = number ? opacity : 1;
    // Labels have no values between those of two voxels.
    context.imageSmoothingEnabled = number === 0 && view.scale > smallest(image.info) / 4;
    // A coarse level, while the wanted one is on its way; under an overlay it would be seen twice.
    const coarsest = image.info.levels.length - 1;
    const ready = tiles(image.info, wanted, view, box).every((tile) => cache.get(urlOf(image, view, tile)));
    if (number === 0 && !ready && coarsest > wanted) paint(context, image, coarsest, view, box, cache);
    paint(context, image, wanted, view, box, cache);
  }
  cache.fetch();
  canvas.ariaBusy = String(!cache.idle || waiting);
}

const smallest = (info: TileInfo): number => Math.min(...Object.values(info.levels[0]?.voxelSizeNm ?? {}));

const urlOf = (image: Shown, view: View, tile: ReturnType<typeof tiles>[number]): string =>
  tileUrl(image.name, view.plane, tile, image.kind, image.version);

function paint(
  context: CanvasRenderingContext2D,
  image: Shown,
  level: number,
  view: View,
  box: Box,
  cache: TileCache,
): void {
  for (const tile of tiles(image.info, level, view, box)) {
    const picture = cache.get(urlOf(image, view, tile));
    if (!picture) continue;
    // To whole pixels, so that no seams show between tiles.
    const left = Math.round(tile.left);
    const top = Math.round(tile.top);
    const width = Math.round(tile.left + tile.width) - left;
    const height = Math.round(tile.top + tile.height) - top;
    context.drawImage(picture, left, top, width, height);
  }
}
