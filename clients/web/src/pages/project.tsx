import type { ComponentChildren } from "preact";
import { call, Refusal } from "../api/call";
import type { Project } from "../api/messages";
import { type Self, self } from "../api/session";
import { last } from "../format";
import { match } from "../match";
import { Classes } from "../parts/classes";
import { useKeys } from "../parts/keys";
import { Show, useLoaded } from "../parts/loaded";
import { useTitle } from "../parts/title";
import { type Rights, rightsOf } from "../rights";
import { go } from "../route";
import { useStore } from "../store";
import { AnnotatePage } from "./annotate";
import { JobPage } from "./job";
import { JobsPage } from "./jobs";
import { MembersPage } from "./members";
import { ModelsPage } from "./models";
import { ProgressPage } from "./progress";
import { SettingsPage } from "./settings";
import { VolumePage } from "./volume";
import { VolumesPage } from "./volumes";

/** A project as its pages need it. */
export interface Opened {
  project: Project;
  rights: Rights;
  who: Self;
  reload: () => void;
}

const TABS = [
  ["", "Volumes"],
  ["models", "Models"],
  ["jobs", "Jobs"],
  ["progress", "Progress"],
  ["members", "Members"],
  ["settings", "Settings"],
] as const;

export function ProjectPage({ project: name, path }: { project: string; path: string }) {
  const who = useStore(self);
  const opened = useLoaded(
    async (signal) => {
      const [{ project }, rights] = await Promise.all([
        call("DatastoreService/GetProject", { name }, signal),
        rightsIn(name, who, signal),
      ]);
      return { project, rights };
    },
    [name, who?.userId],
  );
  const tab = path.split("?")[0]?.split("/")[3] ?? "";
  useKeys(Object.fromEntries(TABS.map(([key], index) => [String(index + 1), () => go(address(name, key))])));
  useTitle(opened.value?.project ? opened.value.project.displayName : "");
  return (
    <Show of={opened}>
      {({ project, rights }) =>
        project &&
        who && (
          <>
            <div class="heading">
              <p class="crumbs">
                <a href="/">Projects</a> /
              </p>
              <h1>{project.displayName || last(name)}</h1>
              {rights.annotate && (
                <a class="button" href={`/${name}/annotate`}>
                  Annotate
                </a>
              )}
            </div>
            {project.description && <p class="description">{project.description}</p>}
            <Classes of={project.classes} />
            <nav class="tabs" aria-label="Project">
              {TABS.map(([key, title]) => (
                <a
                  key={key}
                  href={address(name, key)}
                  aria-current={key === tab || (!key && tab === "volumes") ? "page" : undefined}
                >
                  {title}
                </a>
              ))}
            </nav>
            {pageOf(path, { project, rights, who, reload: opened.reload })}
          </>
        )
      }
    </Show>
  );
}

const address = (name: string, tab: string): string => (tab ? `/${name}/${tab}` : `/${name}`);

function pageOf(path: string, opened: Opened): ComponentChildren {
  const at = (pattern: string) => match(`/projects/:project${pattern}`, path);
  const { name } = opened.project;
  const volume = at("/volumes/:volume");
  const job = at("/jobs/:job");
  if (at("") || at("/volumes")) return <VolumesPage {...opened} />;
  if (volume?.volume) return <VolumePage {...opened} name={`${name}/volumes/${volume.volume}`} />;
  if (at("/models")) return <ModelsPage {...opened} />;
  if (at("/jobs")) return <JobsPage {...opened} />;
  if (job?.job) return <JobPage {...opened} name={`jobs/${job.job}`} />;
  if (at("/progress")) return <ProgressPage {...opened} />;
  if (at("/members")) return <MembersPage {...opened} />;
  if (at("/settings")) return <SettingsPage {...opened} />;
  if (at("/annotate")) return <AnnotatePage {...opened} />;
  return <p>There is no page {path}.</p>;
}

async function rightsIn(project: string, who: Self | null | undefined, signal: AbortSignal): Promise<Rights> {
  if (who?.isAdmin) return rightsOf("ROLE_OWNER");
  try {
    const name = `${project}/members/${who?.userId ?? ""}`;
    const { member } = await call("DatastoreService/GetMember", { name }, signal);
    return rightsOf(member?.role ?? "ROLE_UNSPECIFIED");
  } catch (cause) {
    // The project itself says it better when somebody is no member of it.
    if (cause instanceof Refusal && cause.status === 404) return rightsOf("ROLE_UNSPECIFIED");
    throw cause;
  }
}
