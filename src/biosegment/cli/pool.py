"""How the samples of a project are chosen, and when it trains."""

from __future__ import annotations

from typing import Annotated

import typer

from biosegment.cli.argument import ProjectOption, parse_region, project_name, volume_name
from biosegment.cli.output import JsonOption, show
from biosegment.client import connect
from biosegment.client.resources import Pool
from biosegment.errors import InvalidArgument
from biosegment.volume import Region


def show_settings(found: Pool, as_json: bool) -> None:
    """Print how a pool chooses and when it trains, with units and also what is left at its default."""
    if as_json:
        show(found, True)
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.strategies)
    if found.manual_training:
        training = "only when asked to"
    else:
        training = f"after {found.train_after_annotations} new annotations"
        if found.train_after_idle_s:
            training += f", or on fewer after {found.train_after_idle_s / 60:g} min without a further one"
    lines = {
        "strategies": shares,
        "volumes": ", ".join(found.volumes) or "all of the project",
        "never proposed": ", ".join(f"{volume} {region}" for volume, region in found.excluded),
        "samples": f"{found.sample_shape} voxels" if found.sample_shape else "",
        "slice distance": f"{found.slice_distance} slices, of samples that overlap in plane",
        "open candidates": f"{found.open_candidates:,}",
        "second annotator": f"{found.second_annotator_share:.0%} of the samples",
        "leases end": f"{found.lease_duration_s / 60:g} min after the last activity, "
        f"{found.heartbeat_timeout_s:g} s after the last heartbeat",
        "trains": training,
        "scored model": found.scored_model or "none yet",
        "latest model": found.latest_model or "none yet",
        "active job": found.active_job,
        "failure": found.failure,
        "seed": str(found.seed),
    }
    show(lines, False)


def show_pool(project_id: ProjectOption, json: JsonOption = False) -> None:
    """Show how samples are chosen."""
    with connect() as client:
        show_settings(client.samples.pool(project_name(project_id)), json)


def configure_pool(
    project_id: ProjectOption,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Strategy, or strategy=share; repeatable, shares sum to 1.")
    ] = None,
    train_after: Annotated[
        int | None, typer.Option(help="Train after so many new annotations; 0 for the default, 20.")
    ] = None,
    idle_minutes: Annotated[
        float | None,
        typer.Option(help="Also train on fewer after so many minutes without a further one; 0 for never."),
    ] = None,
    manual: Annotated[
        bool | None, typer.Option("--manual/--automatic", help="Train only when asked to.")
    ] = None,
    lease_minutes: Annotated[
        float | None, typer.Option(help="A lease ends so long after its holder last did something.")
    ] = None,
    heartbeat_timeout: Annotated[
        float | None,
        typer.Option(help="And so many seconds after the last heartbeat of a client that sends them."),
    ] = None,
    second_share: Annotated[
        float | None,
        typer.Option(help="Share of the samples that a second annotator gets, too, blind; 0 to 1."),
    ] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option(help="Only from this volume; repeatable. `all` for all of the project."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Never propose this part, VOLUME/z0:z1,y0:y1,x0:x1 in voxels of level 0; repeatable, in place of "
            "what was excluded before. `nothing` for no part."
        ),
    ] = None,
    sample_shape: Annotated[
        str, typer.Option(help="z,y,x in voxels of level 0, or `default`.", show_default=False)
    ] = "",
    slice_distance: Annotated[
        int | None, typer.Option(help="Least distance in slices of samples that overlap in plane; 0 for 4.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    json: JsonOption = False,
) -> None:
    """Change how samples are chosen and when to train."""
    with connect() as client:
        pool = client.samples.configure(
            project_name(project_id),
            strategies=_shares(strategy) if strategy else None,
            volumes=_volumes(volume, project_id) if volume else None,
            excluded=_excluded(exclude, project_id) if exclude else None,
            sample_shape=_shape(sample_shape) if sample_shape else None,
            slice_distance=slice_distance,
            seed=seed,
            train_after_annotations=train_after,
            train_after_idle_s=None if idle_minutes is None else 60 * idle_minutes,
            manual_training=manual,
            lease_duration_s=None if lease_minutes is None else 60 * lease_minutes,
            heartbeat_timeout_s=heartbeat_timeout,
            second_annotator_share=second_share,
        )
    show_settings(pool, json)


def _shares(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(share or 1) for name, _, share in (item.partition("=") for item in given)}
    except ValueError as error:
        raise InvalidArgument("BAD_SHARE", f"--strategy takes NAME or NAME=SHARE: {error}") from error


def _volumes(given: list[str], project_id: str) -> list[str]:
    return [] if given == ["all"] else [volume_name(each, project_id) for each in given]


def _excluded(given: list[str], project_id: str) -> list[tuple[str, Region]]:
    if given == ["nothing"]:
        return []
    parts = []
    for each in given:
        volume, _, text = each.rpartition("/")
        region = parse_region(text)
        if not volume or region is None:
            raise InvalidArgument(
                "BAD_REGION", f"--exclude takes VOLUME/z0:z1,y0:y1,x0:x1, or `nothing`; not {each!r}"
            )
        parts.append((volume_name(volume, project_id), region))
    return parts


def _shape(given: str) -> tuple[int, ...]:
    if given == "default":
        return ()
    try:
        z, y, x = (int(edge) for edge in given.split(","))
    except ValueError as error:
        raise InvalidArgument(
            "BAD_SAMPLE_SHAPE", f"--sample-shape takes z,y,x such as 1,128,128, or `default`; not {given!r}"
        ) from error
    return z, y, x
