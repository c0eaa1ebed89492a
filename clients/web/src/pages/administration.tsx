import { useState } from "preact/hooks";
import { call } from "../api/call";
import type { AuditEvent, User } from "../api/messages";
import { self } from "../api/session";
import { last, when, word } from "../format";
import { match } from "../match";
import { Failure, useAction } from "../parts/action";
import { Dialog, Form } from "../parts/dialog";
import { Field, text } from "../parts/field";
import { useKeys } from "../parts/keys";
import { More, Show, useLoaded, usePaged } from "../parts/loaded";
import { Table } from "../parts/table";
import { useTitle } from "../parts/title";
import { useStore } from "../store";
import { PasswordDialog } from "./password";
import { Tokens } from "./tokens";

const TABS = [
  ["", "Users"],
  ["audit", "Audit"],
  ["services", "Services"],
] as const;

/** Of the platform; the services refuse others, whatever the page shows. */
export function AdministrationPage({ path }: { path: string }) {
  useTitle("Administration");
  const who = useStore(self);
  const tab = match("/administration/:tab", path)?.tab ?? "";
  if (!who?.isAdmin) return <p>Only administrators of the platform have something to do here.</p>;
  return (
    <>
      <h1>Administration</h1>
      <nav class="tabs" aria-label="Administration">
        {TABS.map(([key, title]) => (
          <a
            key={key}
            href={key ? `/administration/${key}` : "/administration"}
            aria-current={key === tab ? "page" : undefined}
          >
            {title}
          </a>
        ))}
      </nav>
      {tab === "" && <Users />}
      {tab === "audit" && <Audit />}
      {tab === "services" && <Services />}
    </>
  );
}

const change = (user: User, field: "disabled" | "isAdmin", value: boolean) =>
  call("IdentityService/UpdateUser", { user: { name: user.name, [field]: value }, updateMask: field });

function Users() {
  const [making, setMaking] = useState(false);
  const [opened, setOpened] = useState<User | undefined>(undefined);
  const [locked, setLocked] = useState<User | undefined>(undefined);
  const action = useAction();
  useKeys({ n: () => setMaking(true) });
  const users = usePaged<User>(async (pageToken, signal) => {
    const page = await call("IdentityService/ListUsers", { pageToken }, signal);
    return [page.users, page.nextPageToken];
  }, []);
  const disable = (user: User) =>
    action
      .run(
        () => change(user, "disabled", !user.disabled),
        user.disabled ? "The user may sign in again." : "The user may not sign in any more.",
      )
      .then(users.reload);
  return (
    <section>
      <div class="heading">
        <h2>Users</h2>
        <button type="button" class="main" onClick={() => setMaking(true)}>
          New user
        </button>
      </div>
      <Failure of={action} />
      <Show of={users}>
        {(rows) => (
          <Table
            caption="Users"
            rows={rows}
            id={(row) => row.name}
            nothing="No users."
            columns={[
              { title: "User", cell: (row) => last(row.name) },
              { title: "Name", cell: (row) => row.displayName },
              { title: "Administrator", cell: (row) => (row.isAdmin ? "yes" : "") },
              { title: "Made", cell: (row) => when(row.createTime) },
              { title: "State", cell: (row) => (row.disabled ? "may not sign in" : "") },
              {
                title: "Do",
                cell: (row) => (
                  <div class="buttons">
                    <button
                      type="button"
                      class="small"
                      aria-label={`Tokens of ${last(row.name)}`}
                      onClick={() => setOpened(row)}
                    >
                      Tokens
                    </button>
                    <button
                      type="button"
                      class="small"
                      aria-label={`Set the password of ${last(row.name)}`}
                      onClick={() => setLocked(row)}
                    >
                      Password
                    </button>
                    <button
                      type="button"
                      class="small"
                      aria-label={`${row.disabled ? "Enable" : "Disable"} ${last(row.name)}`}
                      onClick={() => disable(row)}
                    >
                      {row.disabled ? "Enable" : "Disable"}
                    </button>
                  </div>
                ),
              },
            ]}
          />
        )}
      </Show>
      <More of={users} />
      {making && <NewUser close={() => setMaking(false)} done={users.reload} />}
      {locked && <PasswordDialog user={locked.name} own={false} close={() => setLocked(undefined)} />}
      {opened && (
        <Dialog title={`Tokens of ${last(opened.name)}`} close={() => setOpened(undefined)}>
          <Tokens parent={opened.name} />
        </Dialog>
      )}
    </section>
  );
}

function NewUser({ close, done }: { close: () => void; done: () => void }) {
  const action = useAction();
  const submit = async (fields: FormData) => {
    const user = { displayName: text(fields, "name"), isAdmin: fields.get("admin") !== null };
    const userId = text(fields, "id");
    const newPassword = String(fields.get("password") ?? "");
    const make = async () => {
      await call("IdentityService/CreateUser", { userId, user });
      if (newPassword) await call("IdentityService/SetPassword", { name: `users/${userId}`, newPassword });
    };
    if (await action.run(make, "The user is made.")) {
      done();
      close();
    }
  };
  return (
    <Dialog title="New user" close={close}>
      <Form action={action} submit="Make user" cancel={close} onSubmit={submit}>
        <Field
          label="Id"
          name="id"
          required
          pattern="[a-z0-9\-]{1,63}"
          hint="a to z, 0 to 9 and -; it cannot be changed."
          autofocus
        />
        <Field label="Name" name="name" maxLength={200} />
        <Field
          label="Password"
          name="password"
          type="password"
          autocomplete="new-password"
          minLength={10}
          hint="At least 10 characters; without one they sign in by a token, or at the lab's own sign-in."
        />
        <label class="check">
          <input type="checkbox" name="admin" /> Administrator of the platform
        </label>
      </Form>
    </Dialog>
  );
}

const PAGE = 100;

function Audit() {
  const [filter, setFilter] = useState({ user: "", action: "" });
  const search = useAction();
  const events = usePaged<AuditEvent>(
    async (beforeSequence, signal) => {
      const request = { beforeSequence: beforeSequence || "0", pageSize: PAGE, ...filter };
      const page = await call("IdentityService/ListAuditEvents", request, signal);
      const next = page.events.length < PAGE ? "" : (page.events.at(-1)?.sequence ?? "");
      return [page.events, next];
    },
    [filter],
  );
  return (
    <section>
      <h2>Audit</h2>
      <Form
        action={search}
        submit="Search"
        onSubmit={(fields) => setFilter({ user: text(fields, "user"), action: text(fields, "action") })}
      >
        <div class="row">
          <Field label="User" name="user" />
          <Field label="Action" name="action" placeholder="DeleteProject" />
        </div>
      </Form>
      <Show of={events}>
        {(rows) => (
          <Table
            caption="Who did what, newest first"
            rows={rows}
            id={(row) => row.sequence}
            nothing="Nothing was found."
            columns={[
              { title: "When", cell: (row) => when(row.time) },
              { title: "User", cell: (row) => row.user || "nobody" },
              { title: "Action", cell: (row) => <code title={row.action}>{last(row.action)}</code> },
              { title: "Resource", cell: (row) => <code>{row.resource}</code> },
              { title: "Outcome", cell: (row) => row.outcome.replaceAll("_", " ").toLowerCase() },
              { title: "From", cell: (row) => row.peer },
            ]}
          />
        )}
      </Show>
      <More of={events} />
    </section>
  );
}

function Services() {
  const status = useLoaded(
    async (signal) => (await call("PlatformService/GetStatus", {}, signal)).services,
    [],
  );
  return (
    <section>
      <div class="heading">
        <h2>Services</h2>
        <button type="button" onClick={status.reload} disabled={status.loading}>
          Ask again
        </button>
      </div>
      <Show of={status}>
        {(rows) => (
          <Table
            caption="Services"
            rows={rows}
            id={(row) => row.service}
            nothing=""
            columns={[
              { title: "Service", cell: (row) => row.service },
              {
                title: "Health",
                cell: (row) => (
                  <span class={`state state-${row.health === "HEALTH_SERVING" ? "succeeded" : "failed"}`}>
                    {word(row.health, "HEALTH_")}
                  </span>
                ),
              },
              { title: "Version", cell: (row) => row.version },
              { title: "Address", cell: (row) => <code>{row.address}</code> },
            ]}
          />
        )}
      </Show>
    </section>
  );
}
