"""`biosegment`: the command line."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

import biosegment
from biosegment.cli import (
    audit,
    backup,
    draft,
    instance_edit,
    instances,
    job,
    label,
    login,
    objects,
    platform,
    pool,
    progress,
    project,
    room,
    sample,
    segment,
    user,
)
from biosegment.cli.output import notes
from biosegment.errors import BiosegmentError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Active-learning segmentation of volume electron microscopy.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(biosegment.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


app.command("up")(platform.up)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("status")(platform.status)
app.command("gc")(platform.collect_garbage)
app.command("train")(job.train)
app.command("pretrain")(job.pretrain)
app.command("predict")(job.predict)
app.command("export")(job.export)
app.command("segment")(segment.segment)
app.command("instances")(instances.find_instances)
app.command("objects")(objects.measure_objects)
app.command("restore")(backup.restore)
project.project.command("progress")(progress.show_progress)
project.volume.command("import-labels")(label.import_labels)
app.add_typer(project.project, name="project")
app.add_typer(project.volume, name="volume")
sample.sample.add_typer(room.review, name="review")
sample.sample.command("pool")(pool.show_pool)
sample.sample.command("configure")(pool.configure_pool)
app.add_typer(sample.sample, name="sample")
app.add_typer(sample.annotation, name="annotation")
app.add_typer(draft.draft, name="draft")
app.add_typer(instance_edit.instance, name="instance")
app.add_typer(job.model, name="model")
app.add_typer(job.job, name="job")
app.add_typer(user.user, name="user")
app.add_typer(user.token, name="token")
app.add_typer(audit.audit, name="audit")
app.add_typer(platform.keys, name="keys")
app.add_typer(backup.backup, name="backup")


def main() -> None:
    """Run the command line; errors become one line on standard error and exit status 1."""
    try:
        app()
    except BiosegmentError as error:
        if "--json" in sys.argv:
            print(json.dumps({"reason": error.reason, "message": error.message}), file=sys.stderr)
        else:
            notes.print(f"error: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
