"""Long work that survives restarts, for every service that has some.

`job` is the domain, `queue` says whose turn it is, `tables`, `row`, `line` and `sql` keep the rows, `runner` works them
off, `watch` follows them, `service` holds the use cases and `servicer` serves them over gRPC. A service wires them in
its composition root:

    jobs = SqlJobs(database, "datastore", JobSignal())
    runner = JobRunner(jobs, {"import_volume": import_volume, "export": export}, RunnerLimits(concurrent=2))
    kinds = {"import_volume": JobKind(Permission.VOLUME_WRITE, prepare_import), ...}
    servicer = JobServicer(JobService(jobs, authorizer, kinds))
    server.add(add_JobServiceServicer_to_server, servicer, JOB_SERVICE)
    await run_until_signal(server, settings.shutdown_grace_s, runner.run())

and calls `create_job_tables_v1(op)` in its migration 0001.
"""

from biosegment.jobs.job import Job, JobError, JobResult, JobState, LogLine, Progress, Resources
from biosegment.jobs.runner import JobCancelled, JobContext, JobCrashed, JobRunner, RunnerLimits
from biosegment.jobs.service import JobKind, JobService
from biosegment.jobs.signal import JobSignal
from biosegment.jobs.sql import SqlJobs

__all__ = [
    "Job",
    "JobCancelled",
    "JobContext",
    "JobCrashed",
    "JobError",
    "JobKind",
    "JobResult",
    "JobRunner",
    "JobService",
    "JobSignal",
    "JobState",
    "LogLine",
    "Progress",
    "Resources",
    "RunnerLimits",
    "SqlJobs",
]
