from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from biosegment_gateway.job import JobList, Listed, Query, service_of_job
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.auth import Kind, Principal
from biosegment.errors import InvalidArgument, Unavailable

ANN = Principal(Kind.USER, "ann")
QUERY = Query("projects/p", ())


class Rows:
    """Jobs in memory; page tokens are the id of the last job, as in SQL."""

    def __init__(self, name: str, ids: Sequence[str], largest_page: int = 500) -> None:
        self.name = name
        self.ids = set(ids)
        self.largest_page = largest_page

    async def list(self, principal, query, page_size, page_token):
        older = sorted((i for i in self.ids if not page_token or i < page_token), reverse=True)
        page = older[: min(page_size, self.largest_page)]
        return [Listed(i, f"{self.name}/{i}") for i in page], page[-1] if len(older) > len(page) else ""


async def read_all(jobs: JobList[str], size: int) -> list[list[str]]:
    pages, token = [], ""
    while True:
        page, token = await jobs.list(ANN, QUERY, size, token)
        pages.append(page)
        if not token:
            return pages


ids = st.integers(0, 9999).map(lambda n: f"{n:04}")


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(ids, st.booleans(), max_size=40),
    st.integers(1, 12),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_every_job_comes_once_newest_first_whatever_the_page_sizes(owners, size, largest):
    sources = [
        Rows(name, [i for i, first in owners.items() if first is (name == "a")], limit)
        for name, limit in zip("ab", largest, strict=True)
    ]
    pages = asyncio.run(read_all(JobList(sources), size))
    listed = [job.partition("/")[2] for page in pages for job in page]
    assert listed == sorted(owners, reverse=True)
    assert all(len(page) <= size for page in pages)
    assert all(pages[:-1])


@settings(max_examples=100, deadline=None)
@given(st.sets(ids, min_size=2, max_size=40), st.sets(ids, max_size=10), st.integers(1, 5))
def test_jobs_that_come_between_two_pages_neither_repeat_nor_hide_others(old, new, size):
    async def scenario() -> list[str]:
        first = Rows("a", [i for i in old if int(i) % 2])
        second = Rows("b", [i for i in old if not int(i) % 2])
        jobs: JobList[str] = JobList([first, second])
        page, token = await jobs.list(ANN, QUERY, size, "")
        seen = [*page]
        first.ids |= {f"z{i}" for i in new}  # newer than all
        while token:
            page, token = await jobs.list(ANN, QUERY, size, token)
            seen += page
        return [job.partition("/")[2] for job in seen]

    assert asyncio.run(scenario()) == sorted(old, reverse=True)


async def test_half_a_list_is_never_given_for_a_whole_one():
    class Away(Rows):
        async def list(self, principal, query, page_size, page_token):
            raise Unavailable("SERVICE_UNAVAILABLE", "the trainer cannot be reached")

    with pytest.raises(Unavailable, match="trainer"):
        await JobList([Rows("a", ["1"]), Away("b", [])]).list(ANN, QUERY, 10, "")


@pytest.mark.parametrize(
    "token", ["x", "e30=", "bnVsbA==", "WzEsMiwzXQ==", "é", "WyJwcm9qZWN0cy9wfCIsICIiLCBbXV0="]
)
async def test_page_tokens_of_others_are_refused(token):
    with pytest.raises(InvalidArgument) as caught:
        await JobList([Rows("a", ["1"])]).list(ANN, QUERY, 10, token)
    assert caught.value.reason == "BAD_PAGE_TOKEN"


async def test_a_page_token_belongs_to_its_query():
    jobs = JobList([Rows("a", ["1", "2"])])
    _, token = await jobs.list(ANN, QUERY, 1, "")
    with pytest.raises(InvalidArgument):
        await jobs.list(ANN, Query("projects/other", ()), 1, token)


@pytest.mark.parametrize("size", [-1, 501])
async def test_page_sizes_have_limits(size):
    with pytest.raises(InvalidArgument):
        await JobList([Rows("a", [])]).list(ANN, QUERY, size, "")


@pytest.mark.parametrize(
    "name", ["", "jobs/", "jobs/trainer", "jobs/gateway-1", "models/m", "jobs/a/b", "jobs/-1"]
)
def test_names_that_say_no_service_are_refused(name):
    with pytest.raises(InvalidArgument):
        service_of_job(name, ("datastore", "trainer"))


def test_the_service_is_in_the_name():
    assert service_of_job("jobs/trainer-01", ("datastore", "trainer")) == "trainer"
