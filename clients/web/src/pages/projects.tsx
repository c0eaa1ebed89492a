import { useState } from "preact/hooks";
import { call, requestId } from "../api/call";
import type { LabelClass, Project } from "../api/messages";
import { last, when } from "../format";
import { useAction } from "../parts/action";
import { ClassEditor, Classes } from "../parts/classes";
import { Dialog, Form } from "../parts/dialog";
import { Field, number, text } from "../parts/field";
import { useKeys } from "../parts/keys";
import { More, Show, usePaged } from "../parts/loaded";
import { Table } from "../parts/table";
import { useTitle } from "../parts/title";
import { go } from "../route";

export function ProjectsPage() {
  useTitle("Projects");
  const [making, setMaking] = useState(false);
  useKeys({ n: () => setMaking(true) });
  const projects = usePaged<Project>(async (pageToken, signal) => {
    const page = await call("DatastoreService/ListProjects", { pageToken }, signal);
    return [page.projects, page.nextPageToken];
  }, []);
  return (
    <>
      <div class="heading">
        <h1>Projects</h1>
        <button type="button" class="main" onClick={() => setMaking(true)}>
          New project
        </button>
      </div>
      <Show of={projects}>
        {(rows) => (
          <Table
            caption="Projects"
            rows={rows}
            id={(row) => row.name}
            nothing="You are in no project yet. Make one, or ask somebody who manages one to add you."
            columns={[
              {
                title: "Project",
                cell: (row) => (
                  <>
                    <a href={`/${row.name}`} data-row>
                      {row.displayName || last(row.name)}
                    </a>
                    <div class="hint">{last(row.name)}</div>
                  </>
                ),
              },
              { title: "Classes", cell: (row) => <Classes of={row.classes} /> },
              { title: "Resolution", number: true, cell: (row) => `${row.workingResolutionNm} nm` },
              { title: "Made", cell: (row) => when(row.createTime) },
            ]}
          />
        )}
      </Show>
      <More of={projects} />
      {making && <NewProject close={() => setMaking(false)} />}
    </>
  );
}

function NewProject({ close }: { close: () => void }) {
  const action = useAction();
  const [id] = useState(requestId);
  const [classes, setClasses] = useState<LabelClass[]>([
    { value: 0, displayName: "mitochondria", colorRgb: 0xe6194b },
  ]);
  const submit = (fields: FormData) =>
    action.run(async () => {
      const { project } = await call("DatastoreService/CreateProject", {
        projectId: text(fields, "id"),
        requestId: id,
        project: {
          displayName: text(fields, "name"),
          description: text(fields, "description"),
          workingResolutionNm: number(fields, "resolution"),
          classes,
        },
      });
      close();
      go(`/${project?.name}`);
    }, "The project is made.");
  return (
    <Dialog title="New project" close={close}>
      <Form action={action} submit="Make project" cancel={close} onSubmit={submit}>
        <Field label="Name" name="name" required maxLength={200} autofocus />
        <Field
          label="Id"
          name="id"
          pattern="[a-z0-9\-]{1,63}"
          hint="In addresses and commands: a to z, 0 to 9 and -; made up when empty. It cannot be changed."
        />
        <Field label="Description" name="description" maxLength={10000} />
        <Field
          label="Working resolution, nm per pixel"
          name="resolution"
          type="number"
          min="0.1"
          step="any"
          placeholder="10"
          hint="At which samples are shown, models trained and volumes predicted: 8 to 10 nm for mitochondria."
        />
        <ClassEditor classes={classes} change={setClasses} />
      </Form>
    </Dialog>
  );
}
