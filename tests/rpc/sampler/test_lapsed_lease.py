"""Who comes back to a sample whose lease ran out, and what they did with its region meanwhile."""

from __future__ import annotations

import time

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.rpc.geometry import region_from_proto
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.test_claim import choose
from tests.rpc.sampler.test_room import ONE, names, refused


@pytest.fixture
async def lapsed(platform: Platform) -> pb.Sample:
    """The only sample that there is, of ann's window a, whose lease ran out long ago.

    Its time is in the past, so that what is annotated now comes after it.
    """
    platform.records.volumes["v1"] = ONE
    await platform.update("lease_duration_s", lease_duration_s=600)
    platform.clock[0] -= 250
    (sample,) = (await platform.claim("ann", session="a", heartbeat=True)).samples
    platform.clock[0] += 250
    return sample


async def require_lost(platform: Platform, sample: pb.Sample, other: str, word: str) -> None:
    """All ways back say that it is lost to another sample."""
    error = await refused(platform.ask("ann", "RenewLease", name=sample.name), "LEASE_LOST")
    assert (error.metadata["holder"], error.metadata["sample"]) == ("ann", other)
    assert word in error.message
    assert other in error.message
    held = await platform.ask("ann", "RenewSession", session="a", active=True, samples=[sample.name])
    assert not held.samples
    assert [(lost.name, lost.holder) for lost in held.lost] == [(sample.name, "ann")]
    assert other in held.lost[0].notice


async def test_what_its_user_took_as_another_sample_does_not_come_back(
    platform: Platform, lapsed: pb.Sample
) -> None:
    (again,) = (await platform.claim("ann")).samples
    assert (again.region, again.name != lapsed.name) == (lapsed.region, True)
    await require_lost(platform, lapsed, again.name, "go on there")
    # However often the other one was prolonged, also when it ran out meanwhile.
    await platform.ask("ann", "RenewLease", name=again.name)
    await require_lost(platform, lapsed, again.name, "go on there")
    platform.clock[0] += 700
    await require_lost(platform, lapsed, again.name, "go on there")
    assert (await platform.ask("ann", "RenewLease", name=again.name)).sample.name == again.name
    # Given back it is in nobody's way.
    await platform.ask("ann", "ReleaseSample", name=again.name)
    assert (await platform.ask("ann", "RenewLease", name=lapsed.name)).sample.lease.holder == "ann"


async def test_what_its_user_annotated_as_another_sample_does_not_come_back(
    platform: Platform, lapsed: pb.Sample
) -> None:
    (again,) = (await platform.claim("ann")).samples
    made = platform.answer("ann", again)
    await require_lost(platform, lapsed, again.name, "you annotated it meanwhile as")
    answer = await platform.claim("ann", session="b", heartbeat=True)
    assert not answer.samples
    # Nor when it was annotated as a region of their own choice.
    platform.records.revert(made, "ann")
    chosen = platform.records.commit("ann", region_from_proto(lapsed.region), {1: 9}, volume="v1")
    error = await refused(platform.ask("ann", "RenewLease", name=lapsed.name), "LEASE_LOST")
    assert chosen in error.message
    assert not (await platform.claim("ann", session="b", heartbeat=True)).samples
    platform.records.revert(chosen, "ann")
    assert names(await platform.claim("ann", session="b", heartbeat=True)) == [lapsed.name]


async def test_an_annotation_counts_by_its_sample_when_the_clock_of_the_datastore_is_behind(
    platform: Platform, lapsed: pb.Sample
) -> None:
    platform.clock[0] += 300
    (again,) = (await platform.claim("ann")).samples
    platform.records.verifier = _Lax()  # type: ignore[assignment]
    before_its_end = time.time() - 200
    platform.records.commit(
        "ann",
        region_from_proto(again.region),
        {1: 9},
        volume="v1",
        token=again.name,
        created_at=before_its_end,
    )
    await refused(platform.ask("ann", "RenewLease", name=lapsed.name), "LEASE_LOST")


async def test_what_its_user_took_on_purpose_while_it_lived_comes_back_beside_it(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("lease_duration_s", lease_duration_s=60)
    platform.clock[0] -= 20
    (sample,) = (await platform.claim("ann", session="a")).samples
    platform.clock[0] += 20
    chosen = await choose(platform, "ann", region_from_proto(sample.region), session="a")
    made = await choose(platform, "ann", region_from_proto(sample.region), session="a")
    platform.answer("ann", made)
    platform.clock[0] += 100
    for name in (chosen.name, sample.name):
        assert (await platform.ask("ann", "RenewLease", name=name)).sample.lease.holder == "ann"
    platform.clock[0] += 100
    held = await platform.ask("ann", "RenewSession", session="a", active=True)
    assert sorted(names(held)) == sorted([sample.name, chosen.name])


async def test_of_what_ran_out_in_one_window_the_last_one_of_a_region_comes_back(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("lease_duration_s", lease_duration_s=60)
    (first,) = (await platform.claim("ann")).samples
    platform.clock[0] += 100
    (second,) = (await platform.claim("ann")).samples
    assert second.name != first.name
    platform.clock[0] += 100
    held = await platform.ask("ann", "RenewSession", active=True, samples=[first.name])
    assert names(held) == [second.name]
    assert second.name in held.lost[0].notice


async def test_somebody_elses_open_sample_stays_theirs_when_it_is_released(
    platform: Platform, lapsed: pb.Sample
) -> None:
    released = (await platform.ask("bob", "ReleaseSample", name=lapsed.name)).sample
    assert released.state == pb.Sample.STATE_OPEN
    assert (await platform.ask("ann", "RenewLease", name=lapsed.name)).sample.lease.holder == "ann"
    platform.clock[0] += 700
    # Who held it gives it up.
    await platform.ask("ann", "ReleaseSample", name=lapsed.name)
    error = await refused(platform.ask("ann", "RenewLease", name=lapsed.name), "LEASE_LOST")
    assert "resume it" in error.message
    await platform.ask("ann", "ResumeSample", name=lapsed.name)


@pytest.mark.parametrize(
    ("method", "fields"), [("SkipSample", {"reason": "x"}), ("FlagSample", {"text": "?"})]
)
@pytest.mark.parametrize("other", ["ann", "bob"])
async def test_setting_aside_what_was_open_does_not_get_round_who_took_it(
    platform: Platform, lapsed: pb.Sample, method: str, fields: dict[str, str], other: str
) -> None:
    (taken,) = (await platform.claim(other)).samples
    await platform.ask("ann", method, name=lapsed.name, **fields)
    if method == "FlagSample":
        await platform.ask("ann", "UnflagSample", name=lapsed.name, answer="yes")
        await platform.ask("ann", "SkipSample", name=lapsed.name, reason="x")
    error = await refused(platform.ask("ann", "ResumeSample", name=lapsed.name), "REGION_TAKEN")
    assert (error.metadata["holder"], error.metadata["sample"]) == (other, taken.name)
    await platform.ask("ann", "ReleaseSample", name=lapsed.name)
    platform.answer(other, taken)
    await platform.ask("ann", "SkipSample", name=lapsed.name, reason="x")
    error = await refused(platform.ask("ann", "ResumeSample", name=lapsed.name), "REGION_TAKEN")
    assert error.metadata["sample"] == taken.name
    assert f"was open before it was set aside, and {other} annotated" in error.message


class _Lax:
    """Of a datastore that knows a sample by its name."""

    def verify_claims(self, token: str, issuer: str) -> dict[str, object]:
        region = [[0, 0, 0], list(ONE)]
        return {"sub": "ann", "volume": "projects/p1/volumes/v1", "region": region, "sample": token}
