import { useState } from "preact/hooks";
import { all, ask, call } from "../api/call";
import { useJobEvents, useSampleEvents } from "../api/events";
import type { Layer, Volume } from "../api/messages";
import { ended, last, shape, voxel, when, word } from "../format";
import { Show, useLoaded } from "../parts/loaded";
import { useTitle } from "../parts/title";
import type { TileInfo } from "../viewer/geometry";
import { type Shown, SliceView } from "../viewer/slice-view";
import type { Opened } from "./project";
import { Viewers } from "./viewers";
import { DeleteVolume, EditVolume, ExportVolume, PredictVolume } from "./volume-dialogs";

type Open = "edit" | "export" | "predict" | "delete" | "";

/** A volume: its slices with layers over them, and what can be done with it. */
export function VolumePage(opened: Opened & { name: string }) {
  const { project, rights, name } = opened;
  const loaded = useLoaded(
    async (signal) => (await call("DatastoreService/GetVolume", { name }, signal)).volume,
    [name],
  );
  const layers = useLoaded(
    (signal) =>
      all<Layer>(async (pageToken) => {
        const page = await call("DatastoreService/ListLayers", { parent: name, pageToken }, signal);
        return [page.layers, page.nextPageToken];
      }),
    [name],
  );
  // Predictions and annotations are seen as they come.
  useJobEvents(project.name, (job) => {
    if (ended(job) && (job.result?.layers.length || job.spec?.importLabels)) layers.reload();
  });
  useSampleEvents(project.name, layers.reload);
  const [open, setOpen] = useState<Open>("");
  const close = () => setOpen("");
  useTitle(loaded.value?.displayName ?? last(name));
  return (
    <section>
      <Show of={loaded}>
        {(volume) =>
          volume && (
            <>
              <div class="heading">
                <p class="crumbs">
                  <a href={`/${project.name}`}>Volumes</a> /
                </p>
                <h2>{volume.displayName || last(name)}</h2>
                <Viewers volume={volume} layers={layers.value ?? []} />
                {rights.export && (
                  <button type="button" onClick={() => setOpen("export")}>
                    Export
                  </button>
                )}
                {rights.manage && (
                  <>
                    <button type="button" onClick={() => setOpen("predict")}>
                      Predict
                    </button>
                    <button type="button" onClick={() => setOpen("edit")}>
                      Edit
                    </button>
                    <button type="button" onClick={() => setOpen("delete")}>
                      Delete
                    </button>
                  </>
                )}
              </div>
              <Slices volume={volume} layers={layers.value ?? []} />
              <Show of={layers}>{(rows) => <p class="hint">{rows.length ? "" : "No layers yet."}</p>}</Show>
              <Facts volume={volume} />
              {open === "edit" && <EditVolume volume={volume} close={close} done={loaded.set} />}
              {open === "export" && (
                <ExportVolume {...opened} volume={volume} layers={layers.value ?? []} close={close} />
              )}
              {open === "predict" && <PredictVolume {...opened} volume={volume} close={close} />}
              {open === "delete" && <DeleteVolume {...opened} volume={volume} close={close} />}
            </>
          )
        }
      </Show>
    </section>
  );
}

const VISIBLE = new Set([
  "KIND_ANNOTATIONS",
  "KIND_LABELS",
  "KIND_PROBABILITIES",
  "KIND_INSTANCES",
  "KIND_SCORE_MAP",
]);

function Slices({ volume, layers }: { volume: Volume; layers: Layer[] }) {
  const [chosen, setChosen] = useState<string[]>([]);
  const [overlay, setOverlay] = useState(true);
  const [opacity, setOpacity] = useState(0.5);
  const image = useLoaded((signal) => infoOf(volume.name, signal), [volume.name, volume.etag]);
  const shown = layers.filter((layer) => chosen.includes(layer.name));
  const infos = useLoaded(
    (signal) =>
      Promise.all(shown.map(async (layer) => [layer.name, await infoOf(layer.name, signal)] as const)),
    [shown.map(versionOf)],
  );
  const toggle = (name: string) => {
    setOverlay(true);
    setChosen(chosen.includes(name) ? chosen.filter((each) => each !== name) : [...chosen, name]);
  };
  return (
    <Show of={image}>
      {(info) => {
        const images: Shown[] = [
          { name: volume.name, info, version: volume.etag, kind: info.formats[0] ?? "png" },
        ];
        for (const layer of shown) {
          const found = infos.value?.find(([name]) => name === layer.name)?.[1];
          if (found) images.push({ name: layer.name, info: found, version: versionOf(layer), kind: "png" });
        }
        return (
          <div class="viewer">
            <SliceView
              images={images}
              opacity={opacity}
              overlay={overlay}
              waiting={images.length <= shown.length}
              toggle={() => setOverlay(!overlay)}
            />
            {layers.length > 0 && (
              <fieldset class="layers">
                <legend>Layers</legend>
                {layers
                  .filter((layer) => VISIBLE.has(layer.kind) && layer.channels <= 1)
                  .map((layer) => (
                    <label key={layer.name}>
                      <input
                        type="checkbox"
                        checked={chosen.includes(layer.name)}
                        onChange={() => toggle(layer.name)}
                      />
                      <span>
                        {layer.displayName || last(layer.name)}
                        {layer.kind !== "KIND_ANNOTATIONS" && (
                          <span class="hint"> {word(layer.kind, "KIND_")}</span>
                        )}
                      </span>
                    </label>
                  ))}
                <label class="slider">
                  Opacity
                  <input
                    type="range"
                    min="0"
                    max="1"
                    step="0.05"
                    value={opacity}
                    onInput={(event) => setOpacity(Number(event.currentTarget.value))}
                  />
                </label>
                <label>
                  <input type="checkbox" checked={overlay} onChange={() => setOverlay(!overlay)} />
                  <span>
                    Show layers <kbd>l</kbd>
                  </span>
                </label>
                {infos.error && <p class="failure">{infos.error}</p>}
              </fieldset>
            )}
          </div>
        );
      }}
    </Show>
  );
}

const infoOf = async (name: string, signal: AbortSignal): Promise<TileInfo> =>
  (await ask(`/tiles/${name}/info.json`, { signal })).json();

/** Changes with the voxels of a layer. */
const versionOf = (layer: Layer): string =>
  [layer.name, layer.attempt, layer.projectedSequence, layer.editTime ?? ""].join(" ");

function Facts({ volume }: { volume: Volume }) {
  const rows = [
    ["Voxels, z × y × x", shape(volume.shape)],
    ["Voxel size", voxel(volume.voxelSize)],
    ["Type", word(volume.dataType, "DATA_TYPE_")],
    ["Levels", String(volume.levels.length)],
    ["Source", volume.source + (volume.reference ? ", kept where it is" : "")],
    ["Imported", [when(volume.createTime), volume.creator].filter(Boolean).join(", ")],
    ["Name", volume.name],
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
