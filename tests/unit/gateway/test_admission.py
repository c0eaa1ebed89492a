from __future__ import annotations

import pytest
from biosegment_gateway.admission import REFUSED, Admission
from biosegment_gateway.audit import Audit
from biosegment_gateway.audit_sql import SqlEvents
from biosegment_gateway.domain import AuditQuery
from biosegment_gateway.peer import Proxies

from biosegment.auth import Kind, Principal
from biosegment.errors import ResourceExhausted, Unauthenticated
from biosegment.rpc.errors import retry_after_s

ANN, BOB = Principal(Kind.USER, "ann"), Principal(Kind.USER, "bob")
TOKEN = f"bsg_{'0' * 26}_{'0' * 64}"


@pytest.fixture
def audit(database, clock):
    return Audit(SqlEvents(database), clock)


def _refusal(admission, principal=ANN):
    with pytest.raises(ResourceExhausted) as caught, admission.admitted(principal):
        pytest.fail("was admitted")
    pause_s = retry_after_s(caught.value)
    assert pause_s is not None
    assert pause_s > 0
    assert "try again" in caught.value.message
    return caught.value.reason


async def test_a_user_who_asks_too_often_is_told_when_to_come_again(audit):
    admission = Admission(0.01, 2, 0, audit, Proxies())
    for _ in range(2):
        with admission.admitted(ANN):
            pass
    assert _refusal(admission) == "RATE_LIMITED"
    with admission.admitted(BOB):
        pass


async def test_a_user_has_so_many_requests_at_a_time(audit):
    admission = Admission(0, 1, 2, audit, Proxies())
    with admission.admitted(ANN), admission.admitted(ANN):
        assert _refusal(admission) == "TOO_MANY_AT_ONCE"
        with admission.admitted(BOB):
            pass
    with pytest.raises(ZeroDivisionError), admission.admitted(ANN):
        raise ZeroDivisionError
    with admission.admitted(ANN), admission.admitted(ANN):
        pass
    assert not admission._running, "those who are gone are forgotten"


async def test_without_limits_everything_is_admitted(audit):
    admission = Admission(0, 1, 0, audit, Proxies())
    for _ in range(1000):
        with admission.admitted(ANN):
            pass


async def test_tokens_that_let_nobody_in_are_recorded_but_not_for_ever(audit):
    admission = Admission(0, 1, 0, audit, Proxies())
    error = Unauthenticated("TOKEN_REVOKED", "no")
    admission.refused(Unauthenticated("NO_TOKEN", "no"), "", "10.0.0.1:1")
    admission.refused(error, "somebody's password", "10.0.0.2:2")
    admission.refused(error, TOKEN, "[2001:db8::1]:3")
    newest, oldest = await audit.list(AuditQuery())
    assert (newest.action, newest.resource, newest.outcome) == (
        REFUSED,
        f"token {'0' * 26}",
        "UNAUTHENTICATED",
    )
    assert (newest.user_id, newest.peer) == ("", "[2001:db8::1]:3")
    assert (oldest.resource, oldest.peer) == ("", "10.0.0.2:2"), "what was shown may be a secret"
    for number in range(100):
        admission.refused(error, TOKEN, f"10.0.0.3:{number}")
    of_one = await audit.list(AuditQuery(limit=1000))
    assert 10 <= len(of_one) - 2 <= 12
    for number in range(1000):
        admission.refused(error, TOKEN, f"10.1.{number % 250}.{number // 250}:1")
    assert len(await audit.list(AuditQuery(limit=1000))) <= 300
