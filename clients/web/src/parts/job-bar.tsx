import type { Job } from "../api/messages";
import { jobKind, jobProgress, jobState, jobSubject, last } from "../format";

export const jobAddress = (job: Job): string => `/${job.project}/jobs/${last(job.name)}`;

/** A job in one line, with its bar while it runs. */
export function JobBar({ job }: { job: Job }) {
  return (
    <div class="job-bar">
      <a href={jobAddress(job)}>
        {jobKind(job)} {jobSubject(job)}
      </a>
      <State job={job} />
      <Bar job={job} />
      <span class="hint">{jobProgress(job)}</span>
    </div>
  );
}

export function State({ job }: { job: Job }) {
  const state = jobState(job);
  return <span class={`state state-${state}`}>{state}</span>;
}

export function Bar({ job }: { job: Job }) {
  if (job.state !== "STATE_RUNNING") return null;
  const fraction = job.progress?.fraction ?? 0;
  const name = `${jobKind(job)} ${jobSubject(job)}`;
  return <progress max={1} value={fraction} aria-label={name} title={`${Math.round(fraction * 100)} %`} />;
}
