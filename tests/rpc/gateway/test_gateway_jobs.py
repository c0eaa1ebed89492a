from __future__ import annotations

import asyncio
import uuid

import pytest

from biosegment.api.job.v1alpha1 import job_pb2 as pb
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from biosegment.errors import InvalidArgument, NotFound, Unavailable
from biosegment.rpc.call import bearer
from tests.rpc.gateway.conftest import Upstreams

IMPORT = pb.JobSpec(import_volume=pb.ImportVolumeSpec(uri="file:///volume.tif"))
TRAIN = pb.JobSpec(train=pb.TrainSpec(seed=1))


@pytest.fixture
def stub(client) -> JobServiceStub:
    return JobServiceStub(client)


async def create(stub: JobServiceStub, spec: pb.JobSpec) -> pb.Job:
    request = pb.CreateJobRequest(project="projects/p", spec=spec, request_id=str(uuid.uuid4()))
    job = (await stub.CreateJob(request)).job
    await asyncio.sleep(0.002)  # ids sort by the millisecond
    return job


async def test_each_kind_of_job_is_made_where_it_runs(stub):
    assert (await create(stub, IMPORT)).name.startswith("jobs/datastore-")
    assert (await create(stub, TRAIN)).name.startswith("jobs/trainer-")


@pytest.mark.parametrize("spec", [IMPORT, TRAIN])
async def test_a_job_is_found_watched_cancelled_and_retried_by_its_name(stub, spec):
    job = await create(stub, spec)
    assert (await stub.GetJob(pb.GetJobRequest(name=job.name))).job.name == job.name
    watch = stub.WatchJob(pb.WatchJobRequest(name=job.name))
    states = []
    async for answer in watch:
        states.append(answer.job.state)
        if len(states) == 1:
            await stub.CancelJob(pb.CancelJobRequest(name=job.name))
    assert states == [pb.Job.STATE_QUEUED, pb.Job.STATE_CANCELLED]
    retried = (await stub.RetryJob(pb.RetryJobRequest(name=job.name))).job
    assert retried.state == pb.Job.STATE_QUEUED
    await stub.ListJobLogs(pb.ListJobLogsRequest(name=job.name))


async def test_the_list_holds_the_jobs_of_all_services_newest_first(stub):
    made = [(await create(stub, spec)).name for spec in (IMPORT, TRAIN, TRAIN, IMPORT, TRAIN, IMPORT, IMPORT)]
    listed, token = [], ""
    while True:
        page = await stub.ListJobs(pb.ListJobsRequest(project="projects/p", page_size=3, page_token=token))
        listed += [job.name for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert listed == made[::-1]


async def test_the_list_can_be_limited_to_states(stub):
    kept = await create(stub, TRAIN)
    ended = await create(stub, IMPORT)
    await stub.CancelJob(pb.CancelJobRequest(name=ended.name))
    page = await stub.ListJobs(pb.ListJobsRequest(states=[pb.Job.STATE_QUEUED]))
    assert [job.name for job in page.jobs] == [kept.name]


async def test_a_list_without_one_of_the_services_is_refused(stub, upstreams: Upstreams):
    await create(stub, IMPORT)
    await upstreams.servers["trainer"].stop(0)
    with pytest.raises(Unavailable, match="the trainer cannot be reached"):
        await stub.ListJobs(pb.ListJobsRequest())


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("jobs/datastore-01hzzzzzzzzzzzzzzzzzzzzzzz", NotFound),
        ("jobs/trainer-nothing", NotFound),
        ("jobs/sampler-1", InvalidArgument),
        ("jobs/x", InvalidArgument),
        ("", InvalidArgument),
    ],
)
async def test_names_of_no_job_are_refused(stub, name, error):
    with pytest.raises(error):
        await stub.GetJob(pb.GetJobRequest(name=name))


async def test_a_spec_without_a_kind_and_bytes_that_are_no_message_are_refused(stub, client):
    with pytest.raises(InvalidArgument) as caught:
        await stub.CreateJob(pb.CreateJobRequest(project="projects/p"))
    assert caught.value.reason == "NO_JOB_KIND"
    for method in ("CreateJob", "GetJob", "WatchJob"):
        with pytest.raises(InvalidArgument) as caught:
            await client.unary_unary(f"/biosegment.api.job.v1alpha1.JobService/{method}")(b"\xff\xff\xff")
        assert caught.value.reason == "BAD_MESSAGE"


async def test_the_services_decide_who_may_see_jobs(stub, client, make_user):
    job = await create(stub, TRAIN)
    metadata = bearer(await make_user("eve"))
    with pytest.raises(NotFound):
        await stub.GetJob(pb.GetJobRequest(name=job.name), metadata=metadata)
    with pytest.raises(NotFound):
        await stub.ListJobs(pb.ListJobsRequest(project="projects/p"), metadata=metadata)
