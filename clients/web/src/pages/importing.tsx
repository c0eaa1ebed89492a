import { useEffect, useRef, useState } from "preact/hooks";
import { call, type Input, requestId } from "../api/call";
import type { ImportVolumeSpec } from "../api/messages";
import { type Sending, sendFile } from "../api/upload";
import { bytes, duration } from "../format";
import { useAction } from "../parts/action";
import { Dialog, Form } from "../parts/dialog";
import { Choice, Field, number, text } from "../parts/field";
import { guards } from "../route";

type Way = "file" | "path";

/** A volume in: a file of this computer is sent and then imported, one of the server is imported where it lies. */
export function ImportDialog({ project, close }: { project: string; close: () => void }) {
  const action = useAction();
  const [way, setWay] = useState<Way>("file");
  const [sending, setSending] = useState<Sending | undefined>(undefined);
  const abort = useRef<AbortController | undefined>(undefined);
  const [request] = useState(requestId);
  const sent = useRef<{ file: File; upload: string } | undefined>(undefined);
  useLeaveGuard(sending !== undefined);

  const send = async (file: File) => {
    abort.current = new AbortController();
    try {
      return await sendFile(project, file, setSending, abort.current.signal);
    } finally {
      setSending(undefined);
    }
  };
  const submit = (fields: FormData) =>
    action.run(async () => {
      const spec = specOf(fields);
      if (way === "path") spec.uri = text(fields, "uri");
      else {
        const file = fields.get("file") as File;
        // When the import was refused, for want of a voxel size perhaps, the file is there already.
        if (sent.current?.file.name !== file.name || sent.current.file.size !== file.size) {
          sent.current = { file, upload: await send(file) };
        }
        spec.upload = sent.current.upload;
      }
      await call("JobService/CreateJob", { project, requestId: request, spec: { importVolume: spec } });
      close();
    }, "The import is queued.");

  const cancel = () => {
    abort.current?.abort();
    if (!sending) close();
  };
  return (
    <Dialog title="Import a volume" close={cancel}>
      <Form
        action={action}
        submit={way === "file" ? "Send and import" : "Import"}
        onSubmit={submit}
        cancel={cancel}
      >
        <Choice
          label="From"
          value={way}
          onChange={(value) => setWay(value as Way)}
          options={[
            ["file", "this computer"],
            ["path", "a folder of the server"],
          ]}
        />
        {way === "file" ? (
          <Field
            label="File"
            name="file"
            type="file"
            required
            hint="TIFF, OME-TIFF, MRC, NRRD, NIfTI, HDF5, Imaris, DM3, DM4, AmiraMesh, a zip file of slices or of OME-Zarr."
          />
        ) : (
          <Field
            label="Path on the server"
            name="uri"
            required
            hint="Below one of the import roots of its settings."
          />
        )}
        <Field label="Name" name="name" maxLength={200} hint="The file's name when empty." />
        <Field
          label="Id"
          name="id"
          pattern="[a-z0-9\-]{1,63}"
          hint="a to z, 0 to 9 and -; made up when empty."
        />
        <fieldset class="row">
          <legend>Voxel size, nm: needed when the file does not say it</legend>
          <Field label="z" name="z" type="number" min="0" step="any" inputMode="decimal" />
          <Field label="y" name="y" type="number" min="0" step="any" inputMode="decimal" />
          <Field label="x" name="x" type="number" min="0" step="any" inputMode="decimal" />
        </fieldset>
        <details>
          <summary>More</summary>
          <Field
            label="Axes of the file"
            name="axes"
            placeholder="zyx"
            hint="When it cannot be read from the file."
          />
          <Field
            label="Channel"
            name="channel"
            type="number"
            min="0"
            step="1"
            hint="Of a file with several, from 0."
          />
          <Field label="Dataset" name="dataset" hint="Path within an HDF5 file or an OME-Zarr." />
        </details>
        {sending && <Progress of={sending} />}
      </Form>
    </Dialog>
  );
}

function specOf(fields: FormData): Input<ImportVolumeSpec> {
  const [zNm, yNm, xNm] = [number(fields, "z"), number(fields, "y"), number(fields, "x")];
  const spec: Input<ImportVolumeSpec> = {
    volumeId: text(fields, "id"),
    displayName: text(fields, "name"),
    axes: text(fields, "axes"),
    dataset: text(fields, "dataset"),
  };
  if (zNm || yNm || xNm) spec.voxelSize = { zNm, yNm, xNm };
  if (text(fields, "channel")) spec.channel = number(fields, "channel");
  return spec;
}

function Progress({ of }: { of: Sending }) {
  return (
    <div class="sending">
      <progress max={of.size} value={of.sent} aria-label="Sending the file" />
      <span class="hint" aria-live="off">
        {bytes(of.sent)} of {bytes(of.size)}
        {of.waiting ? " · waiting for the gateway" : of.leftS > 0 ? ` · ${duration(of.leftS)} left` : ""}
      </span>
    </div>
  );
}

/** While a file is on its way, moving elsewhere asks first. */
function useLeaveGuard(active: boolean): void {
  useEffect(() => {
    if (!active) return undefined;
    const guard = () => confirm("A file is being sent. Leave and stop it?");
    const unload = (event: BeforeUnloadEvent) => event.preventDefault();
    guards.add(guard);
    addEventListener("beforeunload", unload);
    return () => {
      guards.delete(guard);
      removeEventListener("beforeunload", unload);
    };
  }, [active]);
}
