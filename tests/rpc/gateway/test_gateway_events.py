from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import pytest
from biosegment_gateway.gateway import open_gateway

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.job.v1alpha1.job_pb2_grpc import JobServiceStub
from tests.rpc.gateway.conftest import Upstreams
from tests.rpc.gateway.event_stream import open_events

CREATE = {"project": "projects/p", "spec": {"importVolume": {"uri": "/data/raw.tif"}}}
TRAIN = {"project": "projects/p", "spec": {"train": {}}}


@pytest.fixture
def signed(web, admin_token) -> httpx.AsyncClient:
    web.headers["authorization"] = f"Bearer {admin_token}"
    return web


async def create(web: httpx.AsyncClient, number: int, spec: dict) -> str:
    body = {**spec, "requestId": f"00000000-0000-4000-8000-{number:012}"}
    answer = await web.post("/api/JobService/CreateJob", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job"]["name"])


async def test_jobs_of_all_services_arrive_as_they_change(signed):
    first = await create(signed, 1, CREATE)
    async with open_events(signed, "jobs", "projects/p") as events:
        assert events.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.response.headers["cache-control"] == "no-store"
        assert events.response.headers["x-accel-buffering"] == "no"
        _, job = await events.next_job("STATE_QUEUED")
        assert job["name"] == first
        second = await create(signed, 2, TRAIN)
        _, job = await events.next_job("STATE_QUEUED")
        assert (job["name"], job["revision"]) == (second, "1")
        await signed.post("/api/JobService/CancelJob", json={"name": first})
        event, job = await events.next_job("STATE_CANCELLED")
        assert job["name"] == first
        assert event.data["resumeToken"] == event.id


async def test_who_comes_back_with_the_last_id_misses_nothing(signed):
    names = {await create(signed, number, spec) for number, spec in ((1, CREATE), (2, TRAIN))}
    async with open_events(signed, "jobs", "projects/p") as events:
        token = ""
        while not token:
            token = (await events.next()).id
    for name in names:
        await signed.post("/api/JobService/CancelJob", json={"name": name})
    third = await create(signed, 3, CREATE)
    async with open_events(signed, "jobs", "projects/p", token) as events:
        seen: set[str] = set()
        while seen != names | {third}:
            event = await events.next()
            if event.data:
                wanted = "STATE_QUEUED" if event.data["job"]["name"] == third else "STATE_CANCELLED"
                assert event.data["job"]["state"] == wanted
                seen.add(event.data["job"]["name"])


async def test_a_stream_that_begins_anew_tells_of_no_job_that_has_ended(signed):
    name = await create(signed, 1, CREATE)
    await signed.post("/api/JobService/CancelJob", json={"name": name})
    async with open_events(signed, "jobs", "projects/p") as events:
        assert (await events.next()).data is None
        second = await create(signed, 2, CREATE)
        assert (await events.next_job("STATE_QUEUED"))[1]["name"] == second


async def test_samples_arrive_and_go_on_after_the_last_id(signed, upstreams: Upstreams):
    await upstreams.sampler.change("a")
    async with open_events(signed, "samples", "projects/p") as events:
        event = await events.next()
        assert (event.id, event.data["sample"]["name"]) == ("1", "projects/p/samples/a")
    await upstreams.sampler.change("b")
    async with open_events(signed, "samples", "projects/p", event.id) as events:
        assert (await events.next()).data["sample"]["name"] == "projects/p/samples/b"


async def test_a_client_that_leaves_ends_the_stream_of_the_service(signed, running, upstreams: Upstreams):
    async with open_events(signed, "samples", "projects/p") as events:
        assert (await events.next()).id == "0"
        await upstreams.sampler.until_watched(1)
    await upstreams.sampler.until_watched(0)


async def test_streams_end_when_the_gateway_stops_and_hold_it_up_for_no_moment(
    upstreams: Upstreams, make_settings, tmp_path
):
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(make_settings(upstreams.addresses)))
        token = (tmp_path / "admin-token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=f"http://{gateway.http_address}", headers=headers, timeout=60
        ) as web:
            async with open_events(web, "samples", "projects/p") as events:
                await events.next()
                loop = asyncio.get_running_loop()
                started = loop.time()
                await gateway.http.stop()
                assert loop.time() - started < 2.5  # the server itself would wait three seconds
                with pytest.raises(EOFError):
                    await events.next()
        await upstreams.sampler.until_watched(0)


async def test_what_is_wrong_from_the_beginning_has_a_status_of_its_own(signed):
    for path, status, reason in (
        ("samples?project=projects/none", 404, "PROJECT_NOT_FOUND"),
        ("jobs?project=nonsense", 400, "BAD_NAME"),
        ("jobs", 400, "NO_PROJECT"),
        ("nothing?project=projects/p", 404, "NO_SUCH_ENDPOINT"),
    ):
        answer = await signed.get(f"/api/events/{path}")
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)


async def test_an_id_that_is_none_of_ours_is_refused(signed):
    for token in ("x", "-1", "9" * 30, "\xff", "eyJhIjogMX0=", "bnVsbA==", "WzE=" * 1000):
        headers = {"last-event-id": token.encode("latin-1")}
        answer = await signed.get("/api/events/jobs?project=projects/p", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_RESUME_TOKEN"), token


async def test_only_the_verb_get_is_served_and_a_head_ends_at_once(signed, upstreams: Upstreams):
    assert (await signed.post("/api/events/jobs?project=projects/p")).status_code == 405
    answer = await signed.head("/api/events/samples?project=projects/p")
    assert (answer.status_code, answer.content) == (200, b"")
    await upstreams.sampler.until_watched(0)


async def test_one_user_has_so_many_streams_and_no_more(upstreams: Upstreams, make_settings, tmp_path):
    settings = make_settings(upstreams.addresses, max_event_streams=2)
    async with open_gateway(settings) as gateway, AsyncExitStack() as stack:
        token = (tmp_path / "admin-token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        web = httpx.AsyncClient(base_url=f"http://{gateway.http_address}", headers=headers, timeout=60)
        await stack.enter_async_context(web)
        first = await stack.enter_async_context(open_events(web, "samples", "projects/p"))
        async with open_events(web, "samples", "projects/p") as second:
            await asyncio.gather(first.next(), second.next())
            async with open_events(web, "samples", "projects/p") as third:
                assert third.response.status_code == 429
                assert json.loads(await third.response.aread())["reason"] == "TOO_MANY_STREAMS"
        await upstreams.sampler.until_watched(1)
        async with open_events(web, "samples", "projects/p") as again:
            assert again.response.status_code == 200


async def test_watching_over_grpc_is_merged_too(client, upstreams: Upstreams):
    stub = JobServiceStub(client)
    specs = (
        job_pb2.JobSpec(import_volume=job_pb2.ImportVolumeSpec(uri="/data/raw.tif")),
        job_pb2.JobSpec(train=job_pb2.TrainSpec()),
    )
    names = set()
    for number, spec in enumerate(specs):
        request = job_pb2.CreateJobRequest(
            project="projects/p", spec=spec, request_id=f"00000000-0000-4000-8000-{number:012}"
        )
        names.add((await stub.CreateJob(request)).job.name)
    call = stub.WatchJobs(job_pb2.WatchJobsRequest(project="projects/p"))
    seen, token = set(), ""
    async with asyncio.timeout(10):
        async for answer in call:
            seen.add(answer.job.name)
            token = answer.resume_token
            if seen == names:
                break
    call.cancel()
    assert token
