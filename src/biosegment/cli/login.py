"""Signing in and out."""

from __future__ import annotations

import json as json_text
import os
import sys
from typing import Annotated

import typer

from biosegment.cli.output import JsonOption, console, notes, show
from biosegment.client import login as sign_in
from biosegment.client.connection import connection_file, default_data_dir
from biosegment.client.kept_sign_in import SignInFile
from biosegment.errors import BiosegmentError, FailedPrecondition


def login(
    address: Annotated[
        str,
        typer.Option(
            help="Of the platform's page, http://host:7311.  [default: BIOSEGMENT_HTTP_URL, else the platform here]",
            show_default=False,
        ),
    ] = "",
    grpc_address: Annotated[
        str, typer.Option(help="host:port of its gRPC port, where the page's host is not its host.")
    ] = "",
    user: Annotated[str, typer.Option(help="Sign in with a password, as this user.")] = "",
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    json: JsonOption = False,
) -> None:
    """Sign in: in a browser at the lab's identity provider, or with a password. It is kept for later commands."""
    methods = sign_in.ask_methods(address or _own_page())
    if methods.device is not None and not user:
        kept = sign_in.with_device(methods, _tell)
    elif methods.password:
        user = user or typer.prompt("User id", err=True)
        password = (
            sys.stdin.readline().rstrip("\n")
            if password_stdin
            else typer.prompt("Password", hide_input=True, err=True)
        )
        kept = sign_in.with_password(methods, user, password)
    else:
        raise FailedPrecondition(
            "NO_SIGN_IN",
            f"{methods.http_url} has no sign-in for programs; make an API token at its page, and set BIOSEGMENT_TOKEN",
        )
    if grpc_address:
        kept = sign_in.moved(kept, grpc_address)
    file = SignInFile()
    file.put(kept)
    if json:
        show({"user": kept.user, "address": kept.address, "http_url": kept.http_url}, True)
        return
    console.print(
        f"signed in at {kept.address} as {kept.user}; kept in {file.path}", highlight=False, soft_wrap=True
    )


def logout(
    address: Annotated[
        str, typer.Option(help="host:port of the gRPC port.  [default: the last sign-in]", show_default=False)
    ] = "",
) -> None:
    """Sign out: end the sign-in there, and forget it here."""
    file = SignInFile()
    kept = file.find(address)
    if kept is None:
        raise FailedPrecondition("NOT_SIGNED_IN", f"no sign-in is kept{f' for {address}' if address else ''}")
    file.remove(kept.address)
    try:
        sign_in.sign_out(kept)
    except BiosegmentError as error:
        notes.print(
            f"forgotten here, but not there: {error.message}", highlight=False, markup=False, soft_wrap=True
        )
    console.print(f"signed out of {kept.address}", highlight=False)


def _tell(prompt: sign_in.Prompt) -> None:
    notes.print(
        f"To sign in, open {prompt.complete_url or prompt.url} in a browser, here or elsewhere. "
        f"It must show this code, or asks for it: {prompt.code}",
        highlight=False,
        soft_wrap=True,
    )


def _own_page() -> str:
    if found := os.environ.get("BIOSEGMENT_HTTP_URL", ""):
        return found
    try:
        return str(json_text.loads(connection_file(default_data_dir()).read_text())["http"])
    except (OSError, ValueError, KeyError) as error:
        raise FailedPrecondition(
            "NO_ADDRESS",
            "say where to sign in: --address http://HOST:7311, the address of the platform's page",
        ) from error
