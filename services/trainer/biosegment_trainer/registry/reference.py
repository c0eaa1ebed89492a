"""Configurations of foreign bundles: plain values, `@` references to plain values, and `$` expressions, which
are code and are refused unless somebody vouched for them.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound

_MAX_BYTES: Final = 1 << 20
_MAX_VALUES: Final = 10_000
_MAX_DEPTH: Final = 30


def read_configuration(folder: Path, *names: str) -> tuple[Path, dict[str, Any]]:
    """The first of some files below `folder`, `.json`, `.yaml` or `.yml`, and the object in it.

    Raises:
        NotFound: BUNDLE_FILE_MISSING.
        InvalidArgument: BAD_BUNDLE.
        FailedPrecondition: EXTRA_MISSING for YAML without its reader.
    """
    for name in names:
        for ending in (".json", ".yaml", ".yml"):
            path = folder / f"{name}{ending}"
            if path.is_file():
                return path, _read(path)
    raise NotFound("BUNDLE_FILE_MISSING", f"the bundle has none of {[f'{name}.json' for name in names]}")


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_BYTES:
        raise InvalidArgument("BAD_BUNDLE", f"{path} is larger than {_MAX_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_BUNDLE", f"{path} cannot be read: {str(error)[:300]}") from error
    if not isinstance(content, dict):
        raise InvalidArgument("BAD_BUNDLE", f"{path} must hold an object")
    return content


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise FailedPrecondition(
            "EXTRA_MISSING", "reading YAML needs pyyaml; install it, or turn the file into JSON"
        ) from error
    try:
        # Tags of Python objects are not known to the safe loader.
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


class Literals:
    """Plain values of a configuration.

    Args:
        configuration: The whole of it.
        evaluate: Gives the value of the `$` expression at an id; None refuses expressions.
    """

    def __init__(self, configuration: Mapping[str, Any], evaluate: Any = None) -> None:
        self._configuration = configuration
        self._evaluate = evaluate
        self._left = _MAX_VALUES

    def at(self, place: str) -> Any:
        """The value at an id like `network_def#channels`; InvalidArgument BAD_BUNDLE, BUNDLE_NOT_TRUSTED."""
        return self._plain(self._found(place), place, 0)

    def _found(self, place: str) -> Any:
        value: Any = self._configuration
        for part in place.replace("::", "#").split("#"):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise InvalidArgument(
                    "BAD_BUNDLE", f"the configuration refers to {place[:100]!r}, which it lacks"
                )
        return value

    def _plain(self, value: Any, place: str, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise InvalidArgument("BAD_BUNDLE", f"{place[:100]!r} is nested too deeply or refers to itself")
        if isinstance(value, Mapping):
            return {str(key): self._plain(item, f"{place}#{key}", depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item, f"{place}#{i}", depth + 1) for i, item in enumerate(value)]
        if not isinstance(value, str):
            if value is None or isinstance(value, bool | int | float):
                return value
            # YAML knows dates, JSON does not.
            if isinstance(value, datetime.date):
                return value.isoformat()
            raise InvalidArgument(
                "BAD_BUNDLE", f"{place[:100]!r} is a {type(value).__name__}, no plain value"
            )
        if value.startswith("$"):
            if self._evaluate is None:
                raise InvalidArgument(
                    "BUNDLE_NOT_TRUSTED",
                    f"{place[:100]!r} is the expression {value[:100]!r}, which is code; write its value instead, "
                    "or let an administrator import the bundle as trusted",
                )
            return Literals({}, None)._plain(self._evaluate(place), place, depth + 1)
        if value.startswith("@"):
            target = value[1:]
            return self._plain(self._found(target), target, depth + 1)
        if value.startswith("%"):
            raise InvalidArgument(
                "BAD_BUNDLE", f"{place[:100]!r} copies {value[:100]!r}; write its value instead"
            )
        return value


class TrustedEvaluation:
    """Evaluates expressions as MONAI would. This runs code of the bundle: for trusted ones, in a process of
    its own.
    """

    def __init__(self, configuration: Mapping[str, Any], path: Path) -> None:
        from monai.bundle import ConfigParser

        self._parser = ConfigParser(dict(configuration))
        self._parser["bundle_root"] = str(path.parent.parent)
        imports = configuration.get("imports")
        self._imports = len(imports) if isinstance(imports, list) else 0
        # Where scripts of bundles expect to be found.
        sys.path.insert(0, str(path.parent.parent))

    def __call__(self, place: str) -> Any:
        """The value at an id, as plain JSON; InvalidArgument BAD_BUNDLE when it fails or is none."""
        try:
            self._import()
            return _as_json(self._parser.get_parsed_content(place))
        # It is somebody else's code.
        except Exception as error:
            raise InvalidArgument(
                "BAD_BUNDLE", f"the expression at {place[:100]!r} cannot be evaluated: {str(error)[:300]}"
            ) from error

    def _import(self) -> None:
        """Import what the bundle imports, as far as it is installed: the network may need none of it."""
        for number in range(self._imports):
            try:
                self._parser.get_parsed_content(f"imports#{number}")
            except Exception as error:
                print(f"imports#{number}: {error}", file=sys.stderr)
        self._imports = 0


def _as_json(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"it gives a {type(value).__name__}, no plain value")
