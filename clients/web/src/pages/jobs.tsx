import { useState } from "preact/hooks";
import { call, requestId } from "../api/call";
import { useLiveJobs } from "../api/events";
import type { Job } from "../api/messages";
import { ended, jobKind, jobProgress, jobSubject, when } from "../format";
import { Failure, useAction } from "../parts/action";
import { Bar, jobAddress, State } from "../parts/job-bar";
import { More, Show } from "../parts/loaded";
import { Table } from "../parts/table";
import type { Opened } from "./project";

export function JobsPage({ project, rights, who }: Opened) {
  const jobs = useLiveJobs(project.name);
  const action = useAction();
  const [request, setRequest] = useState(requestId);
  const train = () =>
    action
      .run(
        () =>
          call("SamplerService/RequestTraining", { parent: project.name, requestId: request, force: true }),
        "A training is queued.",
      )
      .then(() => setRequest(requestId()));
  const cancel = (job: Job) =>
    action.run(async () => {
      const answer = await call("JobService/CancelJob", { name: job.name });
      if (answer.job) jobs.put(answer.job);
    }, "The job is asked to stop.");
  const mayStop = (job: Job) =>
    !ended(job) && !job.cancelRequested && (rights.manage || job.owner === who.userId);
  return (
    <section>
      <div class="heading">
        <h2>Jobs</h2>
        {rights.manage && (
          <button type="button" onClick={train} disabled={action.busy}>
            Train now
          </button>
        )}
      </div>
      <Failure of={action} />
      <Show of={jobs}>
        {(rows) => (
          <Table
            caption="Jobs, newest first"
            rows={rows}
            id={(row) => row.name}
            nothing="No jobs yet: imports, trainings, predictions and exports are listed here."
            columns={[
              {
                title: "Job",
                cell: (row) => (
                  <>
                    <a href={jobAddress(row)} data-row>
                      {jobKind(row)}
                    </a>
                    <div class="hint">{jobSubject(row)}</div>
                  </>
                ),
              },
              { title: "State", cell: (row) => <State job={row} /> },
              {
                title: "Progress",
                cell: (row) => (
                  <>
                    <Bar job={row} />
                    <span class="hint">{jobProgress(row)}</span>
                  </>
                ),
              },
              { title: "By", cell: (row) => row.owner || "the platform" },
              { title: "Asked for", cell: (row) => when(row.createTime) },
              {
                title: "Do",
                cell: (row) =>
                  mayStop(row) && (
                    <button
                      type="button"
                      class="small"
                      aria-label={`Cancel ${jobKind(row)} ${jobSubject(row)}`}
                      onClick={() => cancel(row)}
                    >
                      Cancel
                    </button>
                  ),
              },
            ]}
          />
        )}
      </Show>
      <More of={jobs} />
    </section>
  );
}
