"""Starting the platform and asking how it is."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from biosegment.auth import SERVICES, generate_key
from biosegment.cli.output import JsonOption, console, show, show_list
from biosegment.client import connect, default_data_dir
from biosegment.client.resources import ServiceStatus
from biosegment.errors import Unavailable
from biosegment.supervisor import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, Supervisor

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data folder.  [default: $BIOSEGMENT_DATA or ~/.biosegment]", show_default=False
    ),
]


def up(
    data: DataOption = None,
    grpc_port: Annotated[
        int, typer.Option(help="gRPC port on loopback; 0 takes a free one.")
    ] = DEFAULT_GRPC_PORT,
    http_port: Annotated[
        int, typer.Option(help="HTTP port on loopback; 0 takes a free one.")
    ] = DEFAULT_HTTP_PORT,
    import_root: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that imports by path may read; repeatable.  [default: home and current folder]"
        ),
    ] = None,
) -> None:
    """Start the platform on this machine and keep it running until Ctrl-C."""
    roots = import_root or [Path.home(), Path.cwd()]
    supervisor = Supervisor(
        data or default_data_dir(),
        grpc_port=grpc_port,
        http_port=http_port,
        import_roots=roots,
        say=lambda line: console.print(line, highlight=False),
    )
    asyncio.run(_run(supervisor))


async def _run(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    addresses = starting.result()
    token = (supervisor.data_dir / "token").read_text().strip()
    console.print(f"BioSegment runs on {supervisor.data_dir}", highlight=False, soft_wrap=True)
    console.print(f"  gRPC  {addresses.grpc['gateway']}", highlight=False)
    scheme = "https" if supervisor.is_encrypted("gateway") else "http"
    console.print(f"  web   {scheme}://{addresses.http}/#token={token}", highlight=False, soft_wrap=True)
    console.print("Ctrl-C stops it.")
    await stopped
    console.print("stopping ...")
    await supervisor.stop()
    console.print("stopped")


def status(data: DataOption = None, json: JsonOption = False) -> None:
    """Show health, version and address of each service."""
    with connect(data_dir=data) as client:
        services: list[ServiceStatus] = client.platform.status()
    show_list(services, ("service", "health", "version", "address"), json, "no services")
    wrong = [item.service for item in services if item.health != "serving"]
    if wrong:
        raise Unavailable(
            "NOT_SERVING", f"not serving: {', '.join(wrong)}; their logs are in the data folder"
        )


def collect_garbage(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Remove objects from the storage that nothing refers to; administrators only."""
    with connect(data_dir=data) as client:
        found = client.platform.collect_garbage(dry_run=dry_run)
    if json:
        show(found, True)
        return
    for prefix in found.prefixes:
        console.print(prefix, highlight=False, soft_wrap=True)
    what = "would be removed" if dry_run else "removed"
    console.print(f"{found.objects} objects, {found.size_bytes / 1e6:.1f} MB {what}", highlight=False)


keys = typer.Typer(no_args_is_help=True, help="Signing keys of the services.")


@keys.command("generate")
def generate_keys(
    folder: Annotated[Path, typer.Argument(help="Where to write them; existing ones are kept.")],
) -> None:
    """Make a signing key (.key, secret) and a public key (.pub) for each service."""
    for service in SERVICES:
        generate_key(service, folder)
        console.print(f"{folder / service}.key  {folder / service}.pub", highlight=False, soft_wrap=True)
