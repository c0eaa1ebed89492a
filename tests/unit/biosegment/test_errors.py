from __future__ import annotations

import pickle

import grpc
import pytest

from biosegment import errors


@pytest.mark.parametrize("kind", errors.ERRORS)
def test_an_error_survives_a_process_border(kind: type[errors.BiosegmentError]) -> None:
    error = kind("SOME_REASON", "what was wrong", volume="v1")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.reason, copy.message, copy.metadata) == ("SOME_REASON", "what was wrong", {"volume": "v1"})
    assert str(copy) == "what was wrong"


@pytest.mark.parametrize("kind", errors.ERRORS)
def test_each_class_has_a_grpc_code_of_its_own_and_an_http_error(kind: type[errors.BiosegmentError]) -> None:
    assert grpc.StatusCode[kind.grpc_code] is not grpc.StatusCode.OK
    assert errors.BY_GRPC_CODE[kind.grpc_code] is kind
    assert 400 <= kind.http_status < 600


def test_the_list_of_errors_is_complete() -> None:
    assert set(errors.ERRORS) == set(errors.BiosegmentError.__subclasses__())


@pytest.mark.parametrize("kind", errors.ERRORS)
def test_the_module_describes_every_class(kind: type[errors.BiosegmentError]) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
    assert str(kind.http_status) in line
    assert kind.grpc_code in line or kind.grpc_code == kind.__name__.upper()
