import { useState } from "preact/hooks";
import { call, requestId } from "../api/call";
import type { ExportSpecFormat, Layer, Volume } from "../api/messages";
import { last, word } from "../format";
import { useAction } from "../parts/action";
import { Confirm, Dialog, Form } from "../parts/dialog";
import { Choice, Field, number, text } from "../parts/field";
import { useLoaded } from "../parts/loaded";
import { go } from "../route";
import type { Opened } from "./project";

interface EditProps {
  volume: Volume;
  close: () => void;
  done: (volume: Volume | undefined) => void;
}

export function EditVolume({ volume, close, done }: EditProps) {
  const action = useAction();
  const { voxelSize: size, displayWindow: shades } = volume;
  const submit = async (fields: FormData) => {
    const changed = {
      name: volume.name,
      etag: volume.etag,
      displayName: text(fields, "name"),
      voxelSize: { zNm: number(fields, "z"), yNm: number(fields, "y"), xNm: number(fields, "x") },
      displayWindow: { low: number(fields, "low"), high: number(fields, "high") },
    };
    const update = () =>
      call("DatastoreService/UpdateVolume", {
        volume: changed,
        updateMask: "displayName,voxelSize,displayWindow",
      }).then((answer) => done(answer.volume));
    if (await action.run(update, "The volume is changed.")) close();
  };
  return (
    <Dialog title="Edit the volume" close={close}>
      <Form action={action} submit="Save" cancel={close} onSubmit={submit}>
        <Field label="Name" name="name" defaultValue={volume.displayName} maxLength={200} />
        <fieldset class="row">
          <legend>Voxel size, nm</legend>
          <Field
            label="z"
            name="z"
            type="number"
            min="0"
            step="any"
            required
            defaultValue={String(size?.zNm ?? "")}
          />
          <Field
            label="y"
            name="y"
            type="number"
            min="0"
            step="any"
            required
            defaultValue={String(size?.yNm ?? "")}
          />
          <Field
            label="x"
            name="x"
            type="number"
            min="0"
            step="any"
            required
            defaultValue={String(size?.xNm ?? "")}
          />
        </fieldset>
        <fieldset class="row">
          <legend>Grey values that are shown black and white</legend>
          <Field label="Black" name="low" type="number" step="any" defaultValue={String(shades?.low ?? "")} />
          <Field
            label="White"
            name="high"
            type="number"
            step="any"
            defaultValue={String(shades?.high ?? "")}
          />
        </fieldset>
      </Form>
    </Dialog>
  );
}

const FORMATS: readonly (readonly [ExportSpecFormat, string])[] = [
  ["FORMAT_OME_TIFF", "OME-TIFF"],
  ["FORMAT_TIFF", "TIFF"],
  ["FORMAT_OME_ZARR", "OME-Zarr, zipped"],
  ["FORMAT_HDF5", "HDF5"],
  ["FORMAT_MRC", "MRC"],
  ["FORMAT_NRRD", "NRRD"],
  ["FORMAT_NIFTI", "NIfTI"],
  ["FORMAT_IMS", "Imaris"],
  ["FORMAT_AMIRAMESH", "AmiraMesh"],
  ["FORMAT_MIB_MODEL", "MIB model"],
];
const SEGMENTATION = "segmentation";

type JobProps = Opened & { volume: Volume; close: () => void };

export function ExportVolume({ project, volume, layers, close }: JobProps & { layers: Layer[] }) {
  const action = useAction();
  const [request] = useState(requestId);
  const submit = (fields: FormData) =>
    action.run(async () => {
      const source = text(fields, "source");
      const segmentation = source === SEGMENTATION;
      const spec = {
        export: {
          source: segmentation ? volume.name : source,
          segmentation,
          format: text(fields, "format") as ExportSpecFormat,
        },
      };
      const { job } = await call("JobService/CreateJob", { project: project.name, requestId: request, spec });
      go(`/${project.name}/jobs/${last(job?.name)}`);
    }, "The export is queued.");
  return (
    <Dialog title="Export" close={close}>
      <Form action={action} submit="Export" cancel={close} onSubmit={submit}>
        <Choice
          label="What"
          name="source"
          options={[
            [SEGMENTATION, "the segmentation: prediction, overlaid by annotations and edits"],
            [volume.name, "the volume itself"],
            ...layers.map((layer): [string, string] => [
              layer.name,
              `layer ${layer.displayName || last(layer.name)} (${word(layer.kind, "KIND_")})`,
            ]),
          ]}
        />
        <Choice label="Format" name="format" options={FORMATS} />
        <p class="hint">The file is made by a job and is found on its page.</p>
      </Form>
    </Dialog>
  );
}

export function PredictVolume({ project, volume, close }: JobProps) {
  const action = useAction();
  const [request] = useState(requestId);
  const models = useLoaded(
    async (signal) => {
      const lists = await Promise.all(
        [project.name, ""].map((each) =>
          call("TrainerService/ListModels", { project: each, pageSize: 100 }, signal),
        ),
      );
      return lists
        .flatMap((list) => list.models)
        .filter((model) => !model.deleted && model.classValues.length);
    },
    [project.name],
  );
  const submit = (fields: FormData) =>
    action.run(async () => {
      const spec = {
        predict: {
          volume: volume.name,
          model: text(fields, "model"),
          probabilities: fields.get("probabilities") !== null,
        },
      };
      const { job } = await call("JobService/CreateJob", { project: project.name, requestId: request, spec });
      go(`/${project.name}/jobs/${last(job?.name)}`);
    }, "The prediction is queued.");
  return (
    <Dialog title={`Predict ${volume.displayName || last(volume.name)}`} close={close}>
      <Form action={action} submit="Predict" cancel={close} onSubmit={submit}>
        <Choice
          label="Model"
          name="model"
          options={[
            ["", "the newest of the project"],
            ...(models.value ?? []).map((model): [string, string] => [
              model.name,
              model.shared ? `${model.displayName} (shipped)` : `v${model.version} ${model.displayName}`,
            ]),
          ]}
        />
        <label class="check">
          <input type="checkbox" name="probabilities" /> Also write probabilities, one layer per class
        </label>
        {models.error && <p class="failure">{models.error}</p>}
      </Form>
    </Dialog>
  );
}

export function DeleteVolume({ project, volume, close }: JobProps) {
  const [force, setForce] = useState(false);
  return (
    <Confirm
      title={`Delete ${volume.displayName || last(volume.name)}?`}
      verb="Delete the volume"
      done="The volume is deleted."
      close={close}
      work={() =>
        call("DatastoreService/DeleteVolume", { name: volume.name, force }).then(() => go(`/${project.name}`))
      }
    >
      <p>Its layers go with it. This cannot be undone.</p>
      <label class="check">
        <input type="checkbox" checked={force} onChange={(event) => setForce(event.currentTarget.checked)} />{" "}
        Also its annotations and edits of objects
      </label>
    </Confirm>
  );
}
