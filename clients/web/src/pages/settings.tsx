import { useState } from "preact/hooks";
import type { Input } from "../api/call";
import { call } from "../api/call";
import type { LabelClass, Pool, Strategy, StrategyShare } from "../api/messages";
import { useAction } from "../parts/action";
import { ClassEditor } from "../parts/classes";
import { Confirm, Form } from "../parts/dialog";
import { Choice, Field, number, text } from "../parts/field";
import { Show, useLoaded } from "../parts/loaded";
import { go } from "../route";
import type { Opened } from "./project";

export function SettingsPage(opened: Opened) {
  const { project, rights } = opened;
  const [deleting, setDeleting] = useState(false);
  const pool = useLoaded(
    async (signal) => {
      const [one, other] = await Promise.all([
        call("SamplerService/GetPool", { name: `${project.name}/pool` }, signal),
        call("SamplerService/ListStrategies", {}, signal),
      ]);
      return { pool: one.pool, strategies: other.strategies };
    },
    [project.name],
  );
  return (
    <section class="narrow">
      {!rights.manage && <p class="hint">Owners and managers of the project may change these.</p>}
      <h2>Project</h2>
      <fieldset class="bare" disabled={!rights.manage}>
        <ProjectForm {...opened} />
      </fieldset>
      <h2>Active learning</h2>
      <Show of={pool}>
        {({ pool: present, strategies }) =>
          present && (
            <>
              {present.failure && (
                <p class="failure">The last training or scoring failed: {present.failure}</p>
              )}
              <p class="hint">
                {Number(present.openCandidates).toLocaleString()} samples can still be proposed.
              </p>
              <fieldset class="bare" disabled={!rights.manage}>
                <PoolForm key={present.etag} pool={present} strategies={strategies} done={pool.reload} />
              </fieldset>
            </>
          )
        }
      </Show>
      {rights.own && (
        <>
          <h2>Delete</h2>
          <p>
            <button type="button" class="danger" onClick={() => setDeleting(true)}>
              Delete the project
            </button>
          </p>
        </>
      )}
      {deleting && <DeleteProject {...opened} close={() => setDeleting(false)} />}
    </section>
  );
}

function ProjectForm({ project, reload }: Opened) {
  const action = useAction();
  const [classes, setClasses] = useState<LabelClass[]>(project.classes);
  const submit = (fields: FormData) =>
    action.run(async () => {
      await call("DatastoreService/UpdateProject", {
        project: {
          name: project.name,
          etag: project.etag,
          displayName: text(fields, "name"),
          description: text(fields, "description"),
          workingResolutionNm: number(fields, "resolution"),
          classes,
        },
        updateMask: "displayName,description,workingResolutionNm,classes",
      });
      reload();
    }, "The project is changed.");
  return (
    <Form action={action} submit="Save the project" onSubmit={submit}>
      <Field label="Name" name="name" defaultValue={project.displayName} required maxLength={200} />
      <Field label="Description" name="description" defaultValue={project.description} maxLength={10000} />
      <Field
        label="Working resolution, nm per pixel"
        name="resolution"
        type="number"
        min="0.1"
        step="any"
        required
        defaultValue={String(project.workingResolutionNm)}
      />
      <ClassEditor classes={classes} change={setClasses} />
    </Form>
  );
}

function PoolForm({ pool, strategies, done }: { pool: Pool; strategies: Strategy[]; done: () => void }) {
  const action = useAction();
  const [shares, setShares] = useState<StrategyShare[]>(pool.strategies);
  const retrain = pool.retrain;
  const submit = (fields: FormData) => {
    const changed: Input<Pool> = {
      name: pool.name,
      etag: pool.etag,
      strategies: shares,
      secondAnnotatorShare: number(fields, "second") / 100,
      leaseDurationS: number(fields, "lease") * 60,
      retrain: {
        manual: fields.get("manual") !== null,
        afterAnnotations: number(fields, "after"),
        afterIdleS: number(fields, "idle") * 60,
      },
    };
    const updateMask = "strategies,secondAnnotatorShare,leaseDurationS,retrain";
    return action.run(
      () => call("SamplerService/UpdatePool", { pool: changed, updateMask }).then(done),
      "The settings are changed.",
    );
  };
  return (
    <Form action={action} submit="Save the settings" onSubmit={submit}>
      <Shares shares={shares} strategies={strategies} change={setShares} />
      <label class="check">
        <input type="checkbox" name="manual" defaultChecked={retrain?.manual ?? false} /> Train only when
        asked to
      </label>
      <Field
        label="Train after so many new annotations"
        name="after"
        type="number"
        min="0"
        step="1"
        defaultValue={String(retrain?.afterAnnotations || 20)}
      />
      <Field
        label="Also after so many minutes without one"
        name="idle"
        type="number"
        min="0"
        step="any"
        defaultValue={String((retrain?.afterIdleS ?? 0) / 60)}
        hint="0: never."
      />
      <Field
        label="Share that a second annotator gets too, %"
        name="second"
        type="number"
        min="0"
        max="100"
        step="any"
        defaultValue={String(Math.round(pool.secondAnnotatorShare * 1000) / 10)}
      />
      <Field
        label="A sample is held without activity for, minutes"
        name="lease"
        type="number"
        min="1"
        max="1440"
        step="any"
        defaultValue={String((pool.leaseDurationS || 1800) / 60)}
      />
    </Form>
  );
}

interface SharesProps {
  shares: StrategyShare[];
  strategies: Strategy[];
  change: (shares: StrategyShare[]) => void;
}

/** What ranks the pool, in percent that must sum to 100. */
function Shares({ shares, strategies, change }: SharesProps) {
  const put = (index: number, share: Partial<StrategyShare>) =>
    change(shares.map((each, at) => (at === index ? { ...each, ...share } : each)));
  const sum = shares.reduce((before, each) => before + each.share, 0);
  const free = strategies.find((each) => !shares.some((share) => share.strategy === each.strategy));
  return (
    <fieldset>
      <legend>What chooses the samples</legend>
      {shares.map((share, index) => (
        <div class="share-row" key={share.strategy}>
          <Choice
            label={`Strategy ${index + 1}`}
            value={share.strategy}
            options={strategies.map((each) => [each.strategy, each.strategy.replaceAll("_", " ")])}
            onChange={(strategy) => put(index, { strategy })}
          />
          <Field
            label="Share, %"
            type="number"
            min="0.1"
            max="100"
            step="any"
            value={String(Math.round(share.share * 1000) / 10)}
            onChange={(event) => put(index, { share: Number(event.currentTarget.value) / 100 })}
          />
          {shares.length > 1 && (
            <button
              type="button"
              class="quiet"
              aria-label={`Remove strategy ${share.strategy}`}
              onClick={() => change(shares.filter((_, at) => at !== index))}
            >
              ✕
            </button>
          )}
          <p class="hint">{strategies.find((each) => each.strategy === share.strategy)?.description}</p>
        </div>
      ))}
      {Math.abs(sum - 1) > 1e-6 && (
        <p class="failure">The shares sum to {Math.round(sum * 1000) / 10} %, not 100 %.</p>
      )}
      {free && (
        <button
          type="button"
          class="small"
          onClick={() => change([...shares, { strategy: free.strategy, share: Math.max(0.1, 1 - sum) }])}
        >
          Add a strategy
        </button>
      )}
    </fieldset>
  );
}

function DeleteProject({ project, close }: Opened & { close: () => void }) {
  const [typed, setTyped] = useState("");
  const id = project.name.split("/")[1] ?? "";
  const work = async () => {
    if (typed !== id) throw new Error(`Type ${id} to delete the project.`);
    await call("DatastoreService/DeleteProject", { name: project.name, force: true });
    close();
    go("/");
  };
  return (
    <Confirm
      title="Delete the project?"
      verb="Delete it all"
      done="The project is deleted."
      work={work}
      close={close}
    >
      <p>Its volumes, layers, annotations and members go with it. This cannot be undone.</p>
      <Field
        label={`Type ${id} to go on`}
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
      />
    </Confirm>
  );
}
