"""Finding the platform: address and token from arguments, the environment, or a data folder on this machine.

`biosegment up` leaves `run/connection.json` in its data folder; the token is in a file that only its owner can read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from biosegment.errors import FailedPrecondition, Unauthenticated


def default_data_dir() -> Path:
    """`BIOSEGMENT_DATA`, or `~/.biosegment`."""
    return Path(os.environ.get("BIOSEGMENT_DATA", "~/.biosegment")).expanduser()


def connection_file(data_dir: Path) -> Path:
    return data_dir / "run" / "connection.json"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the gateway is and how to prove who calls.

    Attributes:
        address: host:port of the gRPC port.
        token: API token.
        http_url: Base URL of the HTTP port, '' when not known.
    """

    address: str
    token: str
    http_url: str = ""


def find_connection(address: str = "", token: str = "", data_dir: Path | None = None) -> Connection:
    """Complete what is not given from `BIOSEGMENT_ADDRESS`, `BIOSEGMENT_TOKEN` and the data folder.

    Raises:
        FailedPrecondition: NOT_RUNNING when no address can be found.
        Unauthenticated: NO_TOKEN when no token can be found.
    """
    folder = data_dir or default_data_dir()
    address = address or os.environ.get("BIOSEGMENT_ADDRESS", "")
    token = token or os.environ.get("BIOSEGMENT_TOKEN", "")
    http_url = os.environ.get("BIOSEGMENT_HTTP_URL", "")
    if not (address and token):
        path = connection_file(folder)
        try:
            found = json.loads(path.read_text())
            token = token or Path(found["token_file"]).read_text().strip()
            address, http_url = (address, http_url) if address else (str(found["grpc"]), str(found["http"]))
        except FileNotFoundError as error:
            if not address:
                raise FailedPrecondition(
                    "NOT_RUNNING",
                    f"no platform runs on {folder} ({path.name} is missing): start it with `biosegment up --data "
                    f"{folder}`, or say where it is with BIOSEGMENT_ADDRESS and BIOSEGMENT_TOKEN",
                ) from error
            raise Unauthenticated(
                "NO_TOKEN", f"no token for {address}: set BIOSEGMENT_TOKEN to an API token of yours"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise FailedPrecondition("NOT_RUNNING", f"cannot read {path}: {error}") from error
    return Connection(address, token, http_url)
