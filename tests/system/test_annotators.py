"""Several people at once: nobody gets what somebody else holds, and everybody may do what their role allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

from biosegment import connect
from biosegment.client import Client
from biosegment.client.resources import Sample
from biosegment.errors import FailedPrecondition, NotFound, PermissionDenied
from tests.system.platform import running
from tests.system.tissue import SAMPLE_SHAPE, VOXEL_SIZE, Bench, set_up, write_tissue
from tests.system.witness import assert_disjoint

pytestmark = pytest.mark.timeout(300)

PEOPLE = ("ada", "bob", "cem", "dee")
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Lab:
    """A project and its people; `stranger` is a user of the platform, but no member."""

    bench: Bench
    people: dict[str, Client]
    stranger: Client


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("annotators")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        bench = set_up(client, tissue, "em", SAMPLE_SHAPE)
        people = {user_id: _person(bench, user_id, "annotator") for user_id in PEOPLE}
        stranger = _person(bench, "stranger", "")
        yield Lab(bench, people, stranger)
        for person in (*people.values(), stranger):
            person.close()


def _person(bench: Bench, user_id: str, role: str) -> Client:
    bench.client.platform.create_user(user_id)
    if role:
        bench.client.projects.set_member(bench.project, user_id, role)
    token = bench.client.platform.create_token(user_id=user_id)
    return connect(bench.client.connection.address, token=token.secret)


def test_people_who_annotate_at_once_never_hold_overlapping_samples(lab: Lab) -> None:
    bench = lab.bench

    def work(person: Client) -> list[Sample]:
        answered = []
        for _ in range(ROUNDS):
            for sample in person.samples.claim(bench.project, 2).samples:
                labels = bench.tissue.labels(sample.region)
                person.annotations.commit(labels, sample=sample)
                answered.append(sample)
        return answered

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        answered = dict(zip(PEOPLE, pool.map(work, lab.people.values()), strict=True))
    everything = [sample for samples in answered.values() for sample in samples]
    assert len(everything) == len({sample.name for sample in everything}) == len(PEOPLE) * ROUNDS * 2
    assert_disjoint([sample.region for sample in everything])
    found = {one.sample: one for one in bench.client.annotations.list(bench.project)}
    assert set(found) == {sample.name for sample in everything}
    for person, samples in answered.items():
        assert {found[sample.name].author for sample in samples} == {person}
    layer = bench.client.volumes.read(f"{bench.volume}/layers/annotations")
    for sample in everything:
        np.testing.assert_array_equal(layer[sample.region.slices], bench.tissue.labels(sample.region))
    progress = bench.client.samples.progress(bench.project)
    assert progress.annotations_by_author == dict.fromkeys(PEOPLE, ROUNDS * 2)


def test_a_claim_gives_unfinished_samples_again_and_to_nobody_else(lab: Lab) -> None:
    ada, bob = lab.people["ada"], lab.people["bob"]
    held = ada.samples.claim(lab.bench.project, 3).samples
    again = ada.samples.claim(lab.bench.project, 3).samples
    others = bob.samples.claim(lab.bench.project, 3).samples
    assert [sample.name for sample in again] == [sample.name for sample in held]
    assert_disjoint([sample.region for sample in (*held, *others)])
    assert bob.samples.get(held[0].name).lease_token == ""
    for sample in held:
        ada.samples.release(sample.name)
    for sample in others:
        bob.samples.release(sample.name)


def test_the_lease_of_somebody_else_is_of_no_use(lab: Lab) -> None:
    ada, bob, bench = lab.people["ada"], lab.people["bob"], lab.bench
    (sample,) = ada.samples.claim(bench.project, 1).samples
    before = len(bench.client.annotations.list(bench.project))
    with pytest.raises(FailedPrecondition) as raised:
        bob.annotations.commit(bench.tissue.labels(sample.region), sample=sample)
    assert raised.value.reason == "LEASE_MISMATCH"
    assert "'ada'" in raised.value.message
    with pytest.raises(FailedPrecondition) as raised:
        bob.samples.create(bench.project, bench.volume, sample.region)
    assert raised.value.reason == "REGION_TAKEN"
    with pytest.raises(FailedPrecondition) as raised:
        bob.samples.renew(sample.name)
    assert raised.value.reason == "LEASE_LOST"
    assert len(bench.client.annotations.list(bench.project)) == before
    ada.annotations.commit(bench.tissue.labels(sample.region), sample=replace(sample))


Attempt = Callable[[Client, Bench], object]

FOR_MANAGERS: dict[str, Attempt] = {
    "train": lambda client, bench: client.jobs.train(bench.project, max_steps=1),
    "ask the sampler to train": lambda client, bench: client.samples.train(bench.project, force=True),
    "import": lambda client, bench: client.jobs.import_volume(
        bench.project, str(bench.tissue.path), voxel_size=VOXEL_SIZE
    ),
    "predict": lambda client, bench: client.jobs.predict(bench.volume),
    "export": lambda client, bench: client.jobs.export(bench.volume),
    "configure the pool": lambda client, bench: client.samples.configure(bench.project, seed=7),
    "delete the volume": lambda client, bench: client.volumes.delete(bench.volume, force=True),
    "delete the project": lambda client, bench: client.projects.delete(bench.project, force=True),
    "rename the project": lambda client, bench: client.projects.update(bench.project, display_name="mine"),
    "become an owner": lambda client, bench: client.projects.set_member(bench.project, "ada", "owner"),
    "make a user": lambda client, bench: client.platform.create_user("friend"),
    "see all users": lambda client, bench: client.platform.users(),
    "take a token of the administrator": lambda client, bench: client.platform.create_token(user_id="admin"),
    "see jobs of all projects": lambda client, bench: client.jobs.list(),
}


@pytest.mark.parametrize("what", FOR_MANAGERS)
def test_an_annotator_may_not(lab: Lab, what: str) -> None:
    before = _state(lab.bench)
    with pytest.raises(PermissionDenied) as raised:
        FOR_MANAGERS[what](lab.people["ada"], lab.bench)
    assert raised.value.reason in ("NOT_ALLOWED", "ADMIN_ONLY", "NOT_YOUR_TOKENS")
    assert _state(lab.bench) == before


def _state(bench: Bench) -> tuple[object, ...]:
    client = bench.client
    return (
        client.projects.list(),
        client.volumes.list(bench.project),
        client.projects.members(bench.project),
        client.jobs.list(),
        client.samples.pool(bench.project).seed,
        client.platform.users(),
        [token.name for token in client.platform.tokens()],
    )


FOR_MEMBERS: dict[str, Attempt] = {
    "the project": lambda client, bench: client.projects.get(bench.project),
    "its members": lambda client, bench: client.projects.members(bench.project),
    "the volume": lambda client, bench: client.volumes.get(bench.volume),
    "voxels": lambda client, bench: client.volumes.read(bench.volume),
    "layers": lambda client, bench: client.volumes.layers(bench.volume),
    "annotations": lambda client, bench: client.annotations.list(bench.project),
    "samples": lambda client, bench: client.samples.list(bench.project),
    "a claim": lambda client, bench: client.samples.claim(bench.project, 1),
    "the pool": lambda client, bench: client.samples.pool(bench.project),
    "models": lambda client, bench: client.models.list(bench.project),
    "jobs": lambda client, bench: client.jobs.list(bench.project),
    "a job": lambda client, bench: client.jobs.get(bench.client.jobs.list(bench.project)[0].name),
    "a training": lambda client, bench: client.jobs.train(bench.project, max_steps=1),
}


@pytest.mark.parametrize("what", FOR_MEMBERS)
def test_a_stranger_finds_nothing_of(lab: Lab, what: str) -> None:
    with pytest.raises(NotFound) as raised:
        FOR_MEMBERS[what](lab.stranger, lab.bench)
    assert raised.value.reason in ("PROJECT_NOT_FOUND", "JOB_NOT_FOUND")


def test_a_stranger_sees_no_project_in_the_list(lab: Lab) -> None:
    assert lab.stranger.projects.list() == []
    assert [item.name for item in lab.people["ada"].projects.list()] == [lab.bench.project]


def test_a_member_who_was_removed_is_a_stranger_from_then_on(lab: Lab) -> None:
    dee, bench = lab.people["dee"], lab.bench
    assert dee.projects.get(bench.project).name == bench.project
    bench.client.projects.remove_member(bench.project, "dee")
    with pytest.raises(NotFound):
        dee.projects.get(bench.project)
