"""Second annotators, reviewers, agreement, and what a claim says at the end of a pool."""

from __future__ import annotations

import asyncio
import uuid

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import PermissionDenied
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.sampler.conftest import Platform, Start
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.test_claim import choose
from tests.rpc.sampler.test_room import ONE, names, refused

Suggestion = pb.Exhaustion


async def test_a_second_annotator_gets_the_sample_blind_and_a_third_does_not(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("ann")).samples
    first = platform.answer("ann", sample, {1: 100, 2: 50})
    assert not (await platform.claim("ann")).samples
    (second,) = (await platform.claim("bob")).samples
    assert (second.name, second.lease.purpose) == (sample.name, pb.Lease.PURPOSE_SECOND)
    assert (second.annotation, list(second.events), second.earlier_annotation) == ("", [], "")
    blind = (await platform.ask("bob", "GetSample", name=sample.name)).sample
    assert (blind.annotation, blind.earlier_annotation, list(blind.events)) == ("", "", [])
    assert (await platform.ask("ann", "GetSample", name=sample.name)).sample.annotation == first
    assert not (await platform.claim("mia")).samples
    name = platform.answer("bob", second, {1: 90, 2: 60})
    done = (await platform.ask("bob", "GetSample", name=sample.name)).sample
    assert (done.state, done.annotation) == (pb.Sample.STATE_ANNOTATED, name)
    assert not (await platform.claim("mia")).samples


async def test_a_second_annotation_comes_from_a_new_one_when_the_first_holds_no_more(
    platform: Platform,
) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    platform.records.review(name, accepted=False, user="rev", comment="no")
    (fresh,) = (await platform.claim("bob")).samples
    assert (fresh.lease.purpose, fresh.name != sample.name) == (pb.Lease.PURPOSE_ANNOTATE, True)


async def test_who_reviewed_a_sample_is_no_second_annotator_of_it_nor_the_other_way_round(
    platform: Platform,
) -> None:
    await platform.update("second_annotator_share", second_annotator_share=1)
    samples = (await platform.claim("ann", count=2)).samples
    names_made = [platform.answer("ann", sample) for sample in samples]
    platform.records.review(names_made[0], accepted=True, user="rev", comment="good")
    given = (await platform.claim("rev", count=1)).samples
    assert names(pb.ClaimSamplesResponse(samples=given)) == [samples[1].name]
    assert given[0].lease.purpose == pb.Lease.PURPOSE_SECOND
    # What one annotates blind is reviewed by somebody else.
    assert not (await platform.ask("rev", "ClaimReviews", count=5)).reviews
    others = (await platform.ask("roy", "ClaimReviews", count=5)).reviews
    assert [each.annotation for each in others] == names_made[1:]
    assert (await platform.claim("roy", count=1)).samples[0].name == samples[0].name


async def test_who_is_reviewing_an_annotation_does_not_get_its_sample_blind(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    reviews = (await platform.ask("rev", "ClaimReviews")).reviews
    assert [each.annotation for each in reviews] == [name]
    assert not (await platform.claim("rev")).samples
    # Nor when their time is over: they have seen it.
    platform.clock[0] += 2000
    assert not (await platform.claim("rev")).samples
    assert names(await platform.claim("bob")) == [sample.name]


async def test_samples_and_annotations_of_a_deleted_volume_stand_in_nobodys_way(platform: Platform) -> None:
    here, gone = f"{PROJECT}/volumes/v1", f"{PROJECT}/volumes/v2"
    platform.records.volumes["v2"] = platform.records.volumes["v1"]
    await platform.update("second_annotator_share", second_annotator_share=1)
    first, second, _ = (await platform.claim("ann", count=3, volume=gone)).samples
    platform.answer("ann", first)
    platform.answer("ann", second)
    (other,) = (await platform.claim("bob", volume=gone)).samples
    platform.answer("bob", other)
    (sample,) = (await platform.claim("bob", volume=here)).samples
    name = platform.answer("bob", sample)
    await platform.claim("mia", volume=gone)
    del platform.records.volumes["v2"]
    await platform.update("seed", seed=1)  # looks which volumes there are
    assert names(await platform.claim("mia")) == [sample.name]
    for user in ("ann", "bob", "roy"):
        assert {each.volume for each in (await platform.claim(user, count=2)).samples} == {here}
    claimed = await platform.ask("rev", "ClaimReviews")
    assert ([each.annotation for each in claimed.reviews], claimed.waiting) == ([name], 0)
    # What cannot be compared any more is not waited for.
    assert (await platform.ask("vic", "ListAgreements")).pending == 0
    assert platform.records.compared == []


async def test_agreement_is_counted_once_and_reported_by_sample_and_by_annotators(platform: Platform) -> None:
    await platform.update("second_annotator_share", second_annotator_share=1)
    samples = (await platform.claim("ann", count=3)).samples
    sizes = [(50, 60), (40, 30), (0, 0)]
    for sample, (size, _) in zip(samples, sizes, strict=True):
        platform.answer("ann", sample, {1: 100 - size, 2: size} if size else {1: 100})
    seconds = (await platform.claim("bob", count=3)).samples
    assert names(pb.ClaimSamplesResponse(samples=seconds)) == [sample.name for sample in samples]
    for sample, (_, size) in zip(seconds, sizes, strict=True):
        platform.answer("bob", sample, {1: 100 - size, 2: size} if size else {1: 100})
    answer = await platform.ask("vic", "ListAgreements")
    found = {
        each.sample: (each.first_author, each.second_author, each.classes[0].iou)
        for each in answer.agreements
    }
    assert found == {
        samples[0].name: ("ann", "bob", 50 / 60),
        samples[1].name: ("ann", "bob", 30 / 40),
        # Neither found any: they agree that there is none, and the sums are as without them.
        samples[2].name: ("ann", "bob", 1.0),
    }
    (pair,) = answer.authors
    assert (pair.first_author, pair.second_author, pair.samples, pair.compared_voxels) == (
        "ann",
        "bob",
        3,
        300,
    )
    assert (pair.classes[0].intersection_voxels, pair.classes[0].union_voxels) == (80, 100)
    assert pair.classes[0].iou == 0.8
    assert len(platform.records.compared) == 3
    pages = []
    token = ""
    while True:
        page = await platform.ask("vic", "ListAgreements", page_size=2, page_token=token)
        pages.append([each.sample for each in page.agreements])
        token = page.next_page_token
        if not token:
            break
    assert [len(page) for page in pages] == [2, 1]
    assert {name for page in pages for name in page} == set(found)
    one = await platform.ask("vic", "ListAgreements", sample=samples[1].name)
    assert [each.sample for each in one.agreements] == [samples[1].name]
    assert len(platform.records.compared) == 3
    # A correction takes the place of its author's earlier annotation.
    again = (await platform.ask("ann", "ResumeSample", name=samples[1].name)).sample
    corrected = platform.answer("ann", again, {1: 70, 2: 30})
    one = await platform.ask("vic", "ListAgreements", sample=samples[1].name)
    assert [(each.second, each.classes[0].iou) for each in one.agreements] == [(corrected, 1.0)]
    # What was taken back is compared no more.
    platform.records.revert(corrected, "ann")
    one = await platform.ask("vic", "ListAgreements", sample=samples[1].name)
    assert [each.classes[0].iou for each in one.agreements] == [30 / 40]


async def test_who_asks_for_agreements_at_once_has_each_pair_compared_once(platform: Platform) -> None:
    await platform.update("second_annotator_share", second_annotator_share=1)
    for user in ("ann", "bob"):
        for sample in (await platform.claim(user, count=5)).samples:
            platform.answer(user, sample, {1: 90, 2: 10})
    answers = await asyncio.gather(*(platform.ask("vic", "ListAgreements") for _ in range(6)))
    assert [len(answer.agreements) for answer in answers] == [5] * 6
    assert len(platform.records.compared) == 5


async def test_a_correction_by_a_reviewer_is_no_agreement(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("ann")).samples
    platform.answer("ann", sample, {1: 60, 2: 40})
    again = (await platform.ask("rev", "ResumeSample", name=sample.name)).sample
    assert again.earlier_annotation
    made = platform.answer("rev", again, {1: 60, 2: 40})
    answer = await platform.ask("vic", "ListAgreements")
    assert (list(answer.agreements), list(answer.authors), answer.pending) == ([], [], 0)
    assert platform.records.compared == []
    # One who annotates it without having seen the first is compared with both.
    platform.records.revert(made, "rev")
    (blind,) = (await platform.claim("bob")).samples
    assert blind.lease.purpose == pb.Lease.PURPOSE_SECOND
    platform.answer("bob", blind, {1: 50, 2: 50})
    again = (await platform.ask("rev", "ResumeSample", name=sample.name)).sample
    platform.answer("rev", again, {1: 55, 2: 45})
    answer = await platform.ask("vic", "ListAgreements")
    assert [(pair.first_author, pair.second_author) for pair in answer.authors] == [("ann", "bob")]


async def test_who_takes_a_second_annotation_over_annotates_as_blindly(platform: Platform) -> None:
    await platform.update("second_annotator_share", second_annotator_share=1)
    sample, other = (await platform.claim("ann", count=2)).samples
    platform.answer("ann", sample)
    platform.answer("ann", other)
    blind, _ = (await platform.claim("bob", count=2)).samples
    taken = (await platform.ask("mia", "TakeOverLease", name=blind.name)).sample
    assert taken.lease.purpose == pb.Lease.PURPOSE_SECOND
    platform.answer("mia", taken)
    again = (await platform.ask("ann", "ResumeSample", name=blind.name)).sample
    taken = (await platform.ask("mia", "TakeOverLease", name=again.name)).sample
    assert taken.lease.purpose == pb.Lease.PURPOSE_CORRECT
    answer = await platform.ask("vic", "ListAgreements")
    assert [(each.sample, each.second_author) for each in answer.agreements] == [(blind.name, "mia")]


async def test_the_author_who_takes_a_second_annotation_over_corrects(platform: Platform) -> None:
    platform.records.volumes["v1"] = ONE
    await platform.update("second_annotator_share", second_annotator_share=1)
    (sample,) = (await platform.claim("mia")).samples
    first = platform.answer("mia", sample)
    (blind,) = (await platform.claim("bob")).samples
    taken = (await platform.ask("mia", "TakeOverLease", name=blind.name)).sample
    assert (taken.lease.purpose, taken.annotation, taken.earlier_annotation) == (
        pb.Lease.PURPOSE_CORRECT,
        first,
        first,
    )


async def test_nobody_reviews_what_its_author_has_corrected(platform: Platform) -> None:
    sample, other = (await platform.claim("ann", count=2)).samples
    first, second = platform.answer("ann", sample), platform.answer("ann", other)
    claimed = await platform.ask("rev", "ClaimReviews", count=2, session="a")
    assert [each.annotation for each in claimed.reviews] == [first, second]
    again = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    corrected = platform.answer("ann", again)
    held = await platform.ask("rev", "RenewSession", session="a", active=True)
    assert [each.annotation for each in held.reviews] == [second]
    await refused(platform.ask("rev", "ReleaseReview", annotation=first), "REVIEW_NOT_HELD")
    claimed = await platform.ask("rev", "ClaimReviews", count=2, session="a")
    assert [each.annotation for each in claimed.reviews] == [second, corrected]


async def test_two_reviewers_never_get_the_same_annotation_nor_anybody_their_own(platform: Platform) -> None:
    made = {}
    for user in ("ann", "bob", "rev"):
        for sample in (await platform.claim(user, count=4)).samples:
            made[platform.answer(user, sample)] = user
    await refused(platform.ask("ann", "ClaimReviews"), "NOT_ALLOWED", PermissionDenied)
    answers = await asyncio.gather(
        *(
            platform.ask(user, "ClaimReviews", count=2, session=str(n))
            for user in ("rev", "roy", "mia")
            for n in range(2)
        )
    )
    given = [(review.annotation, review.holder) for answer in answers for review in answer.reviews]
    assert len({annotation for annotation, _ in given}) == len(given) == 12
    assert all(made[annotation] != reviewer for annotation, reviewer in given)
    assert all(made[review.annotation] == review.author for answer in answers for review in answer.reviews)


async def test_two_samplers_on_one_database_give_nothing_twice(platform: Platform, start: Start) -> None:
    await platform.update("second_annotator_share", second_annotator_share=1)
    made = [platform.answer("ann", sample) for sample in (await platform.claim("ann", count=12)).samples]
    async with start() as second:
        both = (platform, second)
        reviews = await asyncio.gather(
            *(each.ask(user, "ClaimReviews", count=2) for user in ("rev", "roy", "mia") for each in both)
        )
        claims = await asyncio.gather(
            *(
                each.claim(user, count=2, session="s")
                for user in ("bob", "rev", "roy", "mia")
                for each in both
            )
        )
    # Both samplers answer one user with the same ones.
    given = {(review.annotation, review.holder) for answer in reviews for review in answer.reviews}
    assert len(given) == len({annotation for annotation, _ in given}) == 6
    assert {annotation for annotation, _ in given} < set(made)
    held = {(sample.name, sample.lease.holder) for answer in claims for sample in answer.samples}
    assert len(held) == len({name for name, _ in held}) == 8
    # Whoever comes last finds six that nobody holds, of which they review two at the most.
    assert {sample.lease.purpose for answer in claims for sample in answer.samples} == {
        pb.Lease.PURPOSE_SECOND
    }


async def test_a_review_is_kept_by_its_window_and_ends_with_the_verdict(platform: Platform) -> None:
    samples = (await platform.claim("ann", count=3)).samples
    first, second, third = (platform.answer("ann", sample) for sample in samples)
    claimed = await platform.ask("rev", "ClaimReviews", count=2, session="a", heartbeat=True)
    assert [each.annotation for each in claimed.reviews] == [first, second]
    assert claimed.waiting == 1
    again = await platform.ask("rev", "ClaimReviews", count=1, session="a")
    assert [each.annotation for each in again.reviews] == [first]
    platform.clock[0] += 60
    held = await platform.ask("rev", "RenewSession", session="a", active=True)
    assert [each.annotation for each in held.reviews] == [first, second]
    platform.records.review(first, accepted=False, user="rev", comment="too wide")
    sample = (await platform.ask("ann", "GetSample", name=samples[0].name)).sample
    last = sample.events[-1]
    assert (last.user, last.action, last.text) == ("rev", pb.SampleEvent.ACTION_REJECTED, "too wide")
    await platform.ask("rev", "ReleaseReview", annotation=second)
    await refused(platform.ask("rev", "ReleaseReview", annotation=second), "REVIEW_NOT_HELD")
    others = await platform.ask("roy", "ClaimReviews", count=5, session="b", heartbeat=True)
    assert [each.annotation for each in others.reviews] == [second, third]
    assert others.notice == "nothing else of others waits for a review."
    # A closed laptop gives reviews back, too, and so does leaving.
    platform.clock[0] += 101
    taken = await platform.ask("rev", "ClaimReviews", count=5, session="a")
    assert [each.annotation for each in taken.reviews] == [second, third]
    left = await platform.ask("rev", "LeaveSession", session="a")
    assert list(left.reviews) == [second, third]


async def test_an_accepted_annotation_is_not_reviewed_again(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    platform.records.review(name, accepted=True, user="rev", comment="fine")
    answer = await platform.ask("roy", "ClaimReviews")
    assert not answer.reviews
    seen = (await platform.ask("roy", "GetSample", name=sample.name)).sample
    assert [each.action for each in seen.events] == [
        pb.SampleEvent.ACTION_ANNOTATED,
        pb.SampleEvent.ACTION_ACCEPTED,
    ]
    assert (await platform.ask("rev", "ClaimReviews")).notice == "nothing else of others waits for a review."


async def test_the_end_of_a_pool_says_what_stands_in_the_way_and_what_can_be_done(platform: Platform) -> None:
    platform.records.volumes["v1"] = (5, 128, 128)
    part = {
        "volume": f"{PROJECT}/volumes/v1",
        "region": region_to_proto(Region.of_shape((1, 8, 8), Index(4, 0, 0))),
    }
    await platform.update("excluded", "slice_distance", excluded=[part], slice_distance=1)
    samples = (await platform.claim("ann", count=4)).samples
    assert len(samples) == 4
    platform.answer("ann", samples[0])
    await platform.ask("ann", "SkipSample", name=samples[1].name, reason="blurred")
    await platform.ask("ann", "FlagSample", name=samples[2].name, text="what?")
    request_id = str(uuid.uuid4())
    answer = await platform.claim("rev", count=3, request_id=request_id)
    end = answer.exhaustion
    assert dict(end.held) == {"ann": 1}
    counts = (end.skipped, end.flagged, end.awaiting_review, end.annotations, end.excluded)
    assert counts == (1, 1, 1, 1, 1)
    assert list(end.suggestions) == [
        Suggestion.SUGGESTION_REVIEW,
        Suggestion.SUGGESTION_ANSWER_FLAGS,
        Suggestion.SUGGESTION_RELEASE_SKIPPED,
        Suggestion.SUGGESTION_WAIT,
        Suggestion.SUGGESTION_CHOOSE_REGION,
        Suggestion.SUGGESTION_WIDEN_POOL,
        Suggestion.SUGGESTION_ADD_VOLUME,
    ]
    assert "0 of 3 samples" in answer.notice
    assert "1 held (ann 1), 1 skipped, 1 flagged, 1 to be reviewed, 1 excluded" in answer.notice
    again = await platform.claim("rev", count=3, request_id=request_id)
    assert (again.notice, again.exhaustion) == (answer.notice, end)
    # Whoever may not review is not told to; one's own window is named.
    own = await platform.claim("ann", count=1, session="other")
    assert list(own.exhaustion.suggestions)[:2] == [
        Suggestion.SUGGESTION_OTHER_WINDOW, Suggestion.SUGGESTION_ANSWER_FLAGS,
    ]  # fmt: skip
    # Each way out is one.
    await platform.ask("rev", "ReleaseSample", name=samples[1].name)
    assert len((await platform.claim("rev")).samples) == 1
    await platform.ask("rev", "UnflagSample", name=samples[2].name, answer="that")
    assert len((await platform.claim("roy")).samples) == 1
    await choose(platform, "roy", Region.of_shape((1, 8, 8), Index(4, 0, 0)))


async def test_a_batch_that_leaves_out_what_is_near_says_that_there_may_be_more(platform: Platform) -> None:
    platform.records.volumes["v1"] = (3, 128, 128)
    answer = await platform.claim("ann", count=3)
    assert len(answer.samples) == 1
    assert answer.exhaustion.suggestions[0] == Suggestion.SUGGESTION_CLAIM_AGAIN
    assert Suggestion.SUGGESTION_OTHER_WINDOW not in answer.exhaustion.suggestions, "there is one window"
    assert "1 of 3 samples: what else is left, if anything, lies too near" in answer.notice
    other = await platform.claim("ann", count=3, session="other")
    assert Suggestion.SUGGESTION_OTHER_WINDOW in other.exhaustion.suggestions
    for sample in other.samples:
        await platform.ask("ann", "ReleaseSample", name=sample.name)
    platform.answer("ann", answer.samples[0])
    assert len((await platform.claim("ann", count=1)).samples) == 1


async def test_a_claim_that_is_satisfied_says_nothing_of_an_end(platform: Platform) -> None:
    assert not (await platform.claim("ann", count=2)).HasField("exhaustion")


async def test_samples_of_a_second_annotator_come_in_shares(platform: Platform) -> None:
    await platform.update("second_annotator_share", second_annotator_share=0.5)
    samples = (await platform.claim("ann", count=20)).samples
    for sample in samples:
        platform.answer("ann", sample)
    given = (await platform.claim("bob", count=20)).samples
    seconds = [sample for sample in given if sample.lease.purpose == pb.Lease.PURPOSE_SECOND]
    assert 2 <= len(seconds) <= 18
    assert {sample.name for sample in seconds} < {sample.name for sample in samples}
    assert len(given) == 20
