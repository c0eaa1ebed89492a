import { useState } from "preact/hooks";
import { call } from "../api/call";
import { MODEL_FORMATS, modelAddress } from "../api/download";
import { useJobEvents } from "../api/events";
import type { Model } from "../api/messages";
import { ended, last, rounded, when } from "../format";
import { type Leaf, lineage } from "../lineage";
import { useAction } from "../parts/action";
import { Confirm, Dialog, Form } from "../parts/dialog";
import { Field, text } from "../parts/field";
import { More, Show, useLoaded, usePaged } from "../parts/loaded";
import { Table } from "../parts/table";
import type { Opened } from "./project";

export function ModelsPage({ project, rights }: Opened) {
  const models = usePaged<Model>(
    async (pageToken, signal) => {
      const page = await call(
        "TrainerService/ListModels",
        { project: project.name, pageToken, pageSize: 200 },
        signal,
      );
      return [page.models, page.nextPageToken];
    },
    [project.name],
  );
  const shipped = useLoaded(
    async (signal) => (await call("TrainerService/ListModels", { pageSize: 200 }, signal)).models,
    [],
  );
  useJobEvents(project.name, (job) => {
    if (ended(job) && (job.spec?.train || job.spec?.pretrain)) models.reload();
  });
  return (
    <section>
      <h2>Models</h2>
      <p class="hint">Each model stands below the one that it started from.</p>
      <Show of={models}>
        {(rows) => (
          <ModelTable
            caption="Models of the project"
            rows={lineage(rows, shipped.value ?? [])}
            manage={rights.manage}
            changed={models.reload}
            nothing="No models yet: the first training makes one."
          />
        )}
      </Show>
      <More of={models} />
      {shipped.value && shipped.value.length > 0 && (
        <>
          <h3>Shipped with the platform</h3>
          <ModelTable
            caption="Shipped models"
            rows={lineage(shipped.value, [])}
            manage={false}
            changed={shipped.reload}
            nothing=""
          />
        </>
      )}
    </section>
  );
}

interface ModelTableProps {
  caption: string;
  rows: Leaf[];
  manage: boolean;
  changed: () => void;
  nothing: string;
}

function ModelTable({ caption, rows, manage, changed, nothing }: ModelTableProps) {
  const [opened, setOpened] = useState<[Model, "download" | "rename" | "delete"] | undefined>(undefined);
  const close = () => setOpened(undefined);
  const [model, what] = opened ?? [];
  return (
    <>
      <Table
        caption={caption}
        rows={rows}
        id={({ model }) => model.name}
        nothing={nothing}
        columns={[
          { title: "Model", cell: (row) => <Named leaf={row} /> },
          { title: "From", cell: ({ parent }) => parent },
          { title: "Annotations", number: true, cell: ({ model }) => model.annotationCount || "" },
          { title: "Metrics", cell: ({ model }) => <Metrics of={model} /> },
          {
            title: "Made",
            cell: ({ model }) => [when(model.createTime), model.author].filter(Boolean).join(", "),
          },
          {
            title: "Do",
            cell: ({ model }) =>
              !model.deleted && (
                <div class="buttons">
                  <Do model={model} verb="Download" act={() => setOpened([model, "download"])} />
                  {manage && <Do model={model} verb="Rename" act={() => setOpened([model, "rename"])} />}
                  {manage && <Do model={model} verb="Delete" act={() => setOpened([model, "delete"])} />}
                </div>
              ),
          },
        ]}
      />
      {model && what === "download" && <Download model={model} close={close} />}
      {model && what === "rename" && <Rename model={model} close={close} changed={changed} />}
      {model && what === "delete" && (
        <Confirm
          title={`Delete the weights of v${model.version}?`}
          verb="Delete the weights"
          done="The weights are deleted."
          close={close}
          work={() => call("TrainerService/DeleteModel", { name: model.name }).then(changed)}
        >
          <p>Its record stays, so that the lineage of others stays whole.</p>
        </Confirm>
      )}
    </>
  );
}

function Do({ model, verb, act }: { model: Model; verb: string; act: () => void }) {
  return (
    <button type="button" class="small" aria-label={`${verb} ${nameOf(model)}`} onClick={act}>
      {verb}
    </button>
  );
}

const nameOf = (model: Model): string =>
  model.shared ? model.displayName : `v${model.version} ${model.displayName}`;

function Named({ leaf: { model, depth } }: { leaf: Leaf }) {
  return (
    <div class={`leaf depth-${Math.min(depth, 8)}`}>
      <strong>{model.shared ? model.displayName || last(model.name) : `v${model.version}`}</strong>{" "}
      {!model.shared && model.displayName}
      {model.deleted && <span class="state state-failed">weights deleted</span>}
      <div class="hint">
        {[model.network, model.workingResolutionNm ? `${rounded(model.workingResolutionNm)} nm` : ""]
          .filter(Boolean)
          .join(" · ")}
        {model.dataLicense && ` · data: ${model.dataLicense}`}
      </div>
      {model.remarks.map((remark) => (
        <div key={remark} class="hint">
          {remark}
        </div>
      ))}
    </div>
  );
}

function Metrics({ of: model }: { of: Model }) {
  const metrics = Object.entries(model.metrics).sort(([one], [other]) => one.localeCompare(other));
  const main = metrics.filter(([name]) => name.includes("iou"));
  const rest = metrics.filter(([name]) => !name.includes("iou"));
  return (
    <>
      {main.map(([name, value]) => (
        <div key={name}>
          {name.replaceAll("_", " ")} <strong>{value.toFixed(3)}</strong>
        </div>
      ))}
      {rest.length > 0 && (
        <details>
          <summary>{rest.length} more</summary>
          {rest.map(([name, value]) => (
            <div key={name}>
              {name.replaceAll("_", " ")} {rounded(value)}
            </div>
          ))}
        </details>
      )}
    </>
  );
}

function Download({ model, close }: { model: Model; close: () => void }) {
  return (
    <Dialog title={`Download ${nameOf(model)}`} close={close}>
      <ul class="made">
        {MODEL_FORMATS.map(([format, title]) => (
          <li key={format}>
            <a href={modelAddress(model.name, format)} download>
              {title}
            </a>
          </li>
        ))}
      </ul>
      {model.dataLicense && <p class="hint">Terms of the data that it learned from: {model.dataLicense}</p>}
    </Dialog>
  );
}

function Rename({ model, close, changed }: { model: Model; close: () => void; changed: () => void }) {
  const action = useAction();
  const submit = async (fields: FormData) => {
    const named = { name: model.name, displayName: text(fields, "name") };
    if (
      await action.run(() => call("TrainerService/UpdateModel", { model: named }), "The model is renamed.")
    ) {
      changed();
      close();
    }
  };
  return (
    <Dialog title={`Rename ${nameOf(model)}`} close={close}>
      <Form action={action} submit="Rename" cancel={close} onSubmit={submit}>
        <Field label="Name" name="name" defaultValue={model.displayName} required maxLength={200} autofocus />
      </Form>
    </Dialog>
  );
}
