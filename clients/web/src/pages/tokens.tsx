import { useState } from "preact/hooks";
import { call } from "../api/call";
import type { Token } from "../api/messages";
import { last, when } from "../format";
import { useAction } from "../parts/action";
import { CopyText } from "../parts/copy";
import { Confirm, Dialog, Form } from "../parts/dialog";
import { Choice, Field, text } from "../parts/field";
import { useKeys } from "../parts/keys";
import { Show, useLoaded } from "../parts/loaded";
import { Table } from "../parts/table";

/** API tokens of a user: `parent` is users/{user}. */
export function Tokens({ parent }: { parent: string }) {
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<Token | undefined>(undefined);
  useKeys({ n: () => setMaking(true) });
  const tokens = useLoaded(
    async (signal) => (await call("IdentityService/ListTokens", { parent }, signal)).tokens,
    [parent],
  );
  return (
    <>
      <div class="heading">
        <h2>API tokens</h2>
        <button type="button" class="main" onClick={() => setMaking(true)}>
          New token
        </button>
      </div>
      <p class="hint">
        For programs: the SDK, the command line, napari, 3D Slicer. A token may do what its user may.
      </p>
      <Show of={tokens}>
        {(rows) => (
          <Table
            caption="API tokens"
            rows={rows}
            id={(row) => row.name}
            nothing="No tokens."
            columns={[
              {
                title: "Token",
                cell: (row) => (
                  <>
                    {row.displayName || "without a name"} <div class="hint">{last(row.name)}</div>
                  </>
                ),
              },
              { title: "Scopes", cell: (row) => row.scopes.join(", ") || "all" },
              { title: "Made", cell: (row) => when(row.createTime) },
              { title: "Last used", cell: (row) => when(row.lastUseTime) || "never" },
              { title: "Ends", cell: (row) => when(row.expireTime) || "never" },
              {
                title: "Do",
                cell: (row) => (
                  <button
                    type="button"
                    class="small"
                    aria-label={`Revoke ${row.displayName || last(row.name)}`}
                    onClick={() => setEnding(row)}
                  >
                    Revoke
                  </button>
                ),
              },
            ]}
          />
        )}
      </Show>
      {making && <NewToken parent={parent} close={() => setMaking(false)} done={tokens.reload} />}
      {ending && (
        <Confirm
          title={`Revoke ${ending.displayName || last(ending.name)}?`}
          verb="Revoke"
          done="The token is revoked."
          close={() => setEnding(undefined)}
          work={() => call("IdentityService/RevokeToken", { name: ending.name }).then(tokens.reload)}
        >
          <p>Programs that use it are refused from now on.</p>
        </Confirm>
      )}
    </>
  );
}

const SCOPES = [
  ["", "do all that its user may"],
  ["read", "read"],
  ["annotate", "read and annotate"],
  ["manage", "read, annotate and manage"],
] as const;

function scopesOf(scope: string, project: string): string[] {
  if (!scope && !project) return [];
  // Nothing includes more than `manage` within one project.
  return [project ? `${scope || "manage"}:projects/${project}` : scope];
}

function NewToken({ parent, close, done }: { parent: string; close: () => void; done: () => void }) {
  const action = useAction();
  const [secret, setSecret] = useState("");
  const submit = (fields: FormData) =>
    action.run(async () => {
      const days = Number(text(fields, "days"));
      const token = {
        displayName: text(fields, "name"),
        scopes: scopesOf(text(fields, "scope"), text(fields, "project")),
        ...(days ? { expireTime: new Date(Date.now() + days * 86_400_000).toISOString() } : {}),
      };
      setSecret((await call("IdentityService/CreateToken", { parent, token })).secret);
      done();
    });
  return (
    <Dialog title="New token" close={close}>
      {secret ? (
        <>
          <p>This is the token. It is not shown again.</p>
          <CopyText text={secret} />
        </>
      ) : (
        <Form action={action} submit="Make token" cancel={close} onSubmit={submit}>
          <Field label="What it is for" name="name" maxLength={200} required autofocus />
          <Choice label="May be used to" name="scope" options={SCOPES} />
          <Field
            label="Only in the project"
            name="project"
            pattern="[a-z0-9\-]{1,63}"
            hint="Its id; in all of your projects when empty."
          />
          <Field
            label="Ends after, days"
            name="days"
            type="number"
            min="1"
            step="1"
            hint="Never when empty."
          />
        </Form>
      )}
    </Dialog>
  );
}
