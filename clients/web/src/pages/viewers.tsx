import { useState } from "preact/hooks";
import { post } from "../api/call";
import type { Layer, Volume } from "../api/messages";
import { when } from "../format";
import { Failure, useAction } from "../parts/action";
import { CopyText } from "../parts/copy";
import { Dialog } from "../parts/dialog";
import { Show, useLoaded } from "../parts/loaded";

/** What `POST /links` answers. */
interface Link {
  zarrUrl: string;
  neuroglancerUrl: string;
  expireTime: string;
}

const MOST_LAYERS = 16;
const LIFETIME_S = 12 * 3600;

interface ViewersProps {
  volume: Volume;
  layers: Layer[];
}

async function makeLink({ volume, layers }: ViewersProps): Promise<Link> {
  const names = layers
    .filter((layer) => layer.kind !== "KIND_SCORE_MAP" && layer.channels <= 1)
    .map((layer) => layer.name)
    .slice(0, MOST_LAYERS);
  return (await post("/links", { name: volume.name, layers: names, lifetimeS: LIFETIME_S })) as Link;
}

/** The volume with its layers in other viewers, by a link that reads nothing else. */
export function Viewers(props: ViewersProps) {
  const [sharing, setSharing] = useState(false);
  return (
    <>
      <Neuroglancer {...props} />
      <button type="button" onClick={() => setSharing(true)}>
        Link
      </button>
      {sharing && <LinkDialog {...props} close={() => setSharing(false)} />}
    </>
  );
}

function Neuroglancer(props: ViewersProps) {
  const action = useAction();
  const open = async () => {
    // Now, while the browser knows that a person asked for it; the address comes later.
    const view = window.open("about:blank", "_blank");
    const done = await action.run(async () => {
      const { neuroglancerUrl } = await makeLink(props);
      if (!neuroglancerUrl) throw new Error("Neuroglancer is not installed with this gateway.");
      if (view) {
        view.opener = null;
        view.location.replace(neuroglancerUrl);
      } else location.assign(neuroglancerUrl);
    });
    if (!done) view?.close();
  };
  return (
    <>
      <Failure of={action} />
      <button type="button" onClick={open} disabled={action.busy} title="In a new tab, with its layers">
        Neuroglancer
      </button>
    </>
  );
}

function LinkDialog({ close, ...props }: ViewersProps & { close: () => void }) {
  const link = useLoaded(() => makeLink(props), [props.volume.name]);
  return (
    <Dialog title="Link for viewers" close={close}>
      <p>
        For napari, vizarr or any program that opens OME-Zarr by its address. Whoever has it reads this volume
        and its layers, as you, and nothing else.
      </p>
      <Show of={link}>
        {({ zarrUrl, expireTime }) => (
          <>
            <CopyText text={zarrUrl} />
            <p class="hint">Until {when(expireTime)}.</p>
          </>
        )}
      </Show>
    </Dialog>
  );
}
