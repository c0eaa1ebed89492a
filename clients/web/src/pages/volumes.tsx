import { useState } from "preact/hooks";
import { call } from "../api/call";
import { useLiveJobs } from "../api/events";
import type { Volume } from "../api/messages";
import { ended, last, shape, voxel, word } from "../format";
import { JobBar } from "../parts/job-bar";
import { useKeys } from "../parts/keys";
import { More, Show, usePaged } from "../parts/loaded";
import { ImportDialog } from "./importing";
import type { Opened } from "./project";

export function VolumesPage({ project, rights }: Opened) {
  const [importing, setImporting] = useState(false);
  useKeys(rights.manage ? { n: () => setImporting(true) } : {});
  const volumes = usePaged<Volume>(
    async (pageToken, signal) => {
      const page = await call("DatastoreService/ListVolumes", { parent: project.name, pageToken }, signal);
      return [page.volumes, page.nextPageToken];
    },
    [project.name],
  );
  // What an import made is shown without being asked for.
  const jobs = useLiveJobs(project.name, (job) => {
    if (ended(job) && job.spec?.importVolume) volumes.reload();
  });
  const imports = (jobs.value ?? []).filter(
    (job) => job.spec?.importVolume && (!ended(job) || job.state === "STATE_FAILED"),
  );
  return (
    <section>
      <div class="heading">
        <h2>Volumes</h2>
        {rights.manage && (
          <button type="button" class="main" onClick={() => setImporting(true)}>
            Import a volume
          </button>
        )}
      </div>
      {imports.slice(0, 5).map((job) => (
        <JobBar key={job.name} job={job} />
      ))}
      <Show of={volumes}>
        {(rows) =>
          rows.length ? (
            <ul class="cards">
              {rows.map((row) => (
                <VolumeCard key={row.name} volume={row} />
              ))}
            </ul>
          ) : (
            <p class="hint">No volumes yet.{rights.manage ? " Import one: press n." : ""}</p>
          )
        }
      </Show>
      <More of={volumes} />
      {importing && <ImportDialog project={project.name} close={() => setImporting(false)} />}
    </section>
  );
}

function VolumeCard({ volume }: { volume: Volume }) {
  const [seen, setSeen] = useState(true);
  return (
    <li>
      <a href={`/${volume.name}`} data-row>
        <div class="thumbnail">
          {seen ? (
            <img
              src={`/thumbnails/${volume.name}.jpg?v=${encodeURIComponent(volume.etag)}`}
              alt=""
              loading="lazy"
              decoding="async"
              onError={() => setSeen(false)}
            />
          ) : (
            <span class="hint">no picture</span>
          )}
        </div>
        <strong>{volume.displayName || last(volume.name)}</strong>
      </a>
      <div class="hint">
        {shape(volume.shape)} voxels
        <br />
        {voxel(volume.voxelSize)} · {word(volume.dataType, "DATA_TYPE_")}
        {volume.reference ? " · kept where it is" : ""}
      </div>
    </li>
  );
}
