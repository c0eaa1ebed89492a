"""Every error that BioSegment raises on purpose, on both sides of the wire.

    BiosegmentError
    ├ InvalidArgument      400 INVALID_ARGUMENT     the request is wrong whatever the state
    ├ Unauthenticated      401 UNAUTHENTICATED      no token, or one that does not verify
    ├ PermissionDenied     403 PERMISSION_DENIED    known caller, not allowed
    ├ NotFound             404 NOT_FOUND
    ├ AlreadyExists        409 ALREADY_EXISTS
    ├ Conflict             409 ABORTED              the etag or base is not the current one
    ├ FailedPrecondition   409 FAILED_PRECONDITION  right request, wrong state
    ├ ResourceExhausted    429 RESOURCE_EXHAUSTED   a limit, a quota, a full disk
    ├ Unimplemented        501 UNIMPLEMENTED        in the contract, not in this release
    ├ Unavailable          503 UNAVAILABLE          try again
    ├ DeadlineExceeded     504 DEADLINE_EXCEEDED
    └ Internal             500 INTERNAL             our fault; details are in the log under its id

The domain raises these; `biosegment.rpc` sends them as `google.rpc.Status` with `ErrorInfo` and the SDK rebuilds
them, so that `except biosegment.NotFound` works everywhere. A message says what was wrong, with which value, and
what to do.
"""

from __future__ import annotations

from typing import ClassVar


class BiosegmentError(Exception):
    """Root of the tree.

    Attributes:
        reason: UPPER_SNAKE, stable, for programs (`LEASE_EXPIRED`); unique within its class.
        message: For people: what was wrong, with which value, what to do.
        metadata: Small string values that belong to the reason, for programs.
    """

    grpc_code: ClassVar[str] = "UNKNOWN"
    http_status: ClassVar[int] = 500

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Ray, process pools); the default would lose `reason`.
        return (_rebuild, (type(self), self.reason, self.message, self.metadata))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"


def _rebuild(
    kind: type[BiosegmentError], reason: str, message: str, metadata: dict[str, str]
) -> BiosegmentError:
    return kind(reason, message, **metadata)


class InvalidArgument(BiosegmentError):
    grpc_code, http_status = "INVALID_ARGUMENT", 400


class Unauthenticated(BiosegmentError):
    grpc_code, http_status = "UNAUTHENTICATED", 401


class PermissionDenied(BiosegmentError):
    grpc_code, http_status = "PERMISSION_DENIED", 403


class NotFound(BiosegmentError):
    grpc_code, http_status = "NOT_FOUND", 404


class AlreadyExists(BiosegmentError):
    grpc_code, http_status = "ALREADY_EXISTS", 409


class Conflict(BiosegmentError):
    grpc_code, http_status = "ABORTED", 409


class FailedPrecondition(BiosegmentError):
    grpc_code, http_status = "FAILED_PRECONDITION", 409


class ResourceExhausted(BiosegmentError):
    grpc_code, http_status = "RESOURCE_EXHAUSTED", 429


class Unimplemented(BiosegmentError):
    grpc_code, http_status = "UNIMPLEMENTED", 501


class Unavailable(BiosegmentError):
    grpc_code, http_status = "UNAVAILABLE", 503


class DeadlineExceeded(BiosegmentError):
    grpc_code, http_status = "DEADLINE_EXCEEDED", 504


class Internal(BiosegmentError):
    grpc_code, http_status = "INTERNAL", 500


ERRORS: tuple[type[BiosegmentError], ...] = (
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    ResourceExhausted,
    Unimplemented,
    Unavailable,
    DeadlineExceeded,
    Internal,
)

BY_GRPC_CODE: dict[str, type[BiosegmentError]] = {error.grpc_code: error for error in ERRORS}
