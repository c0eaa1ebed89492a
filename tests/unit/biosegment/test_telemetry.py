from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from biosegment.errors import InvalidArgument
from biosegment.telemetry import configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in ("biosegment", "biosegment_datastore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_is_json_with_its_service_and_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure("datastore")
    structlog.contextvars.bind_contextvars(request_id="r1")
    structlog.get_logger("biosegment.rpc").info("rpc", method="a.B/Get", ms=1.5)
    (line,) = _lines(capsys)
    assert line["service"] == "datastore"
    assert (line["event"], line["method"], line["ms"], line["request_id"]) == ("rpc", "a.B/Get", 1.5, "r1")
    assert (line["level"], line["logger"]) == ("info", "biosegment.rpc")


def test_loggers_of_the_standard_library_speak_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure("datastore")
    logging.getLogger("biosegment_datastore.annotations.projector").info("applied %d", 3)
    logging.getLogger("sqlalchemy").info("chatter")
    logging.getLogger("sqlalchemy").warning("something is odd")
    lines = _lines(capsys)
    assert [line["event"] for line in lines] == ["applied 3", "something is odd"]
    assert {line["service"] for line in lines} == {"datastore"}


SECRETS = ["bsg_01abc_s3cr3t-S3CR3T", "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_do_not_get_into_a_line(capsys: pytest.CaptureFixture[str], secret: str) -> None:
    configure("datastore")
    log = structlog.get_logger("biosegment")
    log.info(
        f"token {secret}",
        authorization="Bearer opaque1",
        headers={"Authorization": "opaque2"},
        items=[secret],
    )
    log.info(
        "x", note="Authorization: Bearer opaque3", url="postgresql://ann:opaque4@host/db", S3_SECRET="opaque5"
    )
    logging.getLogger("uvicorn").warning("request with %s", secret)
    try:
        raise ValueError(f"bad {secret} from postgresql://ann:opaque6@host/db")
    except ValueError:
        log.exception("failed")
        logging.getLogger("uvicorn").exception("failed")
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 5
    assert "ValueError: bad [hidden]" in text
    assert secret not in text
    assert "opaque" not in text
    assert "host/db" in text


def test_people_can_have_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure("datastore", "debug", "console")
    structlog.get_logger("biosegment").debug("hello", size=3)
    text = capsys.readouterr().err
    assert "hello" in text
    assert "size" in text
    assert not text.startswith("{")


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure("datastore", "WARNING")
    structlog.get_logger("biosegment").info("quiet")
    structlog.get_logger("biosegment").warning("loud")
    assert [line["event"] for line in _lines(capsys)] == ["loud"]


@pytest.mark.parametrize(("level", "format"), [("LOUD", "json"), ("INFO", "xml")])
def test_another_level_or_format_is_refused(level: str, format: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        configure("datastore", level, format)
    assert caught.value.reason == "BAD_SETTINGS"
