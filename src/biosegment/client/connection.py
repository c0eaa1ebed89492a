"""Finding the platform: address and token from arguments, the environment, a kept sign-in, or a data folder here.

`biosegment login` keeps a sign-in; `biosegment up` leaves `run/connection.json` in its data folder, and the token in a
file that only its owner can read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from biosegment.client.kept_sign_in import KeptToken, SignInFile
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
        address: host:port of the gRPC port, https://host:port where it is encrypted; the authority of the
            certificate is in the file that `BIOSEGMENT_CA_FILE` names, where the lab has one of its own.
        token: API token, or the kept sign-in's as it was when this was made.
        http_url: Base URL of the HTTP port, '' when not known.
        renewed: Gives the token of a kept sign-in as it is now; None where it never changes.
    """

    address: str
    token: str
    http_url: str = ""
    renewed: Callable[[], str] | None = field(default=None, compare=False)

    def credentials(self) -> str:
        """What the next call carries; Unauthenticated SIGN_IN_OVER when one has to sign in again."""
        return self.renewed() if self.renewed is not None else self.token


def find_connection(address: str = "", token: str = "", data_dir: Path | None = None) -> Connection:
    """Complete what is not given from `BIOSEGMENT_ADDRESS`, `BIOSEGMENT_TOKEN`, a kept sign-in and the data folder.

    A sign-in that `biosegment login` kept counts unless a token is given, or, without an address, a data folder is.

    Raises:
        FailedPrecondition: NOT_RUNNING when no address can be found.
        Unauthenticated: NO_TOKEN when no token can be found.
    """
    folder = data_dir or default_data_dir()
    address = address or os.environ.get("BIOSEGMENT_ADDRESS", "")
    token = token or os.environ.get("BIOSEGMENT_TOKEN", "")
    http_url = os.environ.get("BIOSEGMENT_HTTP_URL", "")
    says_folder = data_dir is not None or "BIOSEGMENT_DATA" in os.environ
    if not token and (address or not says_folder):
        file = SignInFile()
        kept = file.find(address)
        if kept is not None:
            return Connection(kept.address, kept.token, http_url or kept.http_url, KeptToken(kept, file))
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
                    f"{folder}`, sign in to another one with `biosegment login`, or say where it is with "
                    "BIOSEGMENT_ADDRESS and BIOSEGMENT_TOKEN",
                ) from error
            raise Unauthenticated(
                "NO_TOKEN",
                f"no token for {address}: sign in with `biosegment login`, or set BIOSEGMENT_TOKEN to an API token "
                "of yours",
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise FailedPrecondition("NOT_RUNNING", f"cannot read {path}: {error}") from error
    return Connection(address, token, http_url)
