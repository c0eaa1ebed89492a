"""Requests that may arrive twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from biosegment.errors import AlreadyExists, InvalidArgument


@dataclass(frozen=True, slots=True)
class Request:
    """A request with an id that its client chose.

    Attributes:
        scope: Within what ids are unique: a project id, or `user:{id}` for new projects.
        id: '' when the client gave none: then a repeated request is another request.
        digest: Of what was asked; see `of`.
    """

    scope: str
    id: str
    digest: str

    @classmethod
    def of(cls, scope: str, request_id: str, *parts: str | bytes) -> Request:
        """Make one from everything that was asked.

        Raises:
            InvalidArgument: BAD_REQUEST_ID when the id is longer than 100 characters.
        """
        if len(request_id) > 100:
            raise InvalidArgument("BAD_REQUEST_ID", "request_id is longer than 100 characters; send a UUID")
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return cls(scope, request_id, digest.hexdigest())

    def check_same(self, digest: str, resource: str) -> str:
        """Return the resource of the first such request; AlreadyExists REQUEST_ID_REUSED when it differs."""
        if digest != self.digest:
            raise AlreadyExists(
                "REQUEST_ID_REUSED",
                f"request_id {self.id!r} was used for another request, which made {resource}; take a new UUID",
                resource=resource,
            )
        return resource
