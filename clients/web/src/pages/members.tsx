import { useState } from "preact/hooks";
import { call } from "../api/call";
import type { Member, Role } from "../api/messages";
import { last, when, word } from "../format";
import { Failure, useAction } from "../parts/action";
import { Confirm, Dialog, Form } from "../parts/dialog";
import { Choice, Field, text } from "../parts/field";
import { useKeys } from "../parts/keys";
import { Show, useLoaded } from "../parts/loaded";
import { Table } from "../parts/table";
import { ROLES } from "../rights";
import type { Opened } from "./project";

export function MembersPage({ project, rights, who }: Opened) {
  const [adding, setAdding] = useState(false);
  const [leaving, setLeaving] = useState<Member | undefined>(undefined);
  const action = useAction();
  useKeys(rights.manage ? { n: () => setAdding(true) } : {});
  const members = useLoaded(
    async (signal) => (await call("DatastoreService/ListMembers", { parent: project.name }, signal)).members,
    [project.name],
  );
  const change = (member: Member, role: string) =>
    action
      .run(
        () => call("DatastoreService/SetMember", { member: { name: member.name, role: role as Role } }),
        `${last(member.name)} is now ${word(role, "ROLE_")}.`,
      )
      .then(members.reload);
  // Owners are made and unmade by owners alone.
  const mayChange = (member: Member) => rights.own || (rights.manage && member.role !== "ROLE_OWNER");
  return (
    <section>
      <div class="heading">
        <h2>Members</h2>
        {rights.manage && (
          <button type="button" class="main" onClick={() => setAdding(true)}>
            Add a member
          </button>
        )}
      </div>
      <Failure of={action} />
      <Show of={members}>
        {(rows) => (
          <Table
            caption="Members"
            rows={rows}
            id={(row) => row.name}
            nothing="Nobody yet; administrators see every project."
            columns={[
              {
                title: "User",
                cell: (row) => `${last(row.name)}${last(row.name) === who.userId ? " (you)" : ""}`,
              },
              {
                title: "Role",
                cell: (row) =>
                  mayChange(row) ? (
                    <RoleChoice member={row} own={rights.own} change={(role) => change(row, role)} />
                  ) : (
                    word(row.role, "ROLE_")
                  ),
              },
              { title: "Since", cell: (row) => when(row.createTime) },
              {
                title: "Do",
                cell: (row) =>
                  mayChange(row) && (
                    <button
                      type="button"
                      class="small"
                      aria-label={`Remove ${last(row.name)}`}
                      onClick={() => setLeaving(row)}
                    >
                      Remove
                    </button>
                  ),
              },
            ]}
          />
        )}
      </Show>
      {adding && (
        <NewMember
          project={project.name}
          own={rights.own}
          isAdmin={who.isAdmin}
          close={() => setAdding(false)}
          done={members.reload}
        />
      )}
      {leaving && (
        <Confirm
          title={`Remove ${last(leaving.name)}?`}
          verb="Remove"
          done={`${last(leaving.name)} is no member any more.`}
          close={() => setLeaving(undefined)}
          work={() => call("DatastoreService/RemoveMember", { name: leaving.name }).then(members.reload)}
        >
          <p>What they annotated stays. They can be added again.</p>
        </Confirm>
      )}
    </section>
  );
}

const roles = (own: boolean) => ROLES.filter(([role]) => own || role !== "ROLE_OWNER");

function RoleChoice({
  member,
  own,
  change,
}: {
  member: Member;
  own: boolean;
  change: (role: string) => void;
}) {
  return (
    <select
      aria-label={`Role of ${last(member.name)}`}
      value={member.role}
      onChange={(event) => change(event.currentTarget.value)}
    >
      {roles(own).map(([role]) => (
        <option key={role} value={role}>
          {word(role, "ROLE_")}
        </option>
      ))}
    </select>
  );
}

interface NewMemberProps {
  project: string;
  own: boolean;
  isAdmin: boolean;
  close: () => void;
  done: () => void;
}

function NewMember({ project, own, isAdmin, close, done }: NewMemberProps) {
  const action = useAction();
  // Only administrators may list users; the others know whom they add.
  const users = useLoaded(
    async (signal) =>
      isAdmin ? (await call("IdentityService/ListUsers", { pageSize: 500 }, signal)).users : [],
    [isAdmin],
  );
  const submit = async (fields: FormData) => {
    const member = { name: `${project}/members/${text(fields, "user")}`, role: text(fields, "role") as Role };
    if (await action.run(() => call("DatastoreService/SetMember", { member }), "The member is added.")) {
      done();
      close();
    }
  };
  return (
    <Dialog title="Add a member" close={close}>
      <Form action={action} submit="Add" cancel={close} onSubmit={submit}>
        <Field
          label="User id"
          name="user"
          required
          pattern="[^\/]+"
          list="users"
          autocapitalize="none"
          autofocus
        />
        <datalist id="users">
          {(users.value ?? []).map((user) => (
            <option key={user.name} value={last(user.name)}>
              {user.displayName}
            </option>
          ))}
        </datalist>
        <Choice label="Role" name="role" value="ROLE_ANNOTATOR" options={roles(own)} />
      </Form>
    </Dialog>
  );
}
