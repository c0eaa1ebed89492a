import { call } from "../api/call";
import { useSampleEvents } from "../api/events";
import type { AgreementCurve, GetProgressResponse, ModelProgress } from "../api/messages";
import { count, duration, rounded, when, word } from "../format";
import { growth } from "../growth";
import { Show, useLoaded } from "../parts/loaded";
import { type Curve, Plot } from "../parts/plot";
import { Table } from "../parts/table";
import type { Opened } from "./project";

/** How far the annotation is, and whether more of it still helps. */
export function ProgressPage({ project }: Opened) {
  const report = useLoaded(
    (signal) => call("SamplerService/GetProgress", { parent: project.name }, signal),
    [project.name],
  );
  useSampleEvents(project.name, report.reload);
  const nameOf = (value: number) =>
    value === 1
      ? "background"
      : (project.classes.find((label) => label.value === value)?.displayName ?? `class ${value}`);
  return (
    <section>
      <h2>Progress</h2>
      <Show of={report}>
        {(progress) => (
          <>
            {progress.notice && <p class="notice">{progress.notice}</p>}
            <Totals of={progress} />
            <Hint of={progress} />
            <Growth of={progress} />
            <Quality of={progress.models} />
            {progress.hint?.curves.map((curve) => (
              <Agreement key={curve.className} of={curve} />
            ))}
            <h3>Annotators</h3>
            <Table
              caption="Annotators"
              rows={progress.authors}
              id={(row) => row.author}
              nothing="Nobody has annotated yet."
              columns={[
                { title: "User", cell: (row) => row.author },
                { title: "Annotations", number: true, cell: (row) => count(row.annotations) },
                { title: "Area", number: true, cell: (row) => area(row.areaUm2, row.volumeUm3) },
                {
                  title: "Median time",
                  number: true,
                  cell: (row) =>
                    Number(row.measuredAnnotations) ? duration(row.medianWorkTimeS) : "not measured",
                },
                { title: "Accepted", number: true, cell: (row) => count(row.reviews?.accepted ?? 0) },
                { title: "Rejected", number: true, cell: (row) => count(row.reviews?.rejected ?? 0) },
                { title: "Last", cell: (row) => when(row.lastAnnotationTime) },
              ]}
            />
            <h3>Classes</h3>
            <Table
              caption="Classes"
              rows={progress.classes}
              id={(row) => String(row.classValue)}
              nothing="Nothing is labelled yet."
              columns={[
                { title: "Class", cell: (row) => nameOf(row.classValue) },
                { title: "Annotations", number: true, cell: (row) => count(row.annotations) },
                { title: "Voxels", number: true, cell: (row) => count(row.voxels) },
                { title: "Area", number: true, cell: (row) => area(row.areaUm2, row.volumeUm3) },
              ]}
            />
          </>
        )}
      </Show>
    </section>
  );
}

const area = (um2: number, um3: number): string =>
  [um2 ? `${rounded(um2)} µm²` : "", um3 ? `${rounded(um3)} µm³` : ""].filter(Boolean).join(" + ") || "0 µm²";

function Totals({ of }: { of: GetProgressResponse }) {
  const rows = [
    ["Annotations", `${count(of.annotations)}, ${count(of.newAnnotations)} of them new to the models`],
    ["Annotated", area(of.annotatedAreaUm2, of.annotatedVolumeUm3)],
    ["Trainings", count(of.rounds)],
    [
      "Time",
      Number(of.measuredAnnotations)
        ? `${duration(of.workTimeS)}, median ${duration(of.medianWorkTimeS)}`
        : "",
    ],
    ["Reviews", `${count(of.reviews?.accepted ?? 0)} accepted, ${count(of.reviews?.rejected ?? 0)} rejected`],
    [
      "Samples",
      Object.entries(of.samplesByState)
        .map(([state, number]) => `${count(number)} ${state}`)
        .join(", "),
    ],
  ] as const;
  return (
    <dl class="facts">
      {rows
        .filter(([, value]) => value)
        .map(([key, value]) => (
          <div key={key}>
            <dt>{key}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Hint({ of }: { of: GetProgressResponse }) {
  if (!of.hint) return null;
  return (
    <div class="notice">
      <strong>Do more annotations still help? {word(of.hint.verdict, "VERDICT_")}</strong>
      <p>{of.hint.text}</p>
    </div>
  );
}

const DAY_MS = 86_400_000;

function Growth({ of }: { of: GetProgressResponse }) {
  const { unit, points } = growth(of);
  if (!points.length) return null;
  const day = (number: number) => new Date(number * DAY_MS).toISOString().slice(0, 10);
  return (
    <>
      <h3>What was annotated</h3>
      <Plot
        title={`Annotated so far, in ${unit}, by day`}
        xLabel="day (UTC)"
        yLabel={`annotated, ${unit}`}
        whole
        xText={(number) => day(number).slice(5)}
        curves={[
          {
            name: "annotated",
            filled: true,
            points: points.map(({ x, y }) => ({ x, y, title: `${day(x)}: ${rounded(y)} ${unit}` })),
          },
        ]}
      />
      <details>
        <summary>As a table</summary>
        <Table
          caption="Annotations by day"
          rows={of.days}
          id={(row) => row.day}
          nothing=""
          columns={[
            { title: "Day", cell: (row) => row.day },
            { title: "Annotations", number: true, cell: (row) => count(row.annotations) },
            { title: "Voxels", number: true, cell: (row) => count(row.voxels) },
            { title: "People", number: true, cell: (row) => count(row.authors) },
          ]}
        />
      </details>
    </>
  );
}

function Quality({ of: models }: { of: ModelProgress[] }) {
  const rated = models.filter((model) => model.iou !== undefined);
  const point = (model: ModelProgress, y: number, what: string) => ({
    x: model.version,
    y,
    title: `v${model.version}${what}: ${y.toFixed(3)} on ${count(model.heldOutAnnotations)} annotations held out`,
  });
  const curves: Curve[] = [
    { name: "model", points: rated.map((model) => point(model, model.iou ?? 0, "")) },
    {
      name: "its parent, on the same annotations",
      dashed: true,
      points: rated
        .filter((model) => model.parentIou !== undefined)
        .map((model) => point(model, model.parentIou ?? 0, "'s parent")),
    },
  ];
  if (!models.length) return null;
  return (
    <>
      <h3>How good the models are</h3>
      {rated.length > 0 && (
        <Plot
          title="IoU of each model version and of its parent on annotations that were held out"
          xLabel="model version"
          yLabel="IoU, held out"
          whole
          yRange={[0, 1]}
          curves={curves.filter((curve) => curve.points.length)}
        />
      )}
      <p class="hint">
        What is held out grows from model to model: compare a model with its parent, not with others.
      </p>
      <Table
        caption="Models"
        rows={[...models].reverse()}
        id={(row) => row.model}
        nothing=""
        columns={[
          { title: "Model", cell: (row) => `v${row.version} ${row.displayName}` },
          { title: "Trained on", number: true, cell: (row) => count(row.trainedAnnotations) },
          { title: "Held out", number: true, cell: (row) => count(row.heldOutAnnotations) },
          { title: "IoU", number: true, cell: (row) => iou(row.iou) },
          {
            title: "Parent's IoU",
            number: true,
            cell: (row) => `${iou(row.parentIou)}${row.parentKept ? " (kept)" : ""}`,
          },
          {
            title: "By class",
            cell: (row) => row.classes.map((each) => `${each.className} ${iou(each.iou)}`).join(", "),
          },
        ]}
      />
    </>
  );
}

const iou = (value: number | undefined): string => (value === undefined ? "–" : value.toFixed(3));

function Agreement({ of: curve }: { of: AgreementCurve }) {
  return (
    <>
      <h3>
        {curve.className}: how models agree with annotations that were new to them (
        {word(curve.verdict, "VERDICT_")})
      </h3>
      <p>{curve.text}</p>
      {curve.points.length > 0 && (
        <Plot
          title={`Agreement of models with new annotations of ${curve.className}, round by round`}
          xLabel="model version that was trained on them afterwards"
          yLabel="IoU, new annotations"
          whole
          yRange={[0, 1]}
          curves={[
            {
              name: curve.className,
              points: curve.points.map((each) => ({
                x: each.version,
                y: each.iou,
                error: each.error,
                title: `v${each.version}: ${each.iou.toFixed(3)} on ${count(each.annotations)} annotations`,
              })),
            },
          ]}
        />
      )}
    </>
  );
}
