import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/call";
import { artifactAddress } from "../api/download";
import { useJobEvents } from "../api/events";
import type { Job, JobLogLine } from "../api/messages";
import { ended, jobKind, jobProgress, jobSubject, last, rounded, when } from "../format";
import { Failure, useAction } from "../parts/action";
import { Bar, State } from "../parts/job-bar";
import { Show, useLoaded } from "../parts/loaded";
import type { Opened } from "./project";

const LOG_PAUSE_MS = 5000;

/** One job: how far it is, what it says, what it made; with its log as it grows. */
export function JobPage({ project, rights, who, name }: Opened & { name: string }) {
  const loaded = useLoaded(async (signal) => (await call("JobService/GetJob", { name }, signal)).job, [name]);
  useJobEvents(project.name, (job) => {
    if (job.name === name) loaded.set(job);
  });
  const action = useAction();
  return (
    <section>
      <Show of={loaded}>
        {(job) =>
          job && (
            <>
              <div class="heading">
                <p class="crumbs">
                  <a href={`/${project.name}/jobs`}>Jobs</a> /
                </p>
                <h2>
                  {jobKind(job)} {jobSubject(job)}
                </h2>
                <Buttons
                  job={job}
                  mayStop={rights.manage || job.owner === who.userId}
                  action={action}
                  put={loaded.set}
                />
              </div>
              <Failure of={action} />
              <p>
                <State job={job} /> <Bar job={job} />{" "}
                <span class={job.error ? "failure" : ""}>{jobProgress(job)}</span>
              </p>
              <Facts job={job} />
              <Result job={job} />
              <Log job={job} />
            </>
          )
        }
      </Show>
    </section>
  );
}

interface ButtonsProps {
  job: Job;
  mayStop: boolean;
  action: ReturnType<typeof useAction>;
  put: (job: Job | undefined) => void;
}

function Buttons({ job, mayStop, action, put }: ButtonsProps) {
  if (!mayStop) return null;
  const { name } = job;
  const cancel = () =>
    action.run(
      async () => put((await call("JobService/CancelJob", { name })).job),
      "The job is asked to stop.",
    );
  const retry = () =>
    action.run(
      async () => put((await call("JobService/RetryJob", { name })).job),
      "The job is queued again.",
    );
  if (!ended(job)) {
    return (
      <button type="button" class="danger" onClick={cancel} disabled={action.busy || job.cancelRequested}>
        Cancel the job
      </button>
    );
  }
  if (job.state === "STATE_SUCCEEDED") return null;
  return (
    <button type="button" class="main" onClick={retry} disabled={action.busy}>
      Try again
    </button>
  );
}

function Facts({ job }: { job: Job }) {
  const rows: [string, string][] = [
    ["Asked for by", `${job.owner || "the platform"}, ${when(job.createTime)}`],
    ["Began", when(job.startTime)],
    ["Ended", when(job.endTime)],
    ["Attempt", job.attempt > 1 ? String(job.attempt) : ""],
    ...Object.entries(job.metrics).map(([key, value]): [string, string] => [
      key.replaceAll("_", " "),
      rounded(value),
    ]),
    ["Name", job.name],
  ];
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

function Result({ job }: { job: Job }) {
  const result = job.result;
  if (!result) return null;
  const files = result.artifacts.length ? result.artifacts : result.artifact ? [result.artifact] : [];
  const volume = result.volume || result.layers[0]?.split("/").slice(0, 4).join("/");
  return (
    <>
      <h3>Made</h3>
      <ul class="made">
        {volume && (
          <li>
            <a href={`/${volume}`}>
              {result.layers.length ? `${result.layers.length} layers of ` : ""}volume {last(volume)}
            </a>
          </li>
        )}
        {result.model && (
          <li>
            <a href={`/${job.project}/models`}>model {last(result.model)}</a>
          </li>
        )}
        {files.map((file) => (
          <li key={file}>
            <Artifact name={file} />
          </li>
        ))}
        {result.annotations.length > 0 && <li>{result.annotations.length} annotations</li>}
      </ul>
    </>
  );
}

function Artifact({ name }: { name: string }) {
  const loaded = useLoaded(
    async (signal) => (await call("DatastoreService/GetArtifact", { name }, signal)).artifact,
    [name],
  );
  return (
    <Show of={loaded}>
      {(file) =>
        file && (
          <a href={artifactAddress(name)} download={file.fileName}>
            {file.fileName}
          </a>
        )
      }
    </Show>
  );
}

/** Lines are asked for when the job has changed, and every few seconds while it runs. */
function Log({ job }: { job: Job }) {
  const [lines, setLines] = useState<JobLogLine[]>([]);
  const box = useRef<HTMLElement>(null);
  const following = useRef(true);
  const seen = useRef("0");
  const over = ended(job);
  useEffect(() => {
    const control = new AbortController();
    const read = async () => {
      for (;;) {
        const request = { name: job.name, afterLine: seen.current, pageSize: 1000 };
        const { lines: fresh } = await call("JobService/ListJobLogs", request, control.signal);
        if (control.signal.aborted || !fresh.length) return;
        seen.current = fresh.at(-1)?.line ?? seen.current;
        setLines((before) => [...before, ...fresh].slice(-5000));
      }
    };
    // A broken connection is said at the top of the page, and the next change of the job reads on.
    const again = () => read().catch(() => {});
    again();
    const timer = over ? 0 : setInterval(again, LOG_PAUSE_MS);
    return () => {
      control.abort();
      clearInterval(timer);
    };
  }, [job.name, job.state, job.progress?.step, over]);
  useEffect(() => {
    if (following.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current ?? {
      scrollTop: 0,
      scrollHeight: 0,
      clientHeight: 0,
    };
    following.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  return (
    <>
      <h3>Log</h3>
      {lines.length ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: one scrolls it with the keyboard
        <section class="log" ref={box} onScroll={scrolled} tabIndex={0} aria-label="Log of the job">
          <pre>
            {lines.map((line) => `${new Date(line.time ?? 0).toLocaleTimeString()}  ${line.text}\n`).join("")}
          </pre>
        </section>
      ) : (
        <p class="hint">{over ? "It has no lines." : "Nothing yet."}</p>
      )}
    </>
  );
}
