"""Between the gateway's values and messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment_gateway.domain import ApiToken, AuditEvent, AuditQuery, User, UserField


def user_to_proto(user: User) -> identity_pb2.User:
    return identity_pb2.User(
        name=f"users/{user.user_id}",
        display_name=user.display_name,
        is_admin=user.is_admin,
        create_time=_timestamp(user.create_time),
        disabled=user.disabled,
    )


def token_to_proto(token: ApiToken) -> identity_pb2.Token:
    message = identity_pb2.Token(
        name=f"users/{token.user_id}/tokens/{token.token_id}",
        display_name=token.display_name,
        create_time=_timestamp(token.create_time),
        scopes=map(str, token.limits),
    )
    if token.expire_time is not None:
        message.expire_time.CopyFrom(_timestamp(token.expire_time))
    if token.last_use_time is not None:
        message.last_use_time.CopyFrom(_timestamp(token.last_use_time))
    return message


def event_to_proto(event: AuditEvent) -> identity_pb2.AuditEvent:
    return identity_pb2.AuditEvent(
        sequence=event.sequence,
        time=_timestamp(event.time),
        user=event.user_id,
        action=event.action,
        resource=event.resource,
        outcome=event.outcome,
        peer=event.peer,
    )


def audit_query_of(request: identity_pb2.ListAuditEventsRequest) -> AuditQuery:
    """What is asked for; InvalidArgument BAD_TIME for impossible times."""
    return AuditQuery(
        user_id=request.user,
        resource=request.resource.rstrip("/"),
        action=request.action,
        start=_time_of(request, "start_time"),
        end=_time_of(request, "end_time"),
        before_sequence=request.before_sequence,
        after_sequence=request.after_sequence,
        oldest_first=request.oldest_first,
        limit=request.page_size,
    )


def user_change_of(request: identity_pb2.UpdateUserRequest) -> tuple[User, list[UserField]]:
    """A user with the wanted values, and which of them count.

    Raises:
        InvalidArgument: BAD_NAME; BAD_UPDATE_MASK when it is empty or names other fields.
    """
    known = {field.value: field for field in UserField}
    paths = list(request.update_mask.paths)
    if not paths or not set(paths) <= set(known):
        raise InvalidArgument(
            "BAD_UPDATE_MASK", f"update_mask {paths} must name some of {', '.join(known)}, and nothing else"
        )
    (user_id,) = parse_name(request.user.name, "users/*")
    user = request.user
    wanted = User(user_id, user.display_name, user.is_admin, user.disabled, datetime.fromtimestamp(0, UTC))
    return wanted, [known[path] for path in paths]


def user_id_of(parent: str) -> str:
    """Id in `users/{user}`; '' for ''."""
    return parse_name(parent, "users/*")[0] if parent else ""


def token_ids_of(name: str) -> tuple[str, str]:
    """Ids in `users/{user}/tokens/{token}`."""
    user_id, token_id = parse_name(name, "users/*/tokens/*")
    return user_id, token_id


def expire_time_of(token: identity_pb2.Token) -> datetime | None:
    """When a wanted token shall expire; None for never. InvalidArgument BAD_TIME for impossible times."""
    return _time_of(token, "expire_time")


def _time_of(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    try:
        time: datetime = getattr(message, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument("BAD_TIME", f"{field} is no time: {error}") from error
    return time


def _timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message
