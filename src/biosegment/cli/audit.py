"""The audit log: who did what."""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from biosegment.cli.argument import parse_moment
from biosegment.cli.output import JsonOption, notes, show_list, to_plain
from biosegment.client import connect

audit = typer.Typer(no_args_is_help=True, help="Who did what; platform administrators only.")

WhoOption = Annotated[str, typer.Option("--user", help="Only of this user.")]
ResourceOption = Annotated[
    str, typer.Option("--resource", help="Only about it and what is below: projects/p.")
]
MethodOption = Annotated[str, typer.Option("--method", help="Only methods with this in their name.")]
SinceOption = Annotated[str, typer.Option(help="Not before this ISO time.")]
UntilOption = Annotated[str, typer.Option(help="Only before this ISO time.")]

_COLUMNS = ("sequence", "time", "user", "action", "resource", "outcome", "peer")


@audit.command("list")
def list_events(
    user: WhoOption = "",
    resource: ResourceOption = "",
    method: MethodOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    count: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    json: JsonOption = False,
) -> None:
    """List what was done, newest first."""
    with connect() as client:
        events = client.platform.audit_events(
            user=user, resource=resource, action=method, start=parse_moment(since), end=parse_moment(until)
        )
        show_list(list(itertools.islice(events, count)), _COLUMNS, json, "no events")


@audit.command("export")
def export_events(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Appends to this file; standard output otherwise.")
    ] = None,
    user: WhoOption = "",
    resource: ResourceOption = "",
    method: MethodOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    after: Annotated[int, typer.Option(help="Only events after this sequence number.", min=0)] = 0,
) -> None:
    """Write events as JSON lines, oldest first: a line each, fetched as they are written.

    With the sequence number of the last line as --after the next export goes on where this one ended.
    """
    count = 0
    with connect() as client, output.open("a") if output else nullcontext(sys.stdout) as file:
        for event in client.platform.audit_events(
            user=user,
            resource=resource,
            action=method,
            start=parse_moment(since),
            end=parse_moment(until),
            after_sequence=after,
            oldest_first=True,
        ):
            file.write(json.dumps(to_plain(event)) + "\n")
            count += 1
    notes.print(f"{count} events")
