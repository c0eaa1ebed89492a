import { useId } from "preact/hooks";
import { extent, ticks } from "./scale";

export interface Point {
  x: number;
  y: number;
  /** Half the length of the error bar. */
  error?: number | undefined;
  /** What the point is, shown when the pointer rests on it. */
  title: string;
}

export interface Curve {
  name: string;
  points: Point[];
  dashed?: boolean;
  filled?: boolean;
}

interface PlotProps {
  title: string;
  xLabel: string;
  yLabel: string;
  curves: Curve[];
  xText?: (x: number) => string;
  /** Where marks on the x axis may stand: anywhere, or at whole numbers only. */
  whole?: boolean;
  yRange?: [number, number];
}

const WIDTH = 640;
const HEIGHT = 300;
const LEFT = 64;
const RIGHT = 24;
const TOP = 14;
const BOTTOM = 48;

/** Lines over numbers, with axes, as SVG; the same numbers are in a table beside it. */
export function Plot({ title, xLabel, yLabel, curves, xText = String, whole, yRange }: PlotProps) {
  const id = useId();
  const points = curves.flatMap((curve) => curve.points);
  const [xLow, xHigh] = extent(points.map((point) => point.x));
  const [yLow, yHigh] = yRange ?? extent([0, ...points.map((point) => point.y + (point.error ?? 0))]);
  const x = (value: number) => LEFT + ((value - xLow) / (xHigh - xLow)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - ((value - yLow) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const xTicks = ticks(xLow, xHigh, 6).filter((value) => !whole || Number.isInteger(value));
  return (
    <figure class="plot">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-labelledby={id}>
        <title id={id}>{title}</title>
        {ticks(yLow, yHigh, 5).map((value) => (
          <g key={value}>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={y(value)} y2={y(value)} />
            <text class="y-mark" x={LEFT - 8} y={y(value)}>
              {value.toLocaleString()}
            </text>
          </g>
        ))}
        {xTicks.map((value) => (
          <text key={value} class="x-mark" x={x(value)} y={HEIGHT - BOTTOM + 18}>
            {xText(value)}
          </text>
        ))}
        <line class="axis" x1={LEFT} x2={WIDTH - RIGHT} y1={HEIGHT - BOTTOM} y2={HEIGHT - BOTTOM} />
        <text class="x-label" x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 8}>
          {xLabel}
        </text>
        <text class="y-label" transform={`translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`}>
          {yLabel}
        </text>
        {curves.map((curve, index) => (
          <g key={curve.name} class={`curve curve-${index % 6}${curve.dashed ? " dashed" : ""}`}>
            {curve.filled && <path class="area" d={area(curve.points, x, y, yLow)} />}
            <path class="line" d={line(curve.points, x, y)} />
            {curve.points.map((point) => (
              <g key={point.x}>
                {point.error !== undefined && (
                  <line
                    class="error"
                    x1={x(point.x)}
                    x2={x(point.x)}
                    y1={y(point.y - point.error)}
                    y2={y(point.y + point.error)}
                  />
                )}
                <circle cx={x(point.x)} cy={y(point.y)} r={curve.points.length > 60 ? 1.5 : 3.5}>
                  <title>{point.title}</title>
                </circle>
              </g>
            ))}
          </g>
        ))}
      </svg>
      {curves.length > 1 && (
        <figcaption>
          {curves.map((curve, index) => (
            <span key={curve.name} class={`key curve-${index % 6}${curve.dashed ? " dashed" : ""}`}>
              <svg viewBox="0 0 24 8" aria-hidden="true">
                <line class="line" x1="0" x2="24" y1="4" y2="4" />
              </svg>
              {curve.name}
            </span>
          ))}
        </figcaption>
      )}
    </figure>
  );
}

type Scale = (value: number) => number;

function line(points: Point[], x: Scale, y: Scale): string {
  return points
    .map((point, index) => `${index ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`)
    .join("");
}

function area(points: Point[], x: Scale, y: Scale, low: number): string {
  const first = points[0];
  const end = points.at(-1);
  if (!first || !end) return "";
  return `${line(points, x, y)}L${x(end.x).toFixed(1)} ${y(low)}L${x(first.x).toFixed(1)} ${y(low)}Z`;
}
