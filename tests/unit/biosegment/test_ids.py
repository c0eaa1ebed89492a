from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import InvalidArgument
from biosegment.ids import check_id, new_id, parse_name

IDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def test_a_new_id_is_one_that_may_be_used_and_differs_from_all_others() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(check_id(value, "volume") == value and len(value) == 26 for value in ids)


def test_later_ids_sort_after_earlier_ones() -> None:
    earlier = new_id()
    time.sleep(0.003)
    assert earlier < new_id()


@given(IDS)
def test_what_follows_the_rule_is_accepted(value: str) -> None:
    assert check_id(value, "volume") == value


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "a_b", "a/b", "a" * 64, "é", "a\n", "..", " a"])
def test_what_breaks_the_rule_is_refused_with_its_value(value: str) -> None:
    with pytest.raises(InvalidArgument, match="volume id") as caught:
        check_id(value, "volume")
    assert repr(value) in caught.value.message


@given(IDS, IDS)
def test_names_are_split_into_their_ids(project: str, volume: str) -> None:
    assert parse_name(f"projects/{project}/volumes/{volume}", "projects/*/volumes/*") == (project, volume)


@pytest.mark.parametrize(
    "name",
    ["", "projects", "projects/", "projects/a/volumes", "projects/a/layers/b", "projects/a/volumes/b/",
     "projects/A/volumes/b", "/projects/a/volumes/b", "projects/../volumes/b"],
)  # fmt: skip
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"projects/\*/volumes/\*"):
        parse_name(name, "projects/*/volumes/*")
