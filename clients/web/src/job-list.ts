import type { Job } from "./api/messages";

/** A list with a job in its present state; what is older than what the list has changes nothing. */
export function withJob(rows: Job[], job: Job): Job[] {
  const index = rows.findIndex((row) => row.name === job.name);
  const known = rows[index];
  if (known) {
    if (Number(job.revision) < Number(known.revision)) return rows;
    return rows.map((row) => (row === known ? job : row));
  }
  // Older jobs than those that are shown belong to pages that nobody asked for.
  const last = rows.at(-1);
  if (last && madeAt(job) < madeAt(last)) return rows;
  return [job, ...rows].sort((one, other) => madeAt(other) - madeAt(one));
}

// As text, a whole second would come after its parts.
const madeAt = (job: Job): number => Date.parse(job.createTime ?? "") || 0;
