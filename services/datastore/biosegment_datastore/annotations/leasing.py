"""Checks the leases that the sampler signed, without asking it."""

from __future__ import annotations

from typing import Any

import jwt

from biosegment.auth import PrincipalVerifier
from biosegment.errors import FailedPrecondition, InvalidArgument, Unauthenticated
from biosegment.volume import Index, Region
from biosegment_datastore.annotations.annotation import Lease, NewAnnotation


class LeaseVerifier:
    """Reads lease tokens.

    Args:
        verifier: Checks the sampler's signature.
    """

    def __init__(self, verifier: PrincipalVerifier) -> None:
        self._verifier = verifier

    def check(self, user: str, volume_name: str, new: NewAnnotation, token: str) -> Lease | None:
        """The lease under which a sample is answered; None for a region of one's own choice.

        Raises:
            InvalidArgument: LEASE_MISSING, BAD_LEASE.
            FailedPrecondition: LEASE_EXPIRED, LEASE_MISMATCH.
        """
        if not new.sample:
            return None
        if not token:
            raise InvalidArgument(
                "LEASE_MISSING", f"answering {new.sample} needs the lease_token that its claim gave"
            )
        try:
            claims = self._verifier.verify_claims(token, "sampler")
        except Unauthenticated as error:
            if isinstance(error.__cause__, jwt.ExpiredSignatureError):
                raise FailedPrecondition(
                    "LEASE_EXPIRED",
                    f"the lease of {new.sample} has expired; renew it and commit again, nothing is lost",
                ) from error
            raise InvalidArgument(
                "BAD_LEASE", "the lease_token is not one that the sampler gave; claim again"
            ) from error
        lease = _read_lease(claims)
        lease.check(user, volume_name, new)
        return lease


def _read_lease(claims: dict[str, Any]) -> Lease:
    try:
        start, stop = claims["region"]
        return Lease(
            holder=str(claims["sub"]),
            sample=str(claims["sample"]),
            volume=str(claims["volume"]),
            region=Region(Index(*map(int, start)), Index(*map(int, stop))),
            strategy=str(claims.get("strategy") or ""),
            model=str(claims.get("model") or ""),
            term=int(claims.get("term") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument("BAD_LEASE", f"the lease_token lacks a valid claim: {error}") from error
