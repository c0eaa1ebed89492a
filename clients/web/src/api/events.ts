import { useEffect, useRef, useState } from "preact/hooks";
import { withJob } from "../job-list";
import { type Paged, usePaged } from "../parts/loaded";
import { call, connection, lose } from "./call";
import type { Job, WatchJobsResponse, WatchSamplesResponse } from "./messages";
import { whoAmI } from "./session";

type Topic = "jobs" | "samples";
type Follower = (data: string) => void;

const AGAIN_MS = 5000;

/** One stream of events, shared by all parts of the page that follow it: browsers open few connections to a host. */
class Stream {
  private source: EventSource | undefined;
  private timer = 0;
  readonly followers = new Set<Follower>();

  constructor(private readonly url: string) {
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  close(): void {
    document.removeEventListener("visibilitychange", this.look);
    this.stop();
  }

  private stop(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = undefined;
  }

  // A page that nobody sees leaves its connection to others.
  private look = (): void => {
    if (document.hidden) this.stop();
    else if (!this.source) this.open();
  };

  private open(): void {
    const source = new EventSource(this.url);
    this.source = source;
    source.onmessage = (event: MessageEvent<string>) => {
      for (const follower of [...this.followers]) follower(event.data);
    };
    source.onerror = () => {
      // It connects again by itself and asks for what it missed, unless the gateway has answered with an error.
      if (source.readyState === EventSource.CONNECTING) {
        ping();
        return;
      }
      this.stop();
      this.timer = window.setTimeout(this.look, AGAIN_MS);
      whoAmI().catch(() => {});
    };
  }
}

/** The stream ended: by its age, which is nothing, or because nobody is there. */
async function ping(): Promise<void> {
  if (connection.value.lost) return;
  try {
    await fetch("/healthz", { cache: "no-store" });
  } catch {
    lose();
  }
}

const streams = new Map<string, Stream>();

function follow(topic: Topic, project: string, follower: Follower): () => void {
  const url = `/api/events/${topic}?project=${encodeURIComponent(project)}`;
  const stream = streams.get(url) ?? new Stream(url);
  streams.set(url, stream);
  stream.followers.add(follower);
  return () => {
    stream.followers.delete(follower);
    if (stream.followers.size) return;
    streams.delete(url);
    stream.close();
  };
}

function useEvents(topic: Topic, project: string, follower: Follower): void {
  const present = useRef(follower);
  present.current = follower;
  useEffect(() => follow(topic, project, (data) => present.current(data)), [topic, project]);
}

/** Each job of a project that changes, as it is then. */
export function useJobEvents(project: string, changed: (job: Job) => void): void {
  useEvents("jobs", project, (data) => {
    const { job } = JSON.parse(data) as WatchJobsResponse;
    if (job) changed(job);
  });
}

/** Jobs of a project, newest first, as they are now. */
export function useLiveJobs(
  project: string,
  changed?: (job: Job) => void,
): Paged<Job> & { put: (job: Job) => void } {
  const jobs = usePaged<Job>(
    async (pageToken, signal) => {
      const page = await call("JobService/ListJobs", { project, pageToken }, signal);
      return [page.jobs, page.nextPageToken];
    },
    [project],
  );
  // Kept beside the list: what happens while a list is on its way would be lost with the one before.
  const [seen, setSeen] = useState<ReadonlyMap<string, Job>>(new Map());
  const put = (job: Job) => {
    if (job.project !== project) return;
    setSeen((before) => new Map(before).set(job.name, job));
    changed?.(job);
  };
  useJobEvents(project, put);
  const here = [...seen.values()].filter((job) => job.project === project);
  return { ...jobs, put, value: jobs.value && here.reduce(withJob, jobs.value) };
}

const PAUSE_MS = 5000;

/** That samples of a project have changed, at most every few seconds. */
export function useSampleEvents(project: string, changed: () => void): void {
  const present = useRef(changed);
  present.current = changed;
  useEffect(() => {
    let timer = 0;
    const end = follow("samples", project, (data) => {
      if (!(JSON.parse(data) as WatchSamplesResponse).sample || timer) return;
      timer = window.setTimeout(() => {
        timer = 0;
        present.current();
      }, PAUSE_MS);
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [project]);
}
