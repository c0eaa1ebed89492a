"""Whose turn it is, as tables, and the same order where jobs are claimed and shown."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass

import pytest

from biosegment.database import Database
from biosegment.jobs import JobSignal, JobState, Progress, SqlJobs
from biosegment.jobs.job import NewJob
from biosegment.jobs.queue import Lane, Pace, Waiting, Work, start_etas, turns
from tests.servers.postgres import postgres
from tests.unit.biosegment.conftest import create_job_tables


def line(*words: str) -> list[Waiting]:
    """`ann`, `ann!` (urgent) or `ann:predict`, in the order in which they were asked for."""
    found = []
    for number, word in enumerate(words):
        who, _, kind = word.partition(":")
        found.append(
            Waiting(f"job-{number:03}", who.rstrip("!"), kind or "train", 1 if word.endswith("!") else 0)
        )
    return found


@pytest.mark.parametrize(
    ("words", "work", "order"),
    [
        ("a b c", [], "012"),
        # A user's many jobs do not keep another's first one waiting.
        ("a a a a b", [], "04123"),
        ("a a a b b c", [], "035142"),
        # Urgent ones are first, whoever has them; fairness holds among them too.
        ("a a! b! a!", [], "1230"),
        ("a a! a! b", [], "1230"),
        # Whoever was served lately waits, also when the job has only just begun.
        ("a b", [Work("a", "train", 100.0, False)], "10"),
        ("a b", [Work("a", "train", 0.1, True)], "10"),
        ("a b a", [Work("a", "train", 30.0, False), Work("b", "train", 40.0, False)], "012"),
        # Long work weighs more than short work.
        ("a:predict b:score b:score b:score", [], "0123"),
        ("a:predict a:predict b:score b:score b:score", [], "02341"),
    ],
)
def test_turns(words, work, order):
    usual_s = {"train": 60.0, "predict": 1000.0, "score": 10.0}
    waiting = line(*words.split())
    shuffled = random.Random(1).sample(waiting, len(waiting))
    found = [int(job.job_id.removeprefix("job-")) for job in turns(shuffled, work, usual_s)]
    assert "".join(map(str, found)) == order


def test_nobody_waits_behind_more_than_one_job_of_each_other_user():
    rng = random.Random(7)
    for _ in range(50):
        users = "abcde"[: rng.randint(2, 5)]
        waiting = line(*(rng.choice(users) for _ in range(rng.randint(1, 60))))
        ordered = turns(waiting, [], {"train": 10.0})
        assert sorted(ordered, key=lambda job: job.job_id) == waiting
        for user in users:
            mine = [job.job_id for job in ordered if job.owner == user]
            assert mine == sorted(mine)
            if mine:
                first = [job.owner for job in ordered].index(user)
                assert all(
                    len(list(group)) == 1
                    for _, group in itertools.groupby(sorted(job.owner for job in ordered[:first]))
                )


@pytest.mark.parametrize(
    ("work", "concurrent", "etas"),
    [
        ([], 1, [0, 10, 20]),
        ([], 2, [0, 0, 10]),
        ([Work("a", "train", 5.0, True, 40.0)], 1, [40, 50, 60]),
        ([Work("a", "train", 4.0, True)], 1, [6, 16, 26]),
        ([Work("a", "train", 400.0, True)], 1, [1, 11, 21]),
        ([Work("a", "pretrain", 4.0, True)], 1, [0, 0, 0]),
        ([Work("a", "train", 4.0, True, 3.0), Work("a", "train", 4.0, True, 5.0)], 2, [3, 5, 13]),
    ],
)
def test_the_start_of_queued_jobs_follows_from_those_that_run_and_from_history(work, concurrent, etas):
    assert start_etas(line("a", "a", "a"), work, {"train": 10.0}, concurrent) == etas


def test_a_pace_is_that_of_the_last_minute_and_not_of_the_beginning():
    pace = Pace()
    assert pace.eta_s(0.5, 0.0) == 0.0
    assert pace.eta_s(0.6, 10.0) == pytest.approx(40.0)
    for second in range(20, 400, 10):
        eta = pace.eta_s(0.6 + (second - 10) / 10000, second)
    assert eta == pytest.approx((0.4 - 0.038) * 10000, rel=0.01)
    assert pace.eta_s(0.2, 400.0) == 0.0


async def test_jobs_are_claimed_in_the_order_that_their_positions_say(job_database):
    jobs = job_database()
    rng = random.Random(3)
    for number in range(14):
        owner, priority = rng.choice("aab"), rng.choice((0, 0, 1))
        await jobs.create(NewJob("p", "train", b"", "d", f"r{number}", owner, priority))
    claimed = []
    while queued := await jobs.list("p", (JobState.QUEUED,)):
        positions = {job.queue_position: job.job_id for job in queued}
        assert sorted(positions) == list(range(len(queued)))
        job = await jobs.claim("here", ["train"])
        assert job.job_id == positions[0]
        claimed.append(job)
        await jobs.finish(job.job_id, 1, JobState.SUCCEEDED)
    assert [job.priority for job in claimed] == sorted((job.priority for job in claimed), reverse=True)


async def test_a_full_lane_begins_nothing_and_holds_up_no_other(job_database):
    lanes = [
        Lane("training", frozenset({"train", "pretrain"}), 1),
        Lane("prediction", frozenset({"predict"}), 2),
    ]
    jobs, kinds = job_database(lanes), ["train", "pretrain", "predict"]
    for number, kind in enumerate(["train", "pretrain", "predict", "predict", "predict"]):
        await jobs.create(NewJob("p", kind, b"", "d", f"r{number}", "a"))
    begun = [await jobs.claim("here", kinds) for _ in range(3)]
    assert sorted(job.kind for job in begun) == ["predict", "predict", "train"]
    # Of all processes together.
    assert await jobs.claim("there", kinds) is None
    positions = {job.kind: job.queue_position for job in await jobs.list("p", (JobState.QUEUED,))}
    assert positions == {"pretrain": 0, "predict": 0}
    trained = next(job for job in begun if job.kind == "train")
    await jobs.finish(trained.job_id, 1, JobState.SUCCEEDED)
    assert (await jobs.claim("there", kinds)).kind == "pretrain"
    # A node more.
    lanes[1].concurrent = 3
    assert (await jobs.claim("there", kinds)).kind == "predict"


async def test_a_running_job_estimates_its_end_and_the_start_of_the_next(job_database):
    jobs = job_database([Lane("training", frozenset({"train"}), 1)])
    for number in range(2):
        await jobs.create(NewJob("p", "train", b"", "d", f"r{number}", "a"))
    first = await jobs.claim("here", ["train"])
    await jobs.report(first.job_id, 1, Progress(0.5))
    running = await jobs.report(first.job_id, 1, Progress(0.6))
    assert running.progress.eta_s > 0
    (second,) = await jobs.list("p", (JobState.QUEUED,))
    assert (second.queue_position, second.start_eta_s) == (0, running.progress.eta_s)


@dataclass
class Clock:
    """Of the rows, in seconds."""

    now_s: float = 1e9

    def us(self) -> int:
        return int(self.now_s * 1e6)


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    for module in ("row", "sql", "line"):
        monkeypatch.setattr(f"biosegment.jobs.{module}.now_us", found.us)
    return found


async def waiting(jobs) -> list[str]:
    """Owners of the queued jobs in the order of their turns."""
    queued = await jobs.list("p", (JobState.QUEUED,))
    return [job.owner for job in sorted(queued, key=lambda job: job.queue_position)]


async def test_what_was_computed_before_a_node_died_counts_until_the_hour_is_over(job_database, clock):
    jobs = job_database([Lane("training", frozenset({"train"}), 1)])
    await jobs.create(NewJob("p", "train", b"", "d", "r0", "bob"))
    first = await jobs.claim("here", ["train"])
    await jobs.create(NewJob("p", "train", b"", "d", "r1", "ann"))
    clock.now_s += 3000
    await jobs.heartbeat("here", [first.job_id])
    await jobs.crash(first.job_id, 1, "its node died", lost=True)
    assert (await jobs.get(first.job_id)).start_time is None
    assert await waiting(jobs) == ["ann", "bob"]
    clock.now_s += 3500
    assert await waiting(jobs) == ["ann", "bob"], "a hundred seconds are left of it"
    clock.now_s += 200
    assert await waiting(jobs) == ["bob", "ann"]

    # The next attempt adds to what was before it.
    again = await jobs.claim("here", ["train"])
    assert (again.job_id, again.attempt) == (first.job_id, 2)
    clock.now_s += 50
    await jobs.crash(again.job_id, 2, "its node died", lost=True)
    second = await jobs.claim("here", ["train"])
    assert second.owner == "ann"
    clock.now_s += 40
    await jobs.crash(second.job_id, 1, "its node died", lost=True)
    assert await waiting(jobs) == ["ann", "bob"]


async def test_a_job_that_waits_again_or_is_cancelled_while_it_waits_computes_nothing(job_database, clock):
    jobs = job_database([Lane("training", frozenset({"train"}), 1)])
    await jobs.create(NewJob("p", "train", b"", "d", "r0", "ann"))
    old = await jobs.claim("here", ["train"])
    clock.now_s += 1
    await jobs.finish(old.job_id, 1, JobState.FAILED)
    clock.now_s += 86_400
    for number, owner in enumerate(("bob", "ann"), 1):
        await jobs.create(NewJob("p", "train", b"", "d", f"r{number}", owner))
    theirs = await jobs.claim("here", ["train"])
    clock.now_s += 5
    await jobs.finish(theirs.job_id, 1, JobState.SUCCEEDED)
    await jobs.create(NewJob("p", "train", b"", "d", "r3", "bob"))
    await jobs.retry(old.job_id)
    assert await waiting(jobs) == ["ann", "ann", "bob"]
    clock.now_s += 600
    await jobs.request_cancel(old.job_id)
    assert await waiting(jobs) == ["ann", "bob"]


async def test_who_retries_too_late_takes_the_job_from_no_attempt(job_database, monkeypatch):
    jobs = job_database()
    await jobs.create(NewJob("p", "train", b"", "d", "r0", "ann"))
    job = await jobs.claim("here", ["train"])
    ended = await jobs.finish(job.job_id, 1, JobState.FAILED)
    await jobs.retry(job.job_id)
    await jobs.claim("here", ["train"])
    with monkeypatch.context() as patch:

        async def as_it_was(*_):
            return ended

        patch.setattr("biosegment.jobs.sql.load", as_it_was)
        await jobs.retry(job.job_id)
    now = await jobs.get(job.job_id)
    assert (now.state, now.attempt) == (JobState.RUNNING, 2)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
async def shared_url(request, tmp_path):
    if request.param == "sqlite":
        create_job_tables(f"sqlite:///{tmp_path}/shared.db")
        yield f"sqlite+aiosqlite:///{tmp_path}/shared.db"
        return
    with postgres() as plain:
        url = plain.replace("postgresql://", "postgresql+psycopg://")
        create_job_tables(url)
        yield url


async def test_processes_that_claim_at_once_begin_no_job_twice_and_overfill_no_lane(shared_url):
    lanes = [Lane("training", frozenset({"train"}), 3)]
    databases = [Database.open(shared_url) for _ in range(4)]
    replicas = [SqlJobs(database, "trainer", JobSignal(), lanes) for database in databases]
    try:
        for number in range(24):
            await replicas[0].create(NewJob("p", "train", b"", "d", f"r{number}", f"user-{number % 3}"))
        begun: list[str] = []
        while len(begun) < 24:
            claims = (jobs.claim(f"replica-{n}", ["train"]) for n, jobs in enumerate(replicas))
            claimed = [job for job in await asyncio.gather(*claims) if job is not None]
            assert 1 <= len(claimed) <= 3
            assert all(job.attempt == 1 for job in claimed)
            begun += [job.job_id for job in claimed]
            for job in claimed:
                await replicas[1].finish(job.job_id, 1, JobState.SUCCEEDED)
        assert len(set(begun)) == 24
    finally:
        for database in databases:
            await database.close()
