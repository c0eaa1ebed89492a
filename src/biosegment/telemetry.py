"""Logs: one JSON object per line on stderr, for the standard library's loggers too. Secrets never get in."""

from __future__ import annotations

import logging
import re
import sys
from functools import lru_cache
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

from biosegment.errors import InvalidArgument

_HIDDEN: Final = "[hidden]"
_SECRET_KEY: Final = re.compile(
    r"authorization|password|secret|token|api_key|private_key|cookie", re.IGNORECASE
)
_SECRET_TEXT: Final = (
    re.compile(r"bsg_[A-Za-z0-9_\-]+"),
    re.compile(r"eyJ[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*"),
    re.compile(r"(?<=Bearer )[^\s'\"]+", re.IGNORECASE),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
)

_MAY_BE_SECRET: Final = re.compile(r"bsg_|eyJ|bearer |://", re.IGNORECASE)
"""Found in every text that one of those finds; most texts are looked through once."""


def configure(service: str, level: str = "INFO", format: str = "json") -> None:
    """Set up logging of this process; once, at start.

    Args:
        service: Goes into every line.
        level: Of our own lines, `DEBUG` to `CRITICAL`; libraries speak from WARNING on.
        format: `json`, or `console` for people.

    Raises:
        InvalidArgument: BAD_SETTINGS for another level or format.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or format not in ("json", "console"):
        raise InvalidArgument(
            "BAD_SETTINGS",
            f"log level {level!r}, format {format!r}: levels are DEBUG to CRITICAL, formats json and console",
        )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Naming(service),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    for ours in ("biosegment", f"biosegment_{service}"):
        logging.getLogger(ours).setLevel(number)
    logging.captureWarnings(True)


def redact(logger: Any, method: str, event: EventDict) -> EventDict:
    """Replace what looks like a secret, by the name of its key or by its text, also inside of exceptions."""
    return {key: _redacted(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _redacted(key: object, value: Any) -> Any:
    if isinstance(key, str) and _is_secret(key) and value:
        return _HIDDEN
    if isinstance(value, dict):
        return {inner: _redacted(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    if isinstance(value, str) and _MAY_BE_SECRET.search(value):
        for pattern in _SECRET_TEXT:
            value = pattern.sub(_HIDDEN, value)
    return value


class _Naming:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        event.setdefault("service", self._service)
        return event
