"""A room of ten people on one project: windows, lapses, take-overs, questions, second annotators and reviews at once.

What must hold whatever they do: nobody holds what somebody else holds, every commit that was acknowledged is there
once, and two annotators agree as much as their labels do.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from biosegment import connect
from biosegment.client import Client
from biosegment.client.resources import Annotation, Sample
from biosegment.errors import Conflict, FailedPrecondition
from tests.system.platform import running, until
from tests.system.tissue import SAMPLE_SHAPE, Bench, Labels, set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]

ANNOTATORS = ("ada", "bob", "cem", "dee", "eve", "fay")
REVIEWERS = ("rae", "rio")
DEAD, MANAGER = "zoe", "mia"
STEPS = 8
HEARTBEAT_S = 30.0


@dataclass
class Room:
    """A project, its people, and what they were told.

    Attributes:
        committed: By the annotation's name.
        verdicts: Reviewer and verdict by the annotation's name.
        taken: Names of samples that the manager took over.
        second: Names of samples that somebody got as a second annotator.
    """

    bench: Bench
    people: dict[str, Client]
    tokens: dict[str, str]
    committed: dict[str, Annotation] = field(default_factory=dict)
    verdicts: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    second: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def labels(self, user: str, sample: Sample) -> Labels:
        """What a user draws: the truth, but for a few rows in which everybody errs in their own way."""
        labels = self.bench.tissue.labels(sample.region)
        number = sorted(self.people).index(user)
        labels[:, 3 * number : 3 * number + 3] = 2 if number % 2 else 1
        labels[:, -1] = 0
        return labels

    def commit(self, user: str, sample: Sample) -> bool:
        """False when it was taken over meanwhile; the labels are kept as a draft then."""
        labels = self.labels(user, sample)
        try:
            made = self.people[user].annotations.commit(labels, sample=sample)
        except FailedPrecondition as error:
            if (error.reason, error.metadata.get("holder")) != ("LEASE_TAKEN_OVER", MANAGER):
                raise
            draft = f"{sample.volume}/drafts/kept-{sample.name[-8:].lower()}"
            self.people[user].annotations.save_draft(draft, labels, region=sample.region, sample=sample.name)
            return False
        with self.lock:
            self.committed[made.name] = made
        return True

    def claim_new(self, user: str, window: str) -> Sample:
        """A sample that nobody has annotated; what waits for a second annotator comes first and is done."""
        while True:
            (sample,) = self.people[user].samples.claim(self.bench.project, 1, session=window).samples
            if sample.purpose != "second":
                return sample
            self.commit(user, sample)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        bench = set_up(client, tissue, "em", SAMPLE_SHAPE)
        client.samples.configure(bench.project, heartbeat_timeout_s=HEARTBEAT_S, second_annotator_share=0.3)
        roles = {
            **dict.fromkeys((*ANNOTATORS, DEAD), "annotator"),
            **dict.fromkeys(REVIEWERS, "reviewer"),
            MANAGER: "manager",
        }
        people, tokens = {}, {}
        for user_id, role in roles.items():
            client.platform.create_user(user_id, display_name=f"{user_id.title()} Doe")
            client.projects.set_member(bench.project, user_id, role)
            tokens[user_id] = client.platform.create_token(user_id=user_id).secret
            people[user_id] = connect(client.connection.address, token=tokens[user_id])
        yield Room(bench, people, tokens)
        for person in people.values():
            person.close()


def annotate(room: Room, user: str) -> None:
    """Work in two windows, and do everything that one may do with a sample."""
    person, chance = room.people[user], random.Random(user)
    own: list[str] = []
    for _ in range(STEPS):
        window = chance.choice(("left", "right"))
        claim = person.samples.claim(room.bench.project, 2, session=window, heartbeat=True)
        assert all(sample.session == window for sample in claim.samples)
        for sample in claim.samples:
            if sample.purpose == "second":
                assert (sample.annotation, sample.events, sample.earlier_annotation) == ("", (), "")
                with room.lock:
                    room.second.add(sample.name)
            try:
                deal_with(room, user, sample, chance.random(), own)
            except FailedPrecondition as error:
                # The manager was there, or is about to be.
                if error.reason not in ("LEASE_LOST", "SAMPLE_ANNOTATED") or sample.name not in room.taken:
                    raise
        held = person.samples.renew_session(room.bench.project, window, active=True)
        assert all(sample.session == window for sample in held.samples)
    for window in ("left", "right"):
        person.samples.leave(room.bench.project, window)


def deal_with(room: Room, user: str, sample: Sample, luck: float, own: list[str]) -> None:
    person = room.people[user]
    if luck < 0.6:
        if room.commit(user, sample):
            own.append(sample.name)
    elif luck < 0.7:
        person.samples.skip(sample.name, "blurred")
    elif luck < 0.8:
        person.samples.flag(sample.name, f"{user} asks")
        other = room.people[ANNOTATORS[(ANNOTATORS.index(user) + 1) % len(ANNOTATORS)]]
        other.samples.unflag(sample.name, "it is one")
    elif luck < 0.9:
        person.samples.release(sample.name)
    elif own:
        try:
            again = person.samples.resume(own[-1], session="left", heartbeat=True)
        except FailedPrecondition as error:
            # A second annotator is at it, or asks about it; or it was rejected, and its region went to somebody.
            if error.reason not in ("LEASE_LOST", "SAMPLE_FLAGGED", "REGION_TAKEN"):
                raise
            return
        if again.earlier_annotation:
            room.commit(user, again)


def review(room: Room, user: str) -> None:
    person = room.people[user]
    step, deadline = 0, time.monotonic() + 60
    # The first annotation may come late; without any there is nothing to judge.
    while step < STEPS or (not room.verdicts and time.monotonic() < deadline):
        step += 1
        for each in person.samples.claim_reviews(room.bench.project, 2).reviews:
            assert each.author != user
            accepted = len(room.verdicts) % 5 != 0
            person.annotations.review(each.annotation, accepted=accepted, comment="as I see it")
            with room.lock:
                room.verdicts.setdefault(each.annotation, []).append((user, accepted))


def manage(room: Room) -> None:
    person = room.people[MANAGER]
    for _ in range(STEPS):
        held = person.samples.list(room.bench.project, state="leased")
        others = [each for each in held if each.holder not in (MANAGER, DEAD)]
        if not others:
            continue
        with room.lock:
            room.taken.add(others[0].name)
        try:
            taken = person.samples.take_over(others[0].name)
        except (FailedPrecondition, Conflict) as error:
            # Its holder was faster, and somebody else may have it by now.
            if error.reason not in ("NOT_HELD", "SAMPLE_ANNOTATED", "TAKEN_OVER_MEANWHILE"):
                raise
            continue
        assert taken.holder == MANAGER
        assert room.commit(MANAGER, taken)


def watch(room: Room, ended: threading.Event) -> int:
    """Look again and again; returns how often."""
    looks = 0
    while not ended.is_set():
        held = room.bench.client.samples.list(room.bench.project, state="leased")
        for one, other in combinations(held, 2):
            assert one.holder == other.holder or not one.region.overlaps(other.region), (one, other)
        looks += 1
    return looks


def test_ten_people_at_once_never_hold_the_same_and_lose_nothing(room: Room) -> None:
    bench, ended = room.bench, threading.Event()
    dead = room.people[DEAD].samples.claim(bench.project, 3, session="laptop", heartbeat=True).samples
    with ThreadPoolExecutor(11) as pool:
        watching = pool.submit(watch, room, ended)
        work = [pool.submit(annotate, room, user) for user in ANNOTATORS]
        work += [pool.submit(review, room, user) for user in REVIEWERS]
        work.append(pool.submit(manage, room))
        try:
            for future in work:
                future.result()
        finally:
            ended.set()
        assert watching.result() > 1
    found = {one.name: one for one in bench.client.annotations.list(bench.project)}
    assert set(found) == set(room.committed)
    # No annotation was judged by two, and each verdict is the one that holds.
    assert room.verdicts
    for name, verdicts in room.verdicts.items():
        ((_, accepted),) = verdicts
        assert found[name].state in (("accepted",) if accepted else ("rejected",))
    holding = [one for one in found.values() if one.state in ("pending", "accepted")]
    by_sample: dict[str, set[str]] = {}
    for one in holding:
        by_sample.setdefault(one.sample, set()).add(one.author)
    several = {name for name, authors in by_sample.items() if len(authors) > 1}
    assert several <= room.second | room.taken
    samples = {each.name: each for each in bench.client.samples.list(bench.project)}
    assert {name for name, each in samples.items() if each.annotation} == set(by_sample)
    annotated = [samples[name] for name in by_sample]
    assert not any(one.region.overlaps(other.region) for one, other in combinations(annotated, 2))
    # The laptop stays closed: what it held is open again, and anybody may have it.
    until(
        lambda: all(bench.client.samples.get(each.name).state == "open" for each in dead),
        3 * HEARTBEAT_S,
        "the samples of a window without heartbeats are free",
    )
    for each in dead:
        chosen = room.people["ada"].samples.create(bench.project, bench.volume, each.region, session="left")
        assert chosen.holder == "ada"
    assert len(room.people["ada"].samples.leave(bench.project, "left")) == len(dead)


def test_agreement_is_that_of_the_labels(room: Room) -> None:
    client, bench = room.bench.client, room.bench
    bob = room.people["bob"]
    client.samples.configure(bench.project, second_annotator_share=1)
    sample = room.claim_new("ada", "pair")
    room.commit("ada", sample)
    seconds = bob.samples.claim(bench.project, 100, session="pair").samples
    for second in seconds:
        if second.purpose == "second":
            room.commit("bob", second)
    bob.samples.leave(bench.project, "pair")
    found = client.samples.agreements(bench.project)
    assert found.pending == 0
    assert sample.name in {one.sample for one in found.samples}
    sums: dict[tuple[str, str], NDArray[np.int64]] = {}
    for each in found.samples:
        one, other = (client.annotations.labels(name) for name in (each.first, each.second))
        both = (one > 0) & (other > 0)
        is_one, is_other = (one == 2) & both, (other == 2) & both
        counts = np.array([(is_one & is_other).sum(), (is_one | is_other).sum(), both.sum()])
        (of_class,) = each.classes
        assert (of_class.intersection_voxels, of_class.union_voxels, each.compared_voxels) == tuple(counts)
        assert each.agreed_voxels == (one == other)[both].sum()
        authors = (min(each.first_author, each.second_author), max(each.first_author, each.second_author))
        sums[authors] = sums.get(authors, np.zeros(3, np.int64)) + counts
    for pair in found.authors:
        (of_class,) = pair.classes
        counts = sums.pop((pair.first_author, pair.second_author))
        assert (of_class.intersection_voxels, of_class.union_voxels, pair.compared_voxels) == tuple(counts)
        assert of_class.iou == (counts[0] / counts[1] if counts[1] else 1)
    assert not sums


def test_what_was_drawn_before_a_take_over_is_the_drawers_still(room: Room) -> None:
    cem = room.people["cem"]
    sample = room.claim_new("cem", "one")
    labels = room.labels("cem", sample)
    taken = room.people[MANAGER].samples.take_over(sample.name)
    assert [(each.action, each.user, each.text) for each in taken.events[-1:]] == [
        ("taken_over", MANAGER, "cem")
    ]
    with pytest.raises(FailedPrecondition, match="Mia Doe took") as caught:
        cem.annotations.commit(labels, sample=sample)
    assert caught.value.reason == "LEASE_TAKEN_OVER"
    with pytest.raises(FailedPrecondition, match=r"Mia Doe \(mia\) took .* drafts are yours"):
        cem.samples.renew(sample.name)
    draft = f"{sample.volume}/drafts/mine"
    cem.annotations.save_draft(draft, labels, region=sample.region, sample=sample.name)
    np.testing.assert_array_equal(cem.annotations.draft(draft)[1], labels)
    own = cem.annotations.commit(labels, volume=sample.volume, region=sample.region, draft=draft)
    assert (own.sample, own.author) == ("", "cem")
    assert room.commit(MANAGER, taken)


def command(room: Room, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user of the room."""
    environment = {
        **os.environ,
        "BIOSEGMENT_ADDRESS": room.bench.client.connection.address,
        "BIOSEGMENT_TOKEN": room.tokens[user],
        "BIOSEGMENT_PROJECT": "em",
    }
    line = [sys.executable, "-m", "biosegment.cli", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=60, check=False)
    print(f"\n$ biosegment {' '.join(arguments)}    # {user}\n{done.stdout}{done.stderr}")
    return done


def test_the_commands_of_a_room(room: Room) -> None:
    def ask(user: str, *arguments: str) -> str:
        done = command(room, user, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ask(
        "mia",
        "sample",
        "configure",
        "--second-share",
        "0",
        "--lease-minutes",
        "20",
        "--heartbeat-timeout",
        "300",
    )
    claimed = json.loads(ask("dee", "sample", "next", "--count", "2", "--session", "w", "--json"))
    name, other = claimed[0]["name"], claimed[1]["name"]
    assert name in ask("dee", "sample", "heartbeat", "--session", "w", "--active")
    lost = command(room, "dee", "sample", "heartbeat", "--session", "v", "--sample", name)
    assert "another window" in lost.stderr
    ask("dee", "sample", "flag", name, "--text", "is this a lysosome?")
    assert "is this a lysosome?" in ask("eve", "sample", "list", "--flagged")
    refused = command(room, "eve", "sample", "release", name)
    assert refused.returncode == 1
    assert "dee asks" in refused.stderr
    shown = ask("eve", "sample", "unflag", name, "--answer", "it is")
    assert "unflagged" in shown
    assert "it is" in shown
    assert "Dee Doe" in ask("dee", "sample", "list", "--mine")
    assert "taken_over" in ask("mia", "sample", "take-over", other)
    assert "Mia Doe" in command(room, "dee", "sample", "renew", other).stderr
    ask("mia", "sample", "release", other)
    ask("dee", "sample", "resume", name)
    assert "1 sample back" in command(room, "dee", "sample", "leave").stderr
    # By name; the value says nothing to people.
    assert "mitochondria 0." in ask("bob", "sample", "agreement")
    pending = json.loads(ask("rae", "sample", "review", "next", "--json"))
    if pending:
        annotation = pending[0]["annotation"]
        assert "rejected" in ask("rae", "sample", "review", "reject", annotation, "--comment", "too wide")
        assert "too wide" in ask("rae", "sample", "show", pending[0]["sample"])
    ask("rae", "sample", "review", "next", "--count", "3")
    full = command(room, "fay", "sample", "next", "--count", "100", "--session", "all")
    rest = command(room, "fay", "sample", "next", "--count", "100", "--session", "rest")
    assert full.returncode == rest.returncode == 0
    end = command(room, "eve", "sample", "next", "--count", "100", "--session", "end")
    assert "You can" in end.stderr + rest.stderr
