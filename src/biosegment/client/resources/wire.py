"""Values of the API as Python has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.errors import InvalidArgument


def time_of(message: Timestamp) -> datetime | None:
    """None when it was not set."""
    return message.ToDatetime(UTC) if message.seconds else None


def timestamp_of(time: datetime) -> Timestamp:
    """InvalidArgument BAD_AS_OF when it says no time zone."""
    if time.tzinfo is None:
        raise InvalidArgument(
            "BAD_AS_OF", f"as_of {time} says no time zone; give it one, such as datetime.UTC"
        )
    message = Timestamp()
    message.FromDatetime(time)
    return message


def word_of(enumeration: Any, value: int) -> str:
    """`STATE_QUEUED` as `queued`: the name without the prefix that all values of an enum share."""
    names: Iterable[str] = enumeration.keys()
    unspecified = next(name for name in names if name.endswith("_UNSPECIFIED"))
    return str(enumeration.Name(value)).removeprefix(unspecified.removesuffix("UNSPECIFIED")).lower()


def states_of(enumeration: Any, word: str) -> list[Any]:
    """To list only what is in a state: none for '', else the value whose `word_of` is `word`.

    Raises:
        InvalidArgument: UNKNOWN_STATE, with all that there are.
    """
    known = {word_of(enumeration, value): value for value in enumeration.values() if value}
    if word and word.lower() not in known:
        raise InvalidArgument("UNKNOWN_STATE", f"state {word!r} is none of {', '.join(known)}")
    return [known[word.lower()]] if word else []
