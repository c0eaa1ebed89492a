import { useEffect, useState } from "preact/hooks";
import { connection, expired, reasonOf } from "./api/call";
import { begin, self, signOut, whoAmI } from "./api/session";
import { match } from "./match";
import { AccountPage } from "./pages/account";
import { AdministrationPage } from "./pages/administration";
import { ProjectPage } from "./pages/project";
import { ProjectsPage } from "./pages/projects";
import { SignIn } from "./pages/sign-in";
import { said } from "./parts/action";
import { Dialog } from "./parts/dialog";
import { step, useKeys } from "./parts/keys";
import { go, place } from "./route";
import { useStore } from "./store";

const SAID_MS = 6000;
const SHORTCUTS = [
  ["?", "this list"],
  ["j, k", "next, previous row of a list; Enter opens it"],
  ["n", "new: project, import, member, token"],
  ["p", "projects"],
  ["1 to 6", "volumes, models, jobs, progress, members, settings of a project"],
  ["Escape", "close a dialog"],
  ["← →, wheel", "slices of a volume; with Shift ten at a time, Home and End for the ends"],
  ["+ −, Ctrl and wheel", "zoom; drag to move, 0 shows the whole slice"],
  ["z, y, x", "plane: across z, y or x"],
  ["l", "layers over the volume on or off"],
] as const;

export function App() {
  const who = useStore(self);
  const path = useStore(place);
  const over = useStore(expired);
  const back = useStore(connection).times;
  const [message, setMessage] = useState("");
  const [help, setHelp] = useState(false);

  useEffect(() => {
    // Nobody answers: the notice says so, and this is asked again.
    const start = () => begin().then(setMessage, () => {});
    start();
    // Somebody follows a link of `biosegment up` while the page is open.
    const look = () => location.hash.startsWith("#token=") && start();
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  useEffect(() => {
    // Where what had the focus has gone with its page, the keyboard goes on from the new one.
    if (document.activeElement === document.body)
      document.getElementById("content")?.focus({ preventScroll: true });
  }, [path]);
  useEffect(() => {
    if (back) whoAmI().catch(() => {});
  }, [back]);
  useKeys({ "?": () => setHelp(true), j: () => step(1), k: () => step(-1), p: () => go("/") });

  return (
    <>
      <a class="skip" href="#content">
        Skip to content
      </a>
      <Header help={() => setHelp(true)} />
      <Notices />
      <main id="content" tabIndex={-1}>
        {who === null && <SignIn message={message} />}
        {who && <Content path={path} />}
        {who === undefined && <p class="hint">Loading…</p>}
      </main>
      {who && over && (
        <Dialog title="Your session has ended" close={() => leave(setMessage)}>
          <p>Sign in again as {who.displayName || who.userId} to go on where you were.</p>
          <SignIn message="" within />
        </Dialog>
      )}
      {help && <Shortcuts close={() => setHelp(false)} />}
    </>
  );
}

function Content({ path }: { path: string }) {
  const project = match("/projects/:project", path.split("/").slice(0, 3).join("/"));
  if (match("/", path)) return <ProjectsPage />;
  if (project?.project) return <ProjectPage project={`projects/${project.project}`} path={path} />;
  if (match("/account", path)) return <AccountPage />;
  if (match("/administration", path) || match("/administration/:tab", path))
    return <AdministrationPage path={path} />;
  return (
    <>
      <h1>Nothing is here</h1>
      <p>
        There is no page {path}. <a href="/">Projects</a>
      </p>
    </>
  );
}

function Header({ help }: { help: () => void }) {
  const who = useStore(self);
  return (
    <header class="top">
      <a class="brand" href="/">
        <img src="/icon.svg" alt="" width="24" height="24" /> BioSegment
      </a>
      {who && (
        <nav aria-label="Platform">
          <a href="/">Projects</a>
          {who.isAdmin && <a href="/administration">Administration</a>}
          <a href="/account">{who.displayName || who.userId}</a>
          <button type="button" onClick={() => leave()}>
            Sign out
          </button>
        </nav>
      )}
      <button
        type="button"
        class="quiet"
        aria-label="Keyboard shortcuts"
        title="Keyboard shortcuts (?)"
        onClick={help}
      >
        ?
      </button>
    </header>
  );
}

async function leave(say: (text: string) => void = () => {}): Promise<void> {
  try {
    await signOut();
    go("/", true);
  } catch (cause) {
    // Whoever sees this page next must not see what was on it.
    self.set(null);
    say(reasonOf(cause));
  }
}

function Notices() {
  const lost = useStore(connection).lost;
  const text = useStore(said);
  useEffect(() => {
    if (!text) return undefined;
    const timer = setTimeout(() => said.set(""), SAID_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <>
      {lost && (
        <p class="lost" role="alert">
          The gateway does not answer. This page goes on by itself when it is back; nothing is lost.
        </p>
      )}
      <p class="said" role="status">
        {text}
      </p>
    </>
  );
}

function Shortcuts({ close }: { close: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" close={close}>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
