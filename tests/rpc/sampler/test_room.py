"""Windows, heartbeats, questions, coming back and taking over: what people who share a pool do to each other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from biosegment.rpc.geometry import region_from_proto
from biosegment.volume import Index, Region
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.test_claim import choose

ONE = (1, 128, 128)


def names(answer: Any) -> list[str]:
    return [sample.name for sample in answer.samples]


async def refused(call: Any, reason: str, kind: type[Exception] = FailedPrecondition) -> Any:
    """The error of a call that must be refused for this reason."""
    with pytest.raises(kind) as caught:
        await call
    error: Any = caught.value
    assert error.reason == reason
    return error


def ends(sample: pb.Sample) -> float:
    return sample.lease.expire_time.seconds - time.time()


async def test_two_windows_of_one_user_keep_what_they_have_and_may_do_everything_with_it(
    platform: Platform,
) -> None:
    left = await platform.claim("ann", count=2, session="left")
    right = await platform.claim("ann", count=2, session="right")
    neither = await platform.claim("ann", count=1)
    assert len({*names(left), *names(right), *names(neither)}) == 5
    assert names(await platform.claim("ann", count=2, session="left")) == names(left)
    assert names(await platform.claim("ann", count=2, session="right")) == names(right)
    assert names(await platform.claim("ann", count=1)) == names(neither)
    first, second = names(left)
    # From the other window: no call of these says which it comes from.
    assert (await platform.ask("ann", "RenewLease", name=first)).sample.lease.session == "left"
    await platform.ask("ann", "ReleaseSample", name=first)
    await platform.ask("ann", "SkipSample", name=second, reason="blurred")
    platform.answer("ann", right.samples[0])
    held = await platform.ask("ann", "ListSamples", holder="ann")
    assert sorted(names(held)) == sorted([*names(neither), names(right)[1]])
    moved = (await platform.ask("ann", "ResumeSample", name=names(right)[1], session="left")).sample
    assert (moved.state, moved.lease.session) == (pb.Sample.STATE_LEASED, "left")
    assert names(await platform.claim("ann", count=1, session="left")) == [moved.name]


async def test_only_the_holder_sees_which_window_it_is_and_everybody_their_name(platform: Platform) -> None:
    request = pb.ClaimSamplesRequest(parent="projects/p1", session="left")
    metadata = platform.as_user("ann", name="Ann Appleby")
    (sample,) = (await platform.stub.ClaimSamples(request, metadata=metadata)).samples
    lease = (await platform.ask("bob", "GetSample", name=sample.name)).sample.lease
    assert (lease.holder, lease.holder_name, lease.session, lease.token) == ("ann", "Ann Appleby", "", "")
    error = await refused(choose(platform, "bob", region_from_proto(sample.region)), "REGION_TAKEN")
    assert "Ann Appleby (ann)" in error.message
    await refused(platform.claim("ann", session="x" * 65), "BAD_SESSION", InvalidArgument)


async def test_a_lease_with_heartbeats_ends_with_them_and_its_token_too(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("heartbeat_timeout_s", heartbeat_timeout_s=60)
    (sample,) = (await platform.claim("ann", session="a", heartbeat=True)).samples
    assert 50 < ends(sample) < 61
    claims = platform.records.verifier.verify_claims(sample.lease.token, "sampler")
    assert claims["exp"] == sample.lease.expire_time.seconds
    for _ in range(3):
        platform.clock[0] += 40
        held = await platform.ask("ann", "RenewSession", session="a", samples=[sample.name])
        assert names(held) == [sample.name]
        assert not held.lost
        assert 50 < ends(held.samples[0]) - platform.clock[0] < 61
        assert not (await platform.claim("bob")).samples
    platform.clock[0] += 71
    (taken,) = (await platform.claim("bob")).samples
    assert taken.region == sample.region
    held = await platform.ask("ann", "RenewSession", session="a", active=True, samples=[sample.name])
    assert not held.samples
    assert [(lost.name, lost.holder) for lost in held.lost] == [(sample.name, "bob")]
    assert "bob took the region" in held.lost[0].notice


async def test_an_idle_window_loses_its_samples_and_gets_them_back_when_its_user_does_something(
    platform: Platform,
) -> None:
    await platform.update(
        "lease_duration_s", "heartbeat_timeout_s", lease_duration_s=120, heartbeat_timeout_s=60
    )
    (sample,) = (await platform.claim("ann", session="a", heartbeat=True)).samples
    for _ in range(3):
        platform.clock[0] += 30
        assert names(await platform.ask("ann", "RenewSession", session="a")) == [sample.name]
    platform.clock[0] += 45
    idle = await platform.ask("ann", "RenewSession", session="a", samples=[sample.name])
    assert not idle.samples
    assert "ran out" in idle.lost[0].notice
    error = await refused(platform.ask("ann", "RenewLease", name=sample.name, idle=True), "LEASE_IDLE")
    assert "120 s" in error.message
    back = await platform.ask("ann", "RenewSession", session="a", active=True)
    assert names(back) == [sample.name]


async def test_a_new_window_gets_what_was_unfinished_in_one_that_died(platform: Platform) -> None:
    dead = await platform.claim("ann", count=2, session="laptop", heartbeat=True)
    alive = await platform.claim("ann", count=1, session="desk")
    platform.clock[0] += 101
    assert names(await platform.claim("ann", count=2, session="new")) == names(dead)
    assert names(await platform.claim("ann", count=1, session="desk")) == names(alive)
    woken = await platform.ask("ann", "RenewSession", session="laptop", active=True, samples=names(dead))
    assert not woken.samples
    assert all("another window" in lost.notice for lost in woken.lost)


async def test_a_new_window_does_not_get_what_somebody_else_took_meanwhile(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    (mine,) = (await platform.claim("ann", session="laptop", heartbeat=True)).samples
    platform.clock[0] += 101
    (theirs,) = (await platform.claim("bob")).samples
    assert theirs.region == mine.region
    answer = await platform.claim("ann", session="new")
    assert not answer.samples
    assert dict(answer.exhaustion.held) == {"bob": 1}
    platform.records.commit("bob", region_from_proto(theirs.region), {1: 9}, volume="v1")
    await platform.ask("bob", "ReleaseSample", name=theirs.name)
    assert not (await platform.claim("ann", session="new")).samples


async def test_leaving_gives_everything_of_a_window_back_in_one_call(platform: Platform) -> None:
    left = await platform.claim("ann", count=3, session="left")
    right = await platform.claim("ann", count=2, session="right")
    answer = await platform.ask("ann", "LeaveSession", session="left")
    assert sorted(answer.samples) == sorted(names(left))
    leased = await platform.ask("bob", "ListSamples", states=[pb.Sample.STATE_LEASED])
    assert sorted(names(leased)) == sorted(names(right))
    assert not (await platform.ask("ann", "LeaveSession", session="left")).samples
    # Of somebody else's window of the same name nothing.
    assert not (await platform.ask("bob", "LeaveSession", session="right")).samples


async def test_a_flagged_sample_is_nobodys_until_somebody_answers(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    await refused(platform.ask("bob", "FlagSample", name=sample.name, text="mine?"), "LEASE_LOST")
    await refused(platform.ask("ann", "FlagSample", name=sample.name, text=" "), "BAD_TEXT", InvalidArgument)
    flagged = (await platform.ask("ann", "FlagSample", name=sample.name, text="is this a lysosome?")).sample
    assert (flagged.state, flagged.flag.text, flagged.flag.user) == (
        pb.Sample.STATE_SKIPPED, "is this a lysosome?", "ann",
    )  # fmt: skip
    assert not (await platform.claim("ann")).samples
    listed = await platform.ask("bob", "ListSamples", flagged=True)
    assert [each.flag.text for each in listed.samples] == ["is this a lysosome?"]
    for method in ("ReleaseSample", "ResumeSample"):
        error = await refused(platform.ask("bob", method, name=sample.name), "SAMPLE_FLAGGED")
        assert "lysosome" in error.message
    answered = (
        await platform.ask("bob", "UnflagSample", name=sample.name, answer="yes, leave it out")
    ).sample
    assert (answered.state, answered.HasField("flag")) == (pb.Sample.STATE_OPEN, False)
    assert [(event.user, event.action, event.text) for event in answered.events] == [
        ("ann", pb.SampleEvent.ACTION_FLAGGED, "is this a lysosome?"),
        ("bob", pb.SampleEvent.ACTION_UNFLAGGED, "yes, leave it out"),
    ]
    again = await platform.ask("bob", "UnflagSample", name=sample.name, answer="yes, leave it out")
    assert again.sample == answered
    await refused(platform.ask("bob", "UnflagSample", name=sample.name, answer="again"), "NOT_FLAGGED")
    assert len((await platform.claim("bob")).samples) == 1


async def test_an_annotated_sample_may_be_asked_about_and_stays_annotated(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    flagged = (await platform.ask("bob", "FlagSample", name=sample.name, text="all of it?")).sample
    assert (flagged.state, flagged.annotation) == (pb.Sample.STATE_ANNOTATED, name)
    platform.records.revert(name)
    reverted = (await platform.ask("bob", "GetSample", name=sample.name)).sample
    assert (reverted.state, reverted.annotation) == (pb.Sample.STATE_SKIPPED, "")


async def test_one_comes_back_to_what_one_annotated_and_its_annotation_is_named(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    first = platform.answer("ann", sample)
    error = await refused(
        platform.ask("bob", "ResumeSample", name=sample.name), "NOT_YOUR_ANNOTATION", PermissionDenied
    )
    assert "ann annotated" in error.message
    again = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    assert (again.state, again.earlier_annotation, again.lease.purpose) == (
        pb.Sample.STATE_LEASED, first, pb.Lease.PURPOSE_CORRECT,
    )  # fmt: skip
    # A review of the first does not take the sample from the one who corrects it.
    platform.records.review(first, accepted=True)
    await platform.ask("ann", "RenewLease", name=sample.name)
    second = platform.answer("ann", again)
    done = (await platform.ask("bob", "GetSample", name=sample.name)).sample
    assert (done.state, done.annotation) == (pb.Sample.STATE_ANNOTATED, second)
    # Given up, the sample is annotated as before.
    await platform.ask("rev", "ResumeSample", name=sample.name)
    released = (await platform.ask("rev", "ReleaseSample", name=sample.name)).sample
    assert (released.state, released.annotation) == (pb.Sample.STATE_ANNOTATED, second)


async def test_a_rejected_annotation_can_be_gone_on_from(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    platform.records.review(name, accepted=False, user="rev", comment="too wide")
    mine = (await platform.ask("ann", "ListSamples", user="ann")).samples[0]
    assert (mine.state, mine.events[-1].user, mine.events[-1].text) == (
        pb.Sample.STATE_OPEN,
        "rev",
        "too wide",
    )
    resumed = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    assert resumed.earlier_annotation == name
    # The region was in the pool meanwhile; now it is held again.
    assert not (await platform.claim("bob")).samples


@pytest.mark.parametrize("other", ["ann", "bob"])
async def test_what_was_given_to_somebody_again_is_not_resumed_beside_that(
    platform: Platform, other: str
) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    platform.records.review(platform.answer("ann", sample), accepted=False, user="rev")
    (again,) = (await platform.claim(other)).samples
    assert (again.region, again.name == sample.name) == (sample.region, False)
    error = await refused(platform.ask("ann", "ResumeSample", name=sample.name), "REGION_TAKEN")
    assert (error.metadata["holder"], error.metadata["sample"]) == (other, again.name)
    made = platform.answer(other, again)
    error = await refused(platform.ask("ann", "ResumeSample", name=sample.name), "REGION_TAKEN")
    assert f"{other} annotated" in error.message
    assert (error.metadata["holder"], error.metadata["sample"]) == ("", again.name)
    # The one that holds now can be corrected, and when it holds no more, both are open.
    platform.records.review(made, accepted=False, user="rev")
    await platform.ask("ann", "ResumeSample", name=sample.name)
    error = await refused(platform.ask(other, "ResumeSample", name=again.name), "REGION_TAKEN")
    assert error.metadata["sample"] == sample.name


async def test_a_region_whose_earlier_annotation_holds_again_is_not_drawn_a_second_time(
    platform: Platform,
) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    made = platform.answer("ann", sample)
    platform.records.review(made, accepted=False, user="rev")
    (again,) = (await platform.claim("bob")).samples
    await platform.ask("bob", "ReleaseSample", name=again.name)
    platform.records.review(made, accepted=True, user="rev")
    error = await refused(platform.ask("bob", "ResumeSample", name=again.name), "REGION_TAKEN")
    assert error.metadata["sample"] == sample.name


async def test_what_was_set_aside_is_resumed_whatever_was_drawn_around_it(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    await platform.ask("ann", "SkipSample", name=sample.name, reason="blurred")
    chosen = await choose(platform, "ann", region_from_proto(sample.region))
    platform.answer("ann", chosen)
    resumed = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    assert resumed.state == pb.Sample.STATE_LEASED
    # A region that was labelled before it was chosen is no other than it was.
    await platform.ask("ann", "ReleaseSample", name=sample.name)
    twice = await choose(platform, "bob", region_from_proto(sample.region))
    await platform.ask("bob", "ReleaseSample", name=twice.name)
    await platform.ask("bob", "ResumeSample", name=twice.name)


async def test_whose_annotation_was_rejected_comes_back_also_while_a_second_one_holds(
    platform: Platform,
) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("ann")).samples
    first = platform.answer("ann", sample)
    (second,) = (await platform.claim("bob")).samples
    assert second.name == sample.name
    platform.answer("bob", second)
    platform.records.review(first, accepted=False, user="rev")
    again = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    assert (again.earlier_annotation, again.lease.purpose) == (first, pb.Lease.PURPOSE_CORRECT)


async def test_what_somebody_else_holds_is_not_resumed(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    (sample,) = (await platform.claim("ann")).samples
    await refused(platform.ask("bob", "ResumeSample", name=sample.name), "LEASE_LOST")
    await platform.ask("ann", "ReleaseSample", name=sample.name)
    (other,) = (await platform.claim("bob")).samples
    error = await refused(platform.ask("ann", "ResumeSample", name=sample.name), "REGION_TAKEN")
    assert error.metadata["sample"] == other.name


async def test_mine_are_those_that_one_holds_annotated_skipped_or_asked_about(platform: Platform) -> None:
    samples = (await platform.claim("ann", count=5)).samples
    platform.answer("ann", samples[0])
    await platform.ask("ann", "SkipSample", name=samples[1].name, reason="blurred")
    await platform.ask("ann", "FlagSample", name=samples[2].name, text="what?")
    await platform.ask("ann", "ReleaseSample", name=samples[4].name)
    await platform.claim("bob", count=2)
    mine = names(await platform.ask("vic", "ListSamples", user="ann"))
    assert sorted(mine) == sorted(sample.name for sample in samples[:4])
    skipped = (await platform.ask("vic", "GetSample", name=samples[1].name)).sample
    assert skipped.skipped_by == "ann"


async def test_a_manager_takes_a_sample_over_and_its_former_holder_is_told_by_whom(
    platform: Platform,
) -> None:
    (sample,) = (await platform.claim("ann")).samples
    for user in ("bob", "rev"):
        await refused(platform.ask(user, "TakeOverLease", name=sample.name), "NOT_ALLOWED", PermissionDenied)
    request = pb.TakeOverLeaseRequest(name=sample.name, session="boss")
    metadata = platform.as_user("mia", name="Mia Moss")
    taken = (await platform.stub.TakeOverLease(request, metadata=metadata)).sample
    assert (taken.lease.holder, taken.lease.session) == ("mia", "boss")
    event = taken.events[-1]
    assert (event.user, event.action, event.text) == ("mia", pb.SampleEvent.ACTION_TAKEN_OVER, "ann")
    with pytest.raises(FailedPrecondition, match="Mia Moss"):
        platform.answer("ann", sample)
    error = await refused(platform.ask("ann", "RenewLease", name=sample.name), "LEASE_LOST")
    assert "Mia Moss (mia) took" in error.message
    assert error.metadata["holder"] == "mia"
    # Again, by the one who has it: nothing changes.
    again = (await platform.stub.TakeOverLease(request, metadata=metadata)).sample
    assert [each.action for each in again.events] == [pb.SampleEvent.ACTION_TAKEN_OVER]
    platform.answer("mia", taken)
    await refused(platform.ask("mia", "TakeOverLease", name=sample.name), "NOT_HELD")


async def test_a_commit_that_was_faster_than_a_take_over_stands(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    made = []
    platform.records.before_ending = lambda: made.append(platform.answer("ann", sample))
    error = await refused(platform.ask("mia", "TakeOverLease", name=sample.name), "SAMPLE_ANNOTATED")
    assert "faster" in error.message
    done = (await platform.ask("mia", "GetSample", name=sample.name)).sample
    assert (done.state, done.annotation) == (pb.Sample.STATE_ANNOTATED, made[0])


async def test_who_gives_a_sample_back_during_a_take_over_was_faster(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples

    async def give_back() -> None:
        platform.records.before_ending = lambda: None
        await platform.ask("ann", "ReleaseSample", name=sample.name)

    platform.records.before_ending = give_back
    error = await refused(platform.ask("mia", "TakeOverLease", name=sample.name), "NOT_HELD")
    assert "faster" in error.message
    found = (await platform.ask("mia", "GetSample", name=sample.name)).sample
    assert found.state == pb.Sample.STATE_OPEN


async def test_a_token_that_the_holder_got_during_a_take_over_is_refused_after_it(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    got = []

    async def look() -> None:
        for method in ("GetSample", "RenewLease"):
            got.append((await platform.ask("ann", method, name=sample.name)).sample)
        platform.records.before_ending = lambda: None

    platform.records.before_ending = look
    taken = (await platform.ask("mia", "TakeOverLease", name=sample.name)).sample
    assert [each.lease.holder for each in got] == ["ann", "ann"]
    for each in (sample, *got):
        with pytest.raises(FailedPrecondition, match="took"):
            platform.answer("ann", each)
    platform.answer("mia", taken)


async def test_of_managers_who_take_over_at_once_one_gets_it(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples

    async def take(number: int) -> str:
        request = pb.TakeOverLeaseRequest(name=sample.name)
        metadata = platform.as_user(f"boss-{number}", admin=True)
        try:
            return str((await platform.stub.TakeOverLease(request, metadata=metadata)).sample.lease.holder)
        except Exception as error:
            return str(getattr(error, "reason", error))

    outcomes = await asyncio.gather(*map(take, range(6)))
    winners = [each for each in outcomes if each.startswith("boss")]
    assert winners
    assert {each for each in outcomes if each not in winners} <= {"TAKEN_OVER_MEANWHILE"}
    now = (await platform.ask("ann", "GetSample", name=sample.name)).sample
    assert now.lease.holder in winners
    taken = [each.user for each in now.events if each.action == pb.SampleEvent.ACTION_TAKEN_OVER]
    assert taken == sorted(set(winners), key=taken.index)


async def test_a_correction_is_left_alone_by_who_chooses_the_region(platform: Platform) -> None:
    sample = await choose(platform, "ann", Region.of_shape((1, 64, 64)))
    platform.answer("ann", sample)
    await platform.ask("ann", "ResumeSample", name=sample.name)
    await refused(choose(platform, "bob", Region.of_shape((1, 8, 8), Index(0, 60, 60))), "REGION_TAKEN")
